use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as JsonResponse};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Problem;
use super::accept::etag_matches;
use super::deliver::Streamed;
use super::extract::{
    JobParam, JobPath, Json, ListParams, NoParams, Page, Params, PathWords, accepts, invalid, parse_job_id,
    path_text,
};
use super::observe::IsHead;
use super::receive::HeldPlace;
use crate::api::{self, Code};
use crate::app::App;
use crate::job::{EpochRecord, Job, JobHistory, JobId};
use crate::service::{Caller, IdempotencyKey, IdempotencyKeyError, record_bytes};
use crate::store::JobFilter;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Accepts a training job; 202 once it is on disk.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    operation_id = "create_job",
    tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[ -~]*$",
        description = "Makes it safe to repeat the request: if this client has used the key with the same body, the response is the job that the first request created.")),
    request_body(content = api::JobRequest, examples(
        ("defaults" = (summary = "MNIST with the defaults", value = json!({}))),
        ("preset" = (summary = "a preset with a name and fewer epochs", value = json!({"network": "lesson", "model": "first", "epochs": 3}))),
        ("layers" = (summary = "custom layers", value = json!({
            "network": {"layers": [{"type": "dense", "units": 128}, {"type": "tanh"}, {"type": "dense", "units": 10}]},
            "optimizer": {"type": "momentum", "learning_rate": 0.05}, "schedule": {"type": "cosine"}, "epochs": 3, "seed": 7
        }))),
        ("convolution" = (summary = "every kind of layer, and most other fields", value = json!({
            "model": "digits-conv", "dataset": "mnist", "loss": "cross_entropy", "label_smoothing": 0.05, "priority": 1,
            "network": {"layers": [
                {"type": "conv2d", "filters": 8, "kernel": 5, "padding": "same", "stride": 1, "init": "he"}, {"type": "batch_norm"},
                {"type": "relu"}, {"type": "max_pool2d", "size": 2}, {"type": "conv2d", "filters": 16, "kernel": 3}, {"type": "leaky_relu"},
                {"type": "avg_pool2d"}, {"type": "gelu"}, {"type": "flatten"}, {"type": "dropout", "rate": 0.3},
                {"type": "dense", "units": 32, "init": "xavier"}, {"type": "sigmoid"}, {"type": "dense", "units": 10, "init": "normal"}
            ]},
            "optimizer": {"type": "adamw", "learning_rate": 0.004, "betas": [0.9, 0.999], "weight_decay": 0.01},
            "schedule": {"type": "one_cycle", "warmup_epochs": 1, "pct_start": 0.3},
            "epochs": 10, "batch_size": 64, "validation_fraction": 0.1, "train_samples": 20000, "gradient_clip_norm": 1.0,
            "ema_decay": 0.99, "target_accuracy": 0.99, "early_stopping": {"patience": 2},
            "checkpoint": {"every_epochs": 2, "keep": 2},
            "augment": {"shift_pixels": 2, "rotate_degrees": 10, "elastic": {"alpha": 30}}
        })))
    )),
    responses((status = 202, description = "The job, or the one that the key has created.", body = api::Job,
        headers(("Location" = String, description = "The path of the job.")))),
    extensions(("x-codes" = json!([
        Code::InvalidIdempotencyKey, Code::IdempotencyKeyReused, Code::QueueFull, Code::ROWS
    ])))
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(&headers)?;
    let read = {
        let (service, caller) = (app.service().clone(), caller.clone());
        move |request: &Value| Ok(service.submission(&caller, request))
    };
    let submission = request.read(read).await?;
    let job = app.service().submit_job(&caller, submission, idempotency_key).await?;
    let location = format!("/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], JsonResponse(api::Job::from(job)))
        .into_response())
}

/// Returns the `Idempotency-Key` of a request, if it has one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidIdempotencyKey, detail);
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(invalid("more than one Idempotency-Key".to_owned()));
    }
    let key = key.to_str().map_err(|_| IdempotencyKeyError).and_then(str::parse);
    key.map(Some).map_err(|error| invalid(format!("Idempotency-Key {error}")))
}

/// The largest size of a job as a row and as JSON, in bytes. Jobs are bounded because their layers are
/// limited.
const JOB_BYTES: usize = 32 << 10;

