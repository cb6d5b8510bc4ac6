use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::Problem;
pub use super::accept::{accepts, asked_for};
pub use super::path::{JobPath, ModelPath, PathWords, parse_job_id, path_text};
pub use super::query::{ListParams, NoParams, Page, Params};
use crate::app::App;

/// The whole body, within the limits of size and time; it counts as held for as long as this lives.
pub struct Body {
    /// The body.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl FromRequest<App> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        read(request, app, app.config().limits.body_bytes_max).await
    }
}

/// Bytes that the head of a request announces.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Room for the body of a request, which may be as large as it announces, or as `bytes_max`.
///
/// # Errors
/// 413 where it announces more, 503 where others hold the room.
pub fn room(headers: &HeaderMap, app: &App, bytes_max: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = announced(headers).unwrap_or(bytes_max as u64);
    let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= bytes_max);
    let bytes = bytes.ok_or_else(|| too_large(bytes_max))?;
    app.body_permit(bytes)
        .ok_or_else(|| Problem::busy("too_many_bytes", "too many bytes of other requests are held already"))
}

/// The body of a request, of `bytes_max` at most; one that announces more is not waited for.
async fn read(mut request: Request, app: &App, bytes_max: usize) -> Result<Body, Problem> {
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) {
        let detail = format!("Content-Encoding {encoding:?} is not taken; send the body as it is");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", detail));
    }
    let room = room(request.headers(), app, bytes_max)?;
    DefaultBodyLimit::max(bytes_max).apply(&mut request);
    let bytes = within(app.config().limits.body_timeout_seconds, Bytes::from_request(request, app)).await?;
    let bytes = bytes.map_err(|rejection| body_problem(&rejection, bytes_max))?;
    Ok(Body { bytes, _room: room })
}

/// What `body` comes to, unless it takes too long.
pub async fn within<T>(seconds: u32, body: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(Duration::from_secs(u64::from(seconds)), body).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the body did not arrive within {seconds} seconds"),
        )
    })
}

fn body_problem(rejection: &BytesRejection, body_bytes_max: usize) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(body_bytes_max);
    }
    Problem::malformed("unreadable_body", rejection.body_text())
}

/// 413 for a body over the limit.
pub fn too_large(body_bytes_max: usize) -> Problem {
    let detail = format!("the body is larger than {body_bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// A request that says in JSON what to do: small, beside images.
pub struct Json(pub Value);

impl FromRequest<App> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let media_type = media_type(request.headers());
        if media_type.as_deref() != Some("application/json") {
            return Err(unsupported_media_type(media_type.as_deref(), &["application/json"]));
        }
        let body = read(request, app, app.config().limits.job_request_bytes_max).await?;
        let bytes = &body.bytes;
        if bytes.is_empty() {
            return Err(Problem::malformed(
                "empty_body",
                "the body is empty; send a JSON object, {} at least",
            ));
        }
        serde_json::from_slice(bytes).map(Self).map_err(|error| invalid_json(&error))
    }
}

/// 400 for a body that is not JSON.
pub fn invalid_json(error: &serde_json::Error) -> Problem {
    Problem::malformed("invalid_json", format!("the body is not JSON: {error}"))
}

/// The media type of a body, in lower case and without parameters.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

/// 415 with what would have been taken.
pub fn unsupported_media_type(found: Option<&str>, expected: &[&str]) -> Problem {
    let found = found.map_or_else(|| "no Content-Type".to_owned(), |found| format!("Content-Type {found}"));
    let detail = format!("{found}; send {}", expected.join(", "));
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}
