//! The last step of a response: conditional requests, compression, and the charge until the response is sent.

use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::response::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::Problem;
use super::accept::{Coding, accepted_coding, etag_matches};
use super::oip::is_of_protocol;
use crate::admission::{Charge, Peer};
use crate::app::App;

/// Bytes of a response that are handed to the connection at a time.
const PART_BYTES: usize = 16 << 10;

/// The least length of a response that is compressed, in bytes.
const PACKED_BYTES_MIN: usize = 1 << 10;

/// Memory to compress a response, as a multiple of its length. The output buffer grows to at most twice the
/// length.
const PACKING_TIMES: usize = 2;

/// Responses longer than this many bytes are compressed and digested by the crew.
const PACKED_AT_ONCE_BYTES_MAX: usize = 32 << 10;

/// The API's responses run no scripts and may not be framed. SVG may contain its own styles.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
const POLICY_OF_DRAWINGS: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// Marks a response that is sent without buffering, because it is a stream or a static body.
#[derive(Clone, Copy)]
pub struct Streamed;

/// Which responses are compressed. Under `/v2`, only those with tensors are, because clients of the protocol decompress
/// nothing else. All other responses are [`Packing::Texts`].
#[derive(Clone, Copy)]
pub enum Packing {
    /// Texts, with gzip.
    Texts,
    /// Tensors, with gzip or deflate.
    Tensors,
    /// The response is sent as it is.
    Nothing,
}

/// A charge that already covers the memory of a response.
#[derive(Clone)]
pub struct Paid(Arc<Mutex<Option<Charge>>>);

impl Paid {
    /// Attaches `charge` to a response.
    pub fn new(charge: Charge) -> Self {
        Self(Arc::new(Mutex::new(Some(charge))))
    }

    fn take(&self) -> Option<Charge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the head of a request asks of its response.
pub struct Wants {
    is_read: bool,
    /// The packing of a response that has none of its own.
    packing: Packing,
    headers: HeaderMap,
}

impl Wants {
    /// Reads the head of a request.
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let mut kept = HeaderMap::new();
        for name in [header::IF_NONE_MATCH, header::ACCEPT_ENCODING] {
            for value in headers.get_all(&name) {
                kept.append(&name, value.clone());
            }
        }
        let packing = if is_of_protocol(path) { Packing::Nothing } else { Packing::Texts };
        Self { is_read: matches!(*method, Method::GET | Method::HEAD), packing, headers: kept }
    }

    /// Returns how to compress a response with these headers.
    fn coding(&self, packing: Packing, headers: &HeaderMap) -> Option<Coding> {
        match packing {
            _ if headers.contains_key(header::CONTENT_ENCODING) => None,
            Packing::Texts if is_text(headers) => accepted_coding(&self.headers, &[Coding::Gzip]),
            Packing::Tensors => accepted_coding(&self.headers, &[Coding::Gzip, Coding::Deflate]),
            Packing::Texts | Packing::Nothing => None,
        }
    }
}

/// Prepares a response for sending. Returns it with the charge to hold until it is sent.
pub async fn deliver(
    app: &App,
    peer: Peer,
    wants: &Wants,
    mut response: Response,
) -> (Response, Option<Charge>) {
    let packing = response.extensions_mut().remove::<Packing>().unwrap_or(wants.packing);
    let is_streamed = response.extensions_mut().remove::<Streamed>().is_some();
    let paid = response.extensions_mut().remove::<Paid>().and_then(|paid| paid.take());
    complete_head(response.status(), wants, response.headers_mut());
    if is_streamed {
        return (response, None);
    }
    let (mut head, body) = response.into_parts();
    // The body is in memory, so this does not wait.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return (Problem::internal().into_response(), None);
    };
    let length = bytes.len();
    let mut charge = match paid.and_then(|mut paid| paid.resize(length).then_some(paid)) {
        Some(paid) => Some(paid),
        // A response that fits in the connection's buffer is covered by the connection's charge.
        None if length <= PART_BYTES => None,
        None => match app.admission().charge(peer, length) {
            Ok(charge) => Some(charge),
            Err(refusal) => return (Problem::from(refusal).into_response(), None),
        },
    };
    let coding = wants.coding(packing, &head.headers).filter(|_| length >= PACKED_BYTES_MIN);
    // If there is no memory for both forms, the response is not compressed.
    let coding = coding
        .filter(|_| charge.as_mut().is_none_or(|charge| charge.resize(length + PACKING_TIMES * length)));
    let has_tag = wants.is_read && head.status == StatusCode::OK;
    if coding.is_none() && !has_tag {
        return (Response::from_parts(head, Body::from(bytes)), charge);
    }
    let (sealed, mut charge) = if length <= PACKED_AT_ONCE_BYTES_MAX {
        (seal(bytes, coding, has_tag), charge)
    } else {
        let sealed = app.admission().crew().done(move || (seal(bytes, coding, has_tag), charge)).await;
        match sealed {
            Ok(sealed) => sealed,
            Err(_) => return (Problem::internal().into_response(), None),
        }
    };
    let Sealed { bytes, coding, tag } = sealed;
    if let Some(tag) = tag {
        // An `ETag` that the handler has set is kept.
        let tag = head.headers.entry(header::ETAG).or_insert(tag);
        if tag.to_str().is_ok_and(|tag| etag_matches(&wants.headers, tag)) {
            return (not_modified(head), None);
        }
    }
    if let Some(coding) = coding {
        head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        head.headers.remove(header::CONTENT_LENGTH);
    }
    if let Some(charge) = &mut charge {
        charge.resize(bytes.len());
    }
    (Response::from_parts(head, Body::from(bytes)), charge)
}