/// Query of [`list`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsParams {
    /// Only jobs in this state.
    #[param(inline)]
    state: Option<api::JobState>,
    /// Only jobs that publish this model.
    model: Option<String>,
    /// Number of rows on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Lists jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    operation_id = "list_jobs",
    tag = "jobs",
    params(JobsParams),
    responses((status = 200, description = "A page of jobs.", body = api::JobList)),
    extensions(("x-codes" = json!([Code::RequestTooLarge, Code::ROWS])))
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<JobsParams>,
) -> Result<Response, Problem> {
    let page = Page::of(params.limit, params.cursor.as_deref())?;
    let filter = JobFilter { state: params.state.map(Into::into), model: params.model, before: page.cursor };
    let read = {
        let (app, caller, limit) = (app.clone(), caller.clone(), page.limit);
        async move {
            let (jobs, next) = app.service().jobs(&caller, &filter, limit).await?;
            let jobs = jobs.into_iter().map(Into::into).collect();
            Ok(JsonResponse(api::JobList { jobs, next_cursor: next.map(|id| id.to_string()) }))
        }
    };
    page.answer(&app, &caller, JOB_BYTES, read).await
}

/// Query of [`show`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowParams {
    /// How long to wait for the end of the job, in seconds; at most 60 by default.
    #[param(minimum = 0, default = 0)]
    wait_seconds: Option<f64>,
}

/// Shows a job; with `wait_seconds`, waits for its end.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    operation_id = "show_job",
    tag = "jobs",
    params(JobParam, ShowParams),
    responses((status = 200, description = "The job.", body = api::Job)),
    extensions(("x-codes" = json!([Code::JOB, Code::TooManyWaits, Code::ROWS])))
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    Extension(place): Extension<HeldPlace>,
    JobPath(id): JobPath,
    Params(params): Params<ShowParams>,
) -> Result<JsonResponse<api::Job>, Problem> {
    let longest = f64::from(app.config().limits.wait_seconds_max);
    let wait = params.wait_seconds.unwrap_or(0.0);
    if !(0.0..=longest).contains(&wait) {
        let detail = format!("wait_seconds must be from 0 to {longest}, not {wait}");
        return Err(invalid(detail));
    }
    let deadline = Instant::now() + Duration::from_secs_f64(wait);
    // A request that waits must not take the place of a working one.
    let job = app.service().ended_job(&caller, id, deadline, app.draining(), || place.leave()).await?;
    Ok(JsonResponse(job.into()))
}

/// Epochs per page by default. Most jobs fit on one page.
const EPOCHS_SHOWN: u32 = 200;

/// Bytes for each epoch of the job's metrics. The findings need all epochs.
const COURSE_BYTES: usize = 256;

/// Shows the metrics of each epoch, as JSON or CSV, and findings about them.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/metrics",
    operation_id = "job_metrics",
    tag = "jobs",
    params(JobParam, ListParams),
    responses((status = 200, description = "A page of epochs, 200 by default.", content(
        (api::JobHistory = "application/json"), (String = "text/csv")
    ), headers(("Link" = Option<String>, description = "With CSV, the next page as `rel=\"next\"`.")))),
    extensions(("x-codes" = json!([Code::JOB, Code::RequestTooLarge, Code::ROWS])))
)]
pub async fn metrics(
    State(app): State<App>,
    caller: Caller,
    Extension(place): Extension<HeldPlace>,
    JobPath(id): JobPath,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let page: Page<u32> = params.page_or(EPOCHS_SHOWN)?;
    let job = app.service().job(&caller, id).await?;
    place.leave();
    let row_bytes = record_bytes(&job) + job.progress.epoch as usize * COURSE_BYTES / page.limit as usize;
    let wants_csv = accepts(&headers, "text/csv");
    let read = {
        let (app, caller) = (app.clone(), caller.clone());
        async move { course(&app, &caller, job, page, wants_csv).await }
    };
    page.answer(&app, &caller, row_bytes, read).await
}

