use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Problem;
use super::extract::{JobPath, Json, NoParams, Page, Params, accepts};
use crate::app::App;
use crate::blobs::digest;
use crate::data;
use crate::fields::Fault;
use crate::job::{EpochRecord, Job, JobHistory, JobId, JobState, Progress};
use crate::lab::{self, Finding};
use crate::model::{ModelRef, ModelRefError};
use crate::nn::fitting_layers;
use crate::store::{Cancelled, Inserted, JobFilter, NewJob};
use crate::train::{self, EpochMetrics, INPUT, TrainSpec};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest `Idempotency-Key`, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// `POST /v1/jobs`
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json,
) -> Result<Response, Problem> {
    let idempotency_key = headers.get(IDEMPOTENCY_KEY).map(idempotency_key).transpose()?;
    let shapes = data::shapes();
    let mut spec = train::parse(&request, &shapes, &app.config().limits.spec()).map_err(Problem::invalid)?;
    let request_sha256 = digest(request.to_string().as_bytes());
    if let Some(key) = &idempotency_key
        && let Some(repeated) = app.store().by_key(key, &request_sha256).await?
    {
        return answer(&app, repeated);
    }
    if let Some(reference) = &spec.initial_model {
        spec.initial_model = Some(initial_model(&app, reference, &spec)?);
    }
    let examples = shapes.iter().find(|shape| shape.name == spec.dataset).map_or(0, |shape| shape.train);
    let job = NewJob {
        progress: Progress {
            epochs: spec.epochs,
            steps: spec.steps_per_epoch(examples) as u64 * u64::from(spec.epochs),
            ..Progress::default()
        },
        spec,
        idempotency_key,
        request_sha256,
    };
    answer(&app, app.store().insert_job(&job, app.config().limits.queue_max).await?)
}

fn answer(app: &App, inserted: Inserted) -> Result<Response, Problem> {
    match inserted {
        Inserted::Accepted(job) | Inserted::Repeated(job) => {
            let location = format!("/v1/jobs/{}", job.id);
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], JsonResponse(job)).into_response())
        }
        Inserted::OtherRequest => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key came before with another body",
        )),
        Inserted::QueueFull => Err(Problem::busy(
            "queue_full",
            format!("{} jobs wait already; try again later", app.config().limits.queue_max),
        )),
    }
}

/// The model that `reference` means now, as `name@version`: what a job starts from must not change.
fn initial_model(app: &App, reference: &str, spec: &TrainSpec) -> Result<String, Problem> {
    let invalid = |detail| Problem::invalid(vec![Fault { pointer: "/initial_model".to_owned(), detail }]);
    let reference: ModelRef = reference.parse().map_err(|error: ModelRefError| invalid(error.to_string()))?;
    let version = app.registry().version(&reference).map_err(|error| invalid(error.to_string()))?;
    let name = format!("{}@{}", reference.name, version.version);
    let fitting = fitting_layers(INPUT, &spec.network.layers, &version.layers);
    if fitting.map_err(|error| invalid(error.to_string()))? == 0 {
        let detail =
            format!("no layer of {name} fits this network: none has the place, kind and shape of another");
        return Err(invalid(detail));
    }
    Ok(name)
}

fn idempotency_key(value: &HeaderValue) -> Result<String, Problem> {
    let is_visible = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    let key = key.filter(is_visible);
    key.map(str::to_owned).ok_or_else(|| {
        let detail = format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible ASCII characters");
        Problem::malformed("invalid_idempotency_key", detail)
    })
}

/// Query of [`list`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    state: Option<JobState>,
    model: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A list of jobs, newest first.
#[derive(Serialize)]
pub struct JobList {
    jobs: Vec<Job>,
    next_cursor: Option<JobId>,
}

/// `GET /v1/jobs`
pub async fn list(
    State(app): State<App>,
    Params(params): Params<ListParams>,
) -> Result<JsonResponse<JobList>, Problem> {
    let page = Page::of(params.limit, params.cursor.as_deref())?;
    let filter = JobFilter { state: params.state, model: params.model, before: page.cursor };
    let mut jobs = app.store().jobs(&filter, page.limit + 1).await?;
    let has_more = jobs.len() > page.limit as usize;
    jobs.truncate(page.limit as usize);
    let next_cursor = if has_more { jobs.last().map(|job| job.id) } else { None };
    Ok(JsonResponse(JobList { jobs, next_cursor }))
}