/// Turns a response into 304.
fn not_modified(mut head: Parts) -> Response {
    head.status = StatusCode::NOT_MODIFIED;
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_DISPOSITION] {
        head.headers.remove(name);
    }
    Response::from_parts(head, Body::empty())
}

/// A body that is ready to be sent.
pub struct Sealed {
    /// The content, possibly compressed.
    pub bytes: Bytes,
    /// How the content is compressed, if it is.
    pub coding: Option<Coding>,
    /// The `ETag`, if one was asked for.
    pub tag: Option<HeaderValue>,
}

/// Compresses a body if that makes it shorter, and computes its `ETag`.
pub fn seal(bytes: Bytes, coding: Option<Coding>, has_tag: bool) -> Sealed {
    let packed =
        coding.and_then(|coding| compress(&bytes, coding)).filter(|packed| packed.len() < bytes.len());
    let coding = coding.filter(|_| packed.is_some());
    let bytes = packed.map_or(bytes, Bytes::from);
    let tag = has_tag.then(|| {
        let digest = Sha256::digest(&bytes);
        let digits: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::from_str(&format!("\"{digits}\"")).ok()
    });
    Sealed { bytes, coding, tag: tag.flatten() }
}

fn compress(bytes: &[u8], coding: Coding) -> Option<Vec<u8>> {
    let (room, level) = (Vec::with_capacity(bytes.len() / 4), Compression::fast());
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room, level);
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(room, level);
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["application/json", "image/svg+xml", "text/"].iter().any(|kind| media_type.starts_with(kind))
}

/// Sets the headers of every response, except those that the handler has set.
fn complete_head(status: StatusCode, wants: &Wants, headers: &mut HeaderMap) {
    let is_drawing =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"image/svg+xml");
    let policy = if is_drawing { POLICY_OF_DRAWINGS } else { POLICY };
    let is_kept = wants.is_read && matches!(status, StatusCode::OK | StatusCode::NOT_MODIFIED);
    let cache = if is_kept { "no-cache" } else { "no-store" };
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_SECURITY_POLICY, policy);
    set(header::CACHE_CONTROL, cache);
    set(header::VARY, "Accept, Accept-Encoding");
}

/// A body that is passed on in parts and counts its bytes. `end` is dropped with it.
pub struct Counted<E> {
    body: Body,
    part: Bytes,
    end: E,
}

/// A receiver of the number of bytes sent.
pub trait CountBytes {
    /// Adds `bytes` to the count.
    fn count(&mut self, bytes: usize);
}

impl<E> Counted<E> {
    /// Passes on `body`, with `end` to count its bytes.
    pub fn new(body: Body, end: E) -> Self {
        Self { body, part: Bytes::new(), end }
    }
}

impl<E: CountBytes + Unpin> HttpBody for Counted<E> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.part.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.part = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.part.len().min(PART_BYTES);
        // The part is a copy. A slice would keep the whole response in memory after its charge has ended.
        let part = Bytes::copy_from_slice(&self.part[..length]);
        self.part.advance(length);
        self.end.count(length);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.part.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, left) = (self.body.size_hint(), self.part.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + left);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}