/// Returns a page of the metrics of a job.
async fn course(
    app: &App,
    caller: &Caller,
    job: Job,
    page: Page<u32>,
    wants_csv: bool,
) -> Result<Response, Problem> {
    let (id, limit) = (job.id, page.limit);
    let (history, next) = app.service().course_page(caller, &job, page.cursor.unwrap_or(0), limit).await?;
    if wants_csv {
        let csv = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&history.epochs));
        // The next page has the same limit: <https://www.rfc-editor.org/rfc/rfc8288>.
        let link = |next| format!("</v1/jobs/{id}/metrics?limit={limit}&cursor={next}>; rel=\"next\"");
        return Ok(match next {
            Some(next) => ([(header::LINK, link(next))], csv).into_response(),
            None => csv.into_response(),
        });
    }
    let findings = app.service().findings(caller, &job).await?;
    let JobHistory { epochs, steps } = history;
    let history = api::JobHistory {
        epochs: epochs.into_iter().map(Into::into).collect(),
        steps: steps.into_iter().map(Into::into).collect(),
        next_cursor: next.map(|epoch| epoch.to_string()),
        findings: findings.into_iter().map(Into::into).collect(),
    };
    Ok(JsonResponse(history).into_response())
}

/// Formats epochs as CSV (RFC 4180). A missing value is an empty field.
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

/// Cancels a job that has not ended.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    operation_id = "cancel_job",
    tag = "jobs",
    params(JobParam),
    responses((status = 202, description = "The job.", body = api::Job)),
    extensions(("x-codes" = json!([Code::JOB, Code::JobEnded, Code::ROWS])))
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<(StatusCode, JsonResponse<api::Job>), Problem> {
    Ok((StatusCode::ACCEPTED, JsonResponse(app.service().cancel_job(&caller, id).await?.into())))
}

/// Puts a failed or cancelled job back in the queue.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/resume",
    operation_id = "resume_job",
    tag = "jobs",
    params(JobParam),
    responses((status = 202, description = "The job.", body = api::Job)),
    extensions(("x-codes" = json!([Code::JOB, Code::JobNotStopped, Code::InitialModelGone, Code::QueueFull, Code::ROWS])))
)]
pub async fn resume(
    State(app): State<App>,
    caller: Caller,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<(StatusCode, JsonResponse<api::Job>), Problem> {
    Ok((StatusCode::ACCEPTED, JsonResponse(app.service().resume_job(&caller, id).await?.into())))
}

/// Deletes an ended job and its checkpoints; its model stays.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    operation_id = "delete_job",
    tag = "jobs",
    params(JobParam),
    responses((status = 204, description = "The job is deleted.")),
    extensions(("x-codes" = json!([Code::JOB, Code::JobNotEnded, Code::ROWS])))
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, Problem> {
    app.service().delete_job(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the checkpoints of a job, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/checkpoints",
    operation_id = "list_checkpoints",
    tag = "jobs",
    params(JobParam),
    responses((status = 200, description = "The checkpoints.", body = api::CheckpointList)),
    extensions(("x-codes" = json!([Code::JOB, Code::ROWS])))
)]
pub async fn checkpoints(
    State(app): State<App>,
    caller: Caller,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<JsonResponse<api::CheckpointList>, Problem> {
    let checkpoints = app.service().checkpoints(&caller, id).await?.into_iter().map(Into::into).collect();
    Ok(JsonResponse(api::CheckpointList { checkpoints }))
}

/// Downloads a checkpoint as safetensors.
///
/// The file is the newest checkpoint that was made during this epoch or at its end.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/checkpoints/{epoch}",
    operation_id = "show_checkpoint",
    tag = "jobs",
    params(JobParam, ("epoch" = u32, Path, description = "An epoch in the list of `GET /v1/jobs/{id}/checkpoints`.")),
    responses((status = 200, description = "The file; `ETag` is its SHA-256.", content((Vec<u8> = "application/octet-stream")))),
    extensions(("x-codes" = json!([Code::JOB, Code::UnknownCheckpoint, Code::CheckpointDamaged, Code::ROWS])))
)]
pub async fn checkpoint(
    State(app): State<App>,
    caller: Caller,
    is_head: Option<Extension<IsHead>>,
    headers: HeaderMap,
    PathWords((id, epoch)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Problem> {
    let id: JobId = parse_job_id(&id)?;
    let found = app.service().checkpoint(&caller, id, &path_text(&epoch)).await?;
    let blob = found.blob();
    let tag = format!("\"{}\"", blob.sha256);
    if etag_matches(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let name = format!("{id}-{}.safetensors", found.epoch());
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CONTENT_LENGTH, blob.size_bytes.to_string()),
        (header::ETAG, tag),
    ];
    if is_head.is_some() {
        return Ok((head, Extension(Streamed), Body::empty()).into_response());
    }
    let bytes = app.service().checkpoint_bytes(&caller, &found).await?;
    Ok((head, Extension(Streamed), Body::from_stream(bytes)).into_response())
}
