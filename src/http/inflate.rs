//! Bodies that are sent compressed.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};

use super::Problem;
use super::accept::Coding;
use super::growing::GrowingBody;
use crate::admission::{Charge, Lane, Peer, Price, Stop};
use crate::api::Code;
use crate::app::App;
use crate::service::OperationError;

/// Bodies up to this many bytes are decompressed by the thread that has received them.
const QUICK_BYTES: usize = 64 << 10;

/// Bytes that are decompressed at a time.
const PART_BYTES: usize = 16 << 10;

/// Memory of a decoder, with its window of 32 KiB and a part.
const DECODER_BYTES: usize = 64 << 10;

/// Returns the content coding of a request's body, or `None` if it is sent as it is.
///
/// # Errors
/// Returns 415 for a coding that is not supported.
pub fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, Problem> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter().map(|line| line.to_str().unwrap_or("?"));
    let codings: Vec<&str> = lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        .collect();
    match codings.as_slice() {
        [] => Ok(None),
        [one] if Coding::named(one).is_some() => Ok(Coding::named(one)),
        several => {
            let several: String = several.join(", ").chars().take(64).collect();
            let detail = format!("Content-Encoding {several:?} is not supported; send gzip, deflate or none");
            Err(Problem::new(Code::UnsupportedContentEncoding, detail))
        }
    }
}

/// Decompresses a body of up to `bytes_max` bytes. Memory is charged as it is needed.
///
/// # Errors
/// Returns 400 if the body is not what its coding says, 413 if it becomes too large, and 503 if there is no room for it.
pub async fn inflated(
    app: &App,
    peer: Peer,
    coding: Coding,
    (packed, _charge): (Bytes, Charge),
    bytes_max: usize,
) -> Result<(Bytes, Charge), Problem> {
    let admission = app.admission();
    let _decoder = admission.charge(peer, DECODER_BYTES)?;
    let body = GrowingBody::new(admission.body(peer), peer, bytes_max, None, None, admission.crew());
    if packed.is_empty() {
        return body.whole(packed);
    }
    let mut inflating = Inflating { decoder: Decoder::new(coding, packed), body, bytes_max };
    if !inflating.go_on(QUICK_BYTES)? {
        let ticket = admission.admit(Price::new(Lane::Text, 0), peer).await?;
        let rest = ticket.run(move |stop| inflating.finish(stop)).await;
        inflating = rest.map_err(OperationError::from)?.0?;
    }
    inflating.body.joined().await
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Reader<Bytes>>>),
    /// The format of RFC 1950, which HTTP calls deflate (RFC 9110, section 8.4.1.2).
    Deflate(Box<ZlibDecoder<Reader<Bytes>>>),
}

impl Decoder {
    fn new(coding: Coding, packed: Bytes) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(packed.reader()))),
            Coding::Deflate => Self::Deflate(Box::new(ZlibDecoder::new(packed.reader()))),
        }
    }

    fn read(&mut self, part: &mut [u8]) -> Result<usize, Problem> {
        let (read, coding) = match self {
            Self::Gzip(decoder) => (decoder.read(part), Coding::Gzip),
            Self::Deflate(decoder) => (decoder.read(part), Coding::Deflate),
        };
        let failed = |why: String| {
            let detail = format!("the body can't be decompressed as {}: {why}", coding.name());
            Problem::new(Code::InvalidContentEncoding, detail)
        };
        let length = read.map_err(|error| failed(error.to_string()))?;
        match self {
            Self::Deflate(decoder) if length == 0 && decoder.get_ref().get_ref().has_remaining() => {
                Err(failed("bytes are left after its end".to_owned()))
            }
            _ => Ok(length),
        }
    }
}

/// A body that is being decompressed.
struct Inflating {
    decoder: Decoder,
    body: GrowingBody,
    bytes_max: usize,
}

impl Inflating {
    /// Decompresses until the body has at least `bytes` bytes. Returns whether it is complete.
    fn go_on(&mut self, bytes: usize) -> Result<bool, Problem> {
        let mut part = [0; PART_BYTES];
        while self.body.len() < bytes {
            let length = self.decoder.read(&mut part)?;
            if length == 0 {
                return Ok(true);
            }
            if self.body.len() + length > self.bytes_max {
                let detail =
                    format!("the body is larger than {} bytes when it is decompressed", self.bytes_max);
                return Err(Problem::new(Code::BodyTooLarge, detail));
            }
            self.body.push(&part[..length])?;
        }
        Ok(false)
    }

    fn finish(mut self, stop: &Stop) -> Result<Self, Problem> {
        while !self.go_on(self.body.len() + QUICK_BYTES)? {
            if stop.is_set() {
                return Err(OperationError::ClientGone.into());
            }
        }
        Ok(self)
    }
}
