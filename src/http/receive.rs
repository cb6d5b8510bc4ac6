//! The entry of a request: receives its body, then takes a place in a lane.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Multipart, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Problem;
use super::accept::{is_identity, known_media_type};
use super::connections::ClientAddress;
use super::growing::{GrowingBody, bytes_to_receive, too_large};
use super::guests::Busy;
use super::inflate::{content_coding, inflated};
use super::observe::BytesIn;
use crate::admission::{Admission, Charge, Lane, LanePlace, Peer, Refusal, SMALL_BYTES};
use crate::api::Code;
use crate::app::App;
use crate::service::Caller;

/// The bodies that a route accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// No body. If there is one, it is not read.
    Nothing,
    /// A request in JSON, with the smaller of the two limits.
    Json,
    /// Images in any of the media types of [`IMAGES`].
    Images,
    /// Tensors, in any media type. They may be compressed.
    Tensors,
    /// A short request that may be empty, in any media type. It may be compressed.
    Command,
    /// A file with a network in any of the media types of [`NETWORKS`].
    Network,
}

/// The lane in which a request runs once its body has arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Works {
    /// The lane `other`. A change keeps its place until it ends, even if the client disconnects.
    Short,
    /// The lane that the handler chooses by the price.
    Priced,
}

/// The layer in front of a route's handlers.
#[derive(Clone)]
pub struct Door {
    /// The handle to the server.
    pub app: App,
    /// The bodies that it accepts.
    pub takes: Takes,
    /// The lane that its requests run in.
    pub works: Works,
}

/// The media types of images.
pub const IMAGES: [&str; 5] =
    ["application/json", "application/octet-stream", "image/png", "image/jpeg", "multipart/form-data"];

/// The media types of files with networks. The format of the first is told by the first bytes.
pub const NETWORKS: [&str; 3] =
    ["application/octet-stream", "application/vnd.safetensors", "application/onnx"];

/// The client that sent a request.
#[derive(Clone, Copy)]
pub struct Client {
    /// The address of its connection.
    pub address: IpAddr,
    /// The peer that its use is counted against.
    pub peer: Peer,
}

impl Client {
    /// Returns the client of a request. If there is no connection, as in tests, the client is this machine.
    pub fn of(extensions: &axum::http::Extensions) -> Self {
        let address = extensions.get::<ClientAddress>().map_or(Ipv4Addr::LOCALHOST.into(), |client| client.0);
        Self { address, peer: Peer::new(address) }
    }
}

/// The whole body of a request. Its memory is charged until the last clone is dropped.
#[derive(Clone, Default)]
pub struct Body {
    /// The content.
    pub bytes: Bytes,
    /// The media type, in lower case and without parameters.
    pub media_type: Option<String>,
    content_type: Option<HeaderValue>,
    charge: Option<Arc<Charge>>,
}

impl Body {
    /// Returns the body as a multipart form.
    ///
    /// # Errors
    /// Returns 400 if it is not one.
    pub async fn form(&self) -> Result<Multipart, Problem> {
        let mut request = Request::new(axum::body::Body::from(self.bytes.clone()));
        // `take_in` has checked the length.
        DefaultBodyLimit::disable().apply(&mut request);
        if let Some(content_type) = &self.content_type {
            request.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
        }
        Multipart::from_request(request, &())
            .await
            .map_err(|rejection| Problem::new(Code::InvalidMultipart, rejection.body_text()))
    }
}

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Self::Rejection> {
        Ok(request.extensions_mut().remove::<Self>().unwrap_or_default())
    }
}

/// The place of a request in the lane for everything else. A handler that begins to wait returns it.
#[derive(Clone, Default)]
pub struct HeldPlace(Arc<Mutex<Option<LanePlace>>>);

impl HeldPlace {
    /// Returns the place.
    pub fn leave(&self) {
        drop(self.take());
    }

    /// Returns the place while `work` waits in another lane, and takes a place again afterwards.
    ///
    /// # Errors
    /// Returns the error of `work`, or 503 if no place becomes free again.
    pub async fn without<T>(
        &self,
        app: &App,
        caller: &Caller,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let Some(place) = self.take() else { return work.await };
        drop(place);
        let done = work.await?;
        let place = app.admission().enter(Lane::Other, caller.peer()).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        Ok(done)
    }