/// Query of [`show`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowParams {
    wait_seconds: Option<f64>,
}

/// `GET /v1/jobs/{id}`
pub async fn show(
    State(app): State<App>,
    JobPath(id): JobPath,
    Params(params): Params<ShowParams>,
) -> Result<JsonResponse<Job>, Problem> {
    let longest = f64::from(app.config().limits.wait_seconds_max);
    let wait = params.wait_seconds.unwrap_or(0.0);
    if !(0.0..=longest).contains(&wait) {
        let detail = format!("wait_seconds must be from 0 to {longest}, not {wait}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail));
    }
    let deadline = Instant::now() + Duration::from_secs_f64(wait);
    let mut changes = app.store().changes();
    loop {
        let job = job(&app, id).await?;
        if job.state.is_ended() || Instant::now() >= deadline || app.draining().is_cancelled() {
            return Ok(JsonResponse(job));
        }
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = app.draining().cancelled() => {}
            () = changed(&mut changes, id) => {}
        }
    }
}

/// Waits until `id`, or something that was missed, has changed.
pub async fn changed(changes: &mut tokio::sync::broadcast::Receiver<JobId>, id: JobId) {
    while let Ok(other) = changes.recv().await {
        if other == id {
            return;
        }
    }
}

/// The job called `id`, or 404.
pub async fn job(app: &App, id: JobId) -> Result<Job, Problem> {
    let job = app.store().job(id).await?;
    job.ok_or_else(|| Problem::not_found("unknown_job", format!("there is no job {id}")))
}

/// The course of a job, and what a teacher would say on seeing it.
#[derive(Serialize)]
pub struct Metrics {
    #[serde(flatten)]
    history: JobHistory,
    findings: Vec<Finding>,
}

/// `GET /v1/jobs/{id}/metrics`
pub async fn metrics(
    State(app): State<App>,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = job(&app, id).await?;
    if accepts(&headers, "text/csv") {
        let epochs = app.store().epochs(id, 0, u32::MAX).await?;
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&epochs)).into_response());
    }
    let history: JobHistory = app.store().history(id).await?;
    let epochs: Vec<&EpochMetrics> = history.epochs.iter().map(|epoch| &epoch.metrics).collect();
    let has_diverged = job.error.is_some_and(|error| error.code == "diverged");
    let shapes = data::shapes();
    let examples = shapes.iter().find(|shape| shape.name == job.spec.dataset).map_or(0, |shape| shape.train);
    let validation = job.spec.validation_samples(examples);
    let findings = lab::findings(&job.spec, validation, &epochs, has_diverged);
    Ok(JsonResponse(Metrics { history, findings }).into_response())
}

/// The epochs as RFC 4180 has it; an absent figure is an empty field.
fn csv(epochs: &[EpochRecord]) -> String {
    let mut text = String::from(
        "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,learning_rate,\
         images_per_second,duration_seconds\r\n",
    );
    for EpochRecord { metrics, images_per_second, duration_seconds } in epochs {
        let optional = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let fields = [
            metrics.epoch.to_string(),
            metrics.train_loss.to_string(),
            metrics.train_accuracy.to_string(),
            optional(metrics.validation_loss),
            optional(metrics.validation_accuracy),
            metrics.learning_rate.to_string(),
            images_per_second.to_string(),
            duration_seconds.to_string(),
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

/// `POST /v1/jobs/{id}/cancel`
pub async fn cancel(State(app): State<App>, JobPath(id): JobPath) -> Result<Response, Problem> {
    match app.store().cancel(id).await? {
        Cancelled::Accepted(job) => Ok((StatusCode::ACCEPTED, JsonResponse(job)).into_response()),
        Cancelled::Ended(job) => Err(Problem::new(
            StatusCode::CONFLICT,
            "job_ended",
            format!("job {id} has {} already", job.state),
        )),
        Cancelled::Unknown => Err(Problem::not_found("unknown_job", format!("there is no job {id}"))),
    }
}
