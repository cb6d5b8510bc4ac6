//! Words: the routes, what they take, what they answer. The only room that knows axum.

#[allow(dead_code)]
mod accept;
mod connections;
mod datasets;
mod events;
mod extract;
mod images;
mod inside;
mod jobs;
mod lab;
mod models;
mod networks;
mod operating;
mod path;
mod predict;
mod problem;
mod query;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

pub use connections::serve;
pub use predict::{Prediction, Predictions};
pub use problem::Problem;

use crate::app::App;

/// Routes that whoever runs the server asks, and that must answer when others are refused.
const UNLIMITED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

const REQUEST_ID: &str = "x-request-id";

/// Longest request id that is taken from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Every route.
pub fn router(app: App) -> Router {
    let carried = |handlers: MethodRouter<App>| handlers.layer(from_fn_with_state(app.clone(), to_its_end));
    Router::new()
        .route("/v1/jobs", post(jobs::create).get(jobs::list))
        .route("/v1/jobs/{id}", carried(delete(jobs::delete)).get(jobs::show))
        .route("/v1/jobs/{id}/metrics", get(jobs::metrics))
        .route("/v1/jobs/{id}/events", get(events::events))
        .route("/v1/jobs/{id}/cancel", carried(post(jobs::cancel)))
        .route("/v1/jobs/{id}/resume", carried(post(jobs::resume)))
        .route("/v1/jobs/{id}/checkpoints", get(jobs::checkpoints))
        .route("/v1/jobs/{id}/checkpoints/{epoch}", get(jobs::checkpoint))
        .route("/v1/networks", get(networks::list))
        .route("/v1/networks/summary", post(networks::summary))
        .route("/v1/gradient-check", post(networks::gradient_check))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{ref}", carried(delete(models::delete)).get(models::show))
        .route(
            "/v1/models/{ref}/aliases/{alias}",
            carried(put(models::set_alias).delete(models::delete_alias)),
        )
        .route("/v1/models/{ref}/predict", post(predict::predict))
        .route("/v1/models/{ref}/explain", post(inside::explain))
        .route("/v1/models/{ref}/trace", post(inside::trace))
        .route("/v1/models/{ref}/microscope", post(inside::microscope))
        .route("/v1/models/{ref}/layers/{name}/weights", get(inside::weights))
        .route("/v1/datasets", get(datasets::list))
        .route("/v1/datasets/{name}", get(datasets::show))
        .route("/v1/datasets/{name}/{split}/{index}", get(datasets::example))
        .route("/v1/graph", post(lab::graph))
        .route("/v1/affine", post(lab::affine))
        .route("/v1/convolution", post(lab::convolution))
        .route("/v1/softmax-cross-entropy", post(lab::softmax_cross_entropy))
        .route("/v1/activations", get(lab::activations))
        .route("/v1/activations/{name}", get(lab::activation))
        .route("/healthz", get(operating::healthz))
        .route("/readyz", get(operating::readyz))
        .route("/metrics", get(operating::metrics))
        .route("/", get(operating::page))
        .fallback(operating::not_found)
        .method_not_allowed_fallback(operating::method_not_allowed)
        .layer(DefaultBodyLimit::max(app.config().limits.body_bytes_max))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Carries a request to its end though its client hangs up: what is in memory, and who waits, must follow what was
/// committed. A job that is posted needs none of this: the store carries it.
async fn to_its_end(State(app): State<App>, request: Request, next: Next) -> Response {
    let answering = next.run(request).instrument(tracing::Span::current());
    match app.tasks().spawn(answering).await {
        Ok(response) => response,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Problem::internal().into_response(),
    }
}

/// Gives a request its id, refuses it where too many are under way, and logs, counts and completes
/// the answer. Panics become a 500.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(256).collect();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();

    let permit = app.request_permit();
    let response = if permit.is_none() && !UNLIMITED.contains(&route.as_str()) {
        Problem::busy("too_many_requests", "too many requests are under way").into_response()
    } else {
        let span = tracing::info_span!("request", request_id = %id);
        let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span);
        answered.await.unwrap_or_else(|_| {
            tracing::error!(request_id = %id, %method, path, "a handler panicked");
            Problem::internal().into_response()
        })
    };
    drop(permit);
    let mut response = complete(response, &id);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    app.metrics().request(known_method(&method), &route, status, elapsed);
    tracing::info!(request_id = %id, %method, path, status, elapsed_seconds = elapsed.as_secs_f64(), "request");
    response
}

/// Writes the body of a problem, which needs the request's id.
fn complete(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allow = response.headers().get(header::ALLOW).cloned();
        return problem.with_allow(allow).into_response_for(id);
    }
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large")
            .into_response_for(id);
    }
    response
}

/// The client's id, where it can stand in a log line, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(is_plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The method as a label: any client can invent one.
fn known_method(method: &axum::http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

/// Runs `work` where it holds up nobody's request.
///
/// # Errors
/// Those of `work`, or 500 where it panics.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "work for a request panicked");
        Err(Problem::internal())
    })
}
