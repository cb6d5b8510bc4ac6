use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;

use super::binary::binary;
use super::cases::{Case, Need, infers, is_refused};
use super::seen::Seen;
use super::subject::{Request, Subject};

/// Bytes of the bomb when it is decompressed: four times what Triton accepts by default.
const BOMB_BYTES: usize = 256 << 20;

/// Compressed requests and responses.
pub fn cases() -> Vec<Case> {
    let option = |name, request: fn(&Subject) -> Result<Request, String>| {
        Case::new(name, Need::Option, request, infers)
    };
    let refused =
        |name, request: fn(&Subject) -> Result<Request, String>| Case::core(name, request, is_refused);
    let asks = |coding: &'static str| {
        move |subject: &Subject| Ok(subject.infer(&subject.zeros()).with("Accept-Encoding", coding))
    };
    vec![
        option("request in gzip", |subject| Ok(packed(subject.infer(&subject.zeros()), "gzip"))),
        option("request in deflate", |subject| Ok(packed(subject.infer(&subject.zeros()), "deflate"))),
        Case::new(
            "binary request in gzip",
            Need::Extension("binary_tensor_data"),
            |subject| Ok(packed(binary(subject, &json!({}), 0), "gzip")),
            infers,
        ),
        Case::core("response in gzip", asks("gzip"), unpacked_infers),
        Case::core("response in deflate", asks("deflate"), unpacked_infers),
        Case::core("response to the asyncio client", asks("gzip, deflate, br"), unpacked_infers),
        refused("request that is not gzip", |subject| {
            Ok(subject.infer(&subject.zeros()).with("Content-Encoding", "gzip"))
        }),
        refused("request that becomes 256 MiB", |subject| {
            let mut body = subject.zeros().to_string().into_bytes();
            body.resize(BOMB_BYTES, b' ');
            Ok(packed(Request::post(subject.path("/infer"), body), "gzip"))
        }),
    ]
}

/// Compresses the body of a request. Writing to memory does not fail.
fn packed(request: Request, coding: &'static str) -> Request {
    let body = match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&request.body).and_then(|()| encoder.finish())
        }
        _ => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&request.body).and_then(|()| encoder.finish())
        }
    };
    Request { body: body.unwrap_or_default(), ..request }.with("Content-Encoding", coding)
}

/// Checks a response that may be compressed with gzip or deflate.
fn unpacked_infers(subject: &Subject, seen: &Seen) -> Result<(), String> {
    let mut body = Vec::new();
    let read = match seen.header("content-encoding") {
        None => return infers(subject, seen),
        Some("gzip") => GzDecoder::new(seen.body.as_slice()).read_to_end(&mut body),
        Some("deflate") => ZlibDecoder::new(seen.body.as_slice()).read_to_end(&mut body),
        Some(other) => return Err(format!("the coding is {other}")),
    };
    read.map_err(|error| format!("the body can't be decompressed: {error}"))?;
    infers(subject, &Seen { status: seen.status, headers: seen.headers.clone(), body })
}
