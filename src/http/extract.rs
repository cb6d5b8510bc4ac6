use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::Problem;
use crate::app::App;
use crate::job::JobId;
use crate::model::ModelRef;

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

/// Of some media types that an answer comes in besides JSON, the one that the client asks for by name with the most
/// weight, and with no less than JSON (RFC 9110, section 12.5.1); the first of equals.
pub fn asked_for<'a>(headers: &HeaderMap, media_types: &[&'a str]) -> Option<&'a str> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let weight_of = |wanted: &str| {
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_wanted = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            is_wanted.then(|| weight.map_or(Some(1.0), |weight| weight.parse().ok()).unwrap_or(0.0))
        })
    };
    let mut best = (weight_of("application/json").unwrap_or(0.0f64).max(f64::MIN_POSITIVE), None);
    for media_type in media_types.iter().rev() {
        let weight: f64 = weight_of(media_type).unwrap_or(0.0);
        if weight >= best.0 {
            best = (weight, Some(*media_type));
        }
    }
    best.1
}

/// Whether the client asks for `media_type` rather than for JSON, see [`asked_for`].
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    asked_for(headers, &[media_type]).is_some()
}

/// What a path without parameters of its own is asked: nothing.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Parameters of the query.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, app).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| {
            let detail = rejection.body_text();
            let detail = detail.strip_prefix("Failed to deserialize query string: ").unwrap_or(&detail);
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", format!("query: {detail}"))
        })
    }
}

/// The id of a job, in the path.
pub struct JobPath(pub JobId);

impl FromRequestParts<App> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(text): Path<String> =
            Path::from_request_parts(parts, app).await.map_err(|rejection| path_problem(&rejection))?;
        parse_job_id(&text).map(Self)
    }
}

/// The id of a job.
///
/// # Errors
/// 400 where it is none.
pub fn parse_job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| {
        let shown = path_text(text);
        Problem::malformed("invalid_job_id", format!("{shown:?} is no job id; it must be a UUID"))
    })
}

/// A model reference, in the path.
pub struct ModelPath(pub ModelRef);

impl FromRequestParts<App> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(text): Path<String> =
            Path::from_request_parts(parts, app).await.map_err(|rejection| path_problem(&rejection))?;
        Ok(Self(text.parse()?))
    }
}

/// A word of the path, to be repeated to its client.
pub fn path_text(text: &str) -> String {
    text.chars().take(64).collect()
}

/// 400 for a path that can't be read.
pub fn path_problem(rejection: &PathRejection) -> Problem {
    Problem::malformed("invalid_path", rejection.body_text())
}

/// Query of a list that has no filter.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl ListParams {
    /// The page asked for; the cursor is a name.
    ///
    /// # Errors
    /// Where there is no such page.
    pub fn page(&self) -> Result<Page<String>, Problem> {
        Page::of(self.limit, self.cursor.as_deref())
    }
}

/// How many rows a list answers with, and after which.
#[derive(Clone, Copy, Debug)]
pub struct Page<C> {
    /// Rows.
    pub limit: u32,
    /// The row to go on behind.
    pub cursor: Option<C>,
}

impl<C: std::str::FromStr> Page<C> {
    /// The page that `limit` and `cursor` ask for.
    ///
    /// # Errors
    /// Where one can't be.
    pub fn of(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, Problem> {
        let invalid = |detail| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail);
        let limit = limit.unwrap_or(50);
        if !(1..=200).contains(&limit) {
            return Err(invalid(format!("limit must be from 1 to 200, not {limit}")));
        }
        let cursor = cursor.map(|cursor| {
            cursor.parse().map_err(|_| invalid("cursor is none of a list's next_cursor".to_owned()))
        });
        Ok(Self { limit, cursor: cursor.transpose()? })
    }
}