    fn take(&self) -> Option<LanePlace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns the caller of a request. If the request has a place, the caller holds the place and the charge of
/// the body until its changes have finished.
pub fn caller(extensions: &axum::http::Extensions) -> Caller {
    let caller = Caller::client(Client::of(extensions).peer);
    match extensions.get::<HeldPlace>() {
        Some(place) => {
            let charge = extensions.get::<Body>().and_then(|body| body.charge.clone());
            caller.holding((place.clone(), charge))
        }
        None => caller,
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(caller(&parts.extensions))
    }
}

/// Receives a request's body, takes a place for it, and calls the handler.
pub async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Door { app, takes, works } = door;
    let client = Client::of(request.extensions());
    match take_in(&app, takes, client.peer, &mut request).await {
        Ok(body) => drop(request.extensions_mut().insert(body)),
        Err(problem) => return problem.into_response(),
    }
    if works == Works::Priced {
        return next.run(request).await;
    }
    let place = match app.admission().enter(Lane::Other, client.peer).await {
        Ok(place) => HeldPlace(Arc::new(Mutex::new(Some(place)))),
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    place.leave();
    response
}

/// Checks the head of a request and receives its body.
///
/// # Errors
/// Returns 415 for an unsupported media type, 413 for a body that is too large, 408 if the body does not
/// arrive in time, and 503 if there is no memory for it. If the head gives the length, memory is checked
/// before the body is read.
async fn take_in(app: &App, takes: Takes, peer: Peer, request: &mut Request) -> Result<Body, Problem> {
    let headers = request.headers();
    let media_type = media_type(headers);
    let limits = &app.config().limits;
    let (bytes_max, media_types): (usize, Option<&[&str]>) = match takes {
        Takes::Nothing => return without_body(request.method(), media_type),
        Takes::Json => (limits.job_request_bytes_max, Some(&["application/json"])),
        Takes::Images => (limits.body_bytes_max, Some(&IMAGES)),
        Takes::Tensors => (limits.body_bytes_max, None),
        Takes::Command => (limits.job_request_bytes_max, None),
        Takes::Network => (limits.body_bytes_max, Some(&NETWORKS)),
    };
    let bytes_max = bytes_max.min(app.admission().body_max());
    if let Some(media_types) = media_types
        && !media_type.as_deref().is_some_and(|found| media_types.contains(&found))
    {
        return Err(unsupported_media_type(media_type.as_deref(), media_types));
    }
    let coding = match media_types {
        Some(_) if is_identity(headers) => None,
        None => content_coding(headers)?,
        Some(_) => {
            let detail = "the body has a Content-Encoding, which is not supported; send it unencoded";
            return Err(Problem::new(Code::UnsupportedContentEncoding, detail));
        }
    };
    let announced = announced(headers);
    if announced.is_some_and(|announced| announced > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let seconds = limits.body_timeout_seconds;
    let bytes_in = request.extensions().get::<BytesIn>().cloned().unwrap_or_default();
    let busy = request.extensions_mut().remove::<Arc<Busy>>();
    let charge = app.admission().body(peer);
    // If there is no memory for a long body, the client learns it before sending the body.
    let long = announced.map(|announced| announced as usize).filter(|&announced| announced > SMALL_BYTES);
    if long.is_some_and(|long| !charge.could_be(bytes_to_receive(long))) {
        return Err(Refusal::Memory.into());
    }
    let bytes = GrowingBody::new(charge, peer, bytes_max, announced, busy.clone(), app.admission().crew());
    let arriving = Arriving { admission: app.admission().clone(), bytes, announced, bytes_in, busy };
    let body = std::mem::take(request.body_mut());
    let arrived = tokio::time::timeout(Duration::from_secs(seconds.into()), arriving.all_of(body));
    let (bytes, charge) = arrived.await.map_err(|_| {
        let detail = format!("the body did not arrive within {seconds} seconds");
        Problem::new(Code::BodyTimeout, detail)
    })??;
    let (bytes, charge) = match coding {
        Some(coding) => inflated(app, peer, coding, (bytes, charge), bytes_max).await?,
        None => (bytes, charge),
    };
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    Ok(Body { bytes, media_type, content_type, charge: Some(Arc::new(charge)) })
}

/// Checks the media type of a request without a body. The media types that a form of any web page can send
/// are refused (<https://fetch.spec.whatwg.org/#cors-safelisted-request-header>).
fn without_body(method: &Method, media_type: Option<String>) -> Result<Body, Problem> {
    match media_type {
        Some(found) if !method.is_safe() && found != "application/json" => {
            let detail = format!("this request takes no body; leave out Content-Type {found}");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
        media_type => Ok(Body { media_type, ..Body::default() }),
    }
}

/// Returns the media type of a body, in lower case and without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase();
    (!media_type.is_empty()).then(|| known_media_type(&media_type).to_owned())
}

/// Returns the length of the body that the head of a request announces.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that is being received.
struct Arriving {
    admission: Admission,
    bytes: GrowingBody,
    announced: Option<u64>,
    bytes_in: BytesIn,
    busy: Option<Arc<Busy>>,
}

impl Arriving {
    async fn all_of(mut self, body: axum::body::Body) -> Result<(Bytes, Charge), Problem> {
        let mut frames = body.into_data_stream();
        let Some(first) = self.next_of(&mut frames).await? else {
            return self.bytes.whole(Bytes::new());
        };
        if Some(first.len() as u64) == self.announced {
            return self.bytes.whole(first);
        }
        self.bytes.push(&first)?;
        drop(first);
        while let Some(frame) = self.next_of(&mut frames).await? {
            if self.bytes.push(&frame)? {
                self.admission.turn().await;
            }
        }
        self.bytes.joined().await
    }

    /// Returns the next frame. While it waits, the connection may be closed to make room, like an idle one.
    async fn next_of(&self, frames: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
        let _waits = self.busy.as_deref().map(Busy::waits_for_client);
        let frame = frames.next().await.transpose().map_err(|error| {
            tracing::debug!(%error, "a body was cut off");
            Problem::new(Code::BodyCutOff, "the body ended early, or its chunks are invalid")
        })?;
        self.bytes_in.count(frame.as_ref().map_or(0, Bytes::len));
        Ok(frame)
    }
}

/// 415 with the media types that are accepted.
pub fn unsupported_media_type(found: Option<&str>, expected: &[&str]) -> Problem {
    let found = found.map_or_else(|| "no Content-Type".to_owned(), |found| format!("Content-Type {found}"));
    let detail = format!("{found}; send {}", expected.join(", "));
    Problem::new(Code::UnsupportedMediaType, detail)
}
