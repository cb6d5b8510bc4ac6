use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};

use super::accept::preferred;
use super::{Problem, openapi};
use crate::api::{self, Code};
use crate::app::{App, Unready};
use crate::job::JobState;
use crate::service::Caller;
use crate::store::JobFilter;
use crate::telemetry::MetricsFormat;

/// Jobs on the page: the running ones first, then the newest.
const JOBS_SHOWN: u32 = 10;

/// Models on the page: those published last.
const MODELS_SHOWN: usize = 50;

/// The page runs no scripts and loads no resources.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const OPENMETRICS: &str = "application/openmetrics-text";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Answers if the server is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "health",
    tag = "operating",
    responses((status = 200, description = "The server is alive.", body = api::Health))
)]
pub async fn healthz() -> Json<api::Health> {
    Json(api::Health { status: "ok", version: VERSION })
}

/// Reports whether the server is ready for work.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "ready",
    tag = "operating",
    responses((status = 200, description = "The server is ready.", body = api::Ready)),
    extensions(("x-codes" = json!([Code::Draining, Code::Database, Code::Disk, Code::Queue, Code::Predictions])))
)]
pub async fn readyz(State(app): State<App>) -> Result<Json<api::Ready>, Problem> {
    readiness(&app).await?;
    Ok(Json(api::Ready { status: "ok", version: VERSION, warning: app.config().exposure() }))
}

/// Checks whether the server is ready for work.
///
/// # Errors
/// Returns 503 with the reason why it is not.
pub async fn readiness(app: &App) -> Result<(), Problem> {
    let (code, detail) = match app.ready().await {
        Ok(()) => return Ok(()),
        Err(Unready::Draining) => (Code::Draining, "the server is stopping"),
        Err(Unready::Database) => (Code::Database, "the database does not answer"),
        Err(Unready::Disk) => (Code::Disk, "the data folder can't be written"),
        Err(Unready::Space) => (Code::Disk, "the data folder has less free space than --min-free-bytes"),
        Err(Unready::Queue) => (Code::Queue, "the queue is full"),
        Err(Unready::Predictions) => (Code::Predictions, "predictions are refused: there is too much to do"),
    };
    Err(Problem::new(code, detail))
}

/// Shows metrics for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operating",
    responses((status = 200, description = "The metrics, in the Prometheus text format unless `Accept` prefers OpenMetrics.", content(
        (String = "text/plain"), (String = "application/openmetrics-text")
    ))),
    extensions(("x-codes" = json!([Code::TooManyBytes, Code::ROWS])))
)]
pub async fn metrics(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (format, content_type) = match preferred(&headers, "text/plain", &[OPENMETRICS]) {
        OPENMETRICS => {
            (MetricsFormat::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        }
        _ => (MetricsFormat::Prometheus, "text/plain; version=0.0.4; charset=utf-8"),
    };
    let text = app.service().metrics(&caller, format).await?;
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// Describes every route (OpenAPI 3.1).
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "operating",
    responses((status = 200, description = "This document.", content((serde_json::Value = "application/json"))))
)]
pub async fn openapi(headers: HeaderMap) -> Response {
    openapi::answer(&headers)
}

/// Shows a page with jobs and models.
///
/// It has curl commands for this server.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "page",
    tag = "operating",
    responses((status = 200, description = "The page.", content((String = "text/html")))),
    extensions(("x-codes" = json!([Code::LaneFull, Code::TooManyBytes, Code::ROWS])))
)]
pub async fn page(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Result<Response, Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
    let running = JobFilter { state: Some(JobState::Running), ..JobFilter::default() };
    let (mut jobs, _) = app.service().jobs(&caller, &running, JOBS_SHOWN).await?;
    let (newest, _) = app.service().jobs(&caller, &JobFilter::default(), JOBS_SHOWN).await?;
    jobs.extend(newest.into_iter().filter(|job| job.state != JobState::Running));
    jobs.truncate(JOBS_SHOWN as usize);
    let (models, _) = app.service().models(&caller, None, MODELS_SHOWN);
    let percent =
        |part: Option<f64>| part.map_or_else(|| "–".to_owned(), |part| format!("{:.2} %", part * 100.0));
    let job_rows: String = jobs
        .iter()
        .map(|job| {
            let accuracy = job.metrics.as_ref().and_then(|m| m.test_accuracy.or(m.validation_accuracy));
            format!(
                "<tr><td><a href=\"/v1/jobs/{id}\">{id}</a><td>{model}<td>{state}<td>{percent:.0} %<td>{accuracy}\n",
                id = job.id,
                model = escape(&job.model),
                state = job.state,
                percent = job.progress.fraction * 100.0,
                accuracy = percent(accuracy),
            )
        })
        .collect();
    let model_rows: String = models
        .iter()
        .filter_map(|model| {
            let newest = model.versions.first()?;
            Some(format!(
                "<tr><td><a href=\"/v1/models/{name}\">{name}</a><td>{version}<td>{parameters}<td>{accuracy}\n",
                name = escape(&model.name),
                version = newest.version,
                parameters = newest.parameters,
                accuracy = percent(newest.test_accuracy),
            ))
        })
        .collect();
    let page = Html(format!(
        include_str!("page.html"),
        version = VERSION,
        host = escape(host),
        model = models.first().map_or_else(|| "digits".to_owned(), |model| escape(&model.name)),
        jobs = if job_rows.is_empty() { "<tr><td colspan=5>none yet\n".to_owned() } else { job_rows },
        models = if model_rows.is_empty() { "<tr><td colspan=4>none yet\n".to_owned() } else { model_rows },
    ));
    Ok(([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], page).into_response())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The response for a path without a route.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    let path: String = uri.path().chars().take(128).collect();
    Problem::new(Code::UnknownPath, format!("there is nothing at {path}; GET / shows what there is"))
}

/// The response for a path that has a route, but not for this method.
pub async fn method_not_allowed(method: axum::http::Method) -> Problem {
    let detail = format!("{method} is not supported here; the Allow header lists the supported methods");
    Problem::new(Code::MethodNotAllowed, detail)
}
