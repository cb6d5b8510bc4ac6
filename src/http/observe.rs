//! The layer around every request: its id, access checks, log line and metrics.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::deliver::{CountBytes, Counted, Wants, deliver};
use super::guests::Busy;
use super::oip::is_of_protocol;
use super::receive::Client;
use super::{Problem, guard};
use crate::admission::Charge;
use crate::app::App;
use crate::telemetry::UnderWay;

const REQUEST_ID: &str = "x-request-id";

/// The longest request id that is accepted from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// How many characters of a path are logged.
const PATH_SHOWN: usize = 256;

/// Gives a request its id and checks whether it may be served. Logs, counts and completes the response. A
/// panic becomes a 500.
pub async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let client = Client::of(request.extensions());
    let busy = request.extensions().get::<Arc<Busy>>().cloned();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let uri = request.uri().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let wants = Wants::of(&method, uri.path(), request.headers());
    let is_inference = is_of_protocol(uri.path());
    let bytes_in = BytesIn::default();
    request.extensions_mut().insert(bytes_in.clone());
    let under_way = app.metrics().request_under_way();

    let allowed_hosts = &app.config().allowed_hosts;
    let may_ask = guard::check(&method, request.uri(), request.version(), request.headers(), allowed_hosts);
    let response = match may_ask {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            // The response to HEAD has the headers of GET. hyper leaves out the body.
            if method == Method::HEAD {
                *request.method_mut() = Method::GET;
                request.extensions_mut().insert(IsHead);
            }
            let span = tracing::info_span!("request", request_id = %id);
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span);
            answered.await.unwrap_or_else(|_| {
                tracing::error!(request_id = %id, %method, path = shown(&uri), "a handler panicked");
                Problem::internal().into_response()
            })
        }
    };
    let refusal = refusal(&response);
    let (response, charge) = deliver(&app, client.peer, &wants, named(response, &id, is_inference)).await;
    let refusal = refusal.or_else(|| self::refusal(&response));
    let mut response = named(response, &id, is_inference);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    let (now, route) = (Instant::now(), route.as_ref().map_or("none", MatchedPath::as_str));
    app.metrics().request(known_method(&method), route, status.as_u16(), now - started);
    let omitted = match refusal {
        Some(reason) => app.metrics().refused(reason).then_some(0),
        None => app.request_lines(!status.is_client_error() && !status.is_server_error()).admit(now),
    };
    let line = omitted.map(|omitted| Line {
        id,
        client: client.address,
        method,
        uri,
        status,
        refusal,
        omitted: (omitted > 0).then_some(omitted),
        bytes_in,
        bytes_out: 0,
        started,
    });
    let end = End { line, _held: (charge, busy, under_way) };
    response.map(|body| Body::new(Counted::new(body, end)))
}

/// Returns the code of a response that refuses a request, by its status. These refusals are counted. Other
/// errors, such as 400 or 422, are faults of the request itself and are not.
fn refusal(response: &Response) -> Option<&'static str> {
    let is_refusal = matches!(
        response.status(),
        StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE
    );
    is_refusal.then(|| response.extensions().get::<Problem>().map(|problem| problem.code().word())).flatten()
}

/// Writes the body of a problem, including the request's id.
fn named(mut response: Response, id: &str, is_inference: bool) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let allow = response.headers().get(header::ALLOW).cloned();
    let problem = problem.with_allow(allow);
    if is_inference { problem.into_inference_response_for(id) } else { problem.into_response_for(id) }
}

/// Marks a HEAD request. It is handled as GET, but its response gets no body.
#[derive(Clone, Copy)]
pub struct IsHead;

/// Counts the received bytes of a request's body.
#[derive(Clone, Default)]
pub struct BytesIn(Arc<AtomicU64>);

impl BytesIn {
    /// Adds `bytes` to the count.
    pub fn count(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The fields of a request's log line.
struct Line {
    id: String,
    client: IpAddr,
    method: Method,
    uri: Uri,
    status: StatusCode,
    refusal: Option<&'static str>,
    /// How many requests before this one have no line.
    omitted: Option<u64>,
    bytes_in: BytesIn,
    bytes_out: u64,
    started: Instant,
}

/// The end of a request. On drop it releases what the request held and logs the line, if there is one.
struct End {
    line: Option<Line>,
    _held: (Option<Charge>, Option<Arc<Busy>>, UnderWay),
}

impl CountBytes for End {
    fn count(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.bytes_out += bytes as u64;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Some(line) = &self.line else { return };
        let Line { id, client, method, uri, status, refusal, omitted, bytes_in, bytes_out, started } = line;
        let (status, elapsed_seconds) = (status.as_u16(), started.elapsed().as_secs_f64());
        let (path, bytes_in) = (shown(uri), bytes_in.0.load(Ordering::Relaxed));
        match refusal {
            Some(refusal) => {
                tracing::warn!(request_id = %id, %client, %method, path, status, refusal, bytes_in, bytes_out, elapsed_seconds, "request refused");
            }
            None => {
                tracing::info!(request_id = %id, %client, %method, path, status, bytes_in, bytes_out, elapsed_seconds, omitted, "request");
            }
        }
    }
}

/// Returns the part of a path that is logged.
fn shown(uri: &Uri) -> &str {
    let path = uri.path();
    path.char_indices().nth(PATH_SHOWN).map_or(path, |(end, _)| &path[..end])
}

/// Returns the client's request id if it is safe in a log line, or else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(is_plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Returns the method as a label of metrics. Unusual methods share one label, because clients can send any
/// text.
fn known_method(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
