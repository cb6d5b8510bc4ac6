use axum::http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::tensors::{Divided, Tensors};
use crate::http::Problem;
use crate::http::receive::Body;
use crate::nn::Shape;
use crate::oip::Interface;

fn parsed(bytes: &[u8], length: Option<&str>) -> Result<Tensors, Problem> {
    let mut headers = HeaderMap::new();
    if let Some(length) = length {
        headers.insert("inference-header-content-length", HeaderValue::from_str(length).expect("a value"));
    }
    let image = Shape { height: 2, width: 3, channels: 1 };
    let model = Interface { model: "digits".to_owned(), version: 1, image, classes: 2 };
    let mut body = Body::default();
    body.bytes = bytes.to_vec().into();
    Divided::new(&headers, body)?.parse(&model)
}

#[test]
fn bytes_are_given_to_inputs_in_order() {
    let json = r#"{"inputs":[
        {"name":"a","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}},
        {"name":"b","shape":[1],"datatype":"UINT8","data":[7]},
        {"name":"c","shape":[0],"datatype":"UINT8","parameters":{"binary_data_size":0}},
        {"name":"d","shape":[2],"datatype":"UINT8","parameters":{"binary_data_size":2}}]}"#;
    let body = [json.as_bytes(), &[1, 2, 3, 4, 5]].concat();
    let found =
        parsed(&body, Some(&json.len().to_string())).map_err(|problem| problem.code()).expect("a request");
    let contents: Vec<String> =
        found.request.inputs.iter().map(|input| format!("{:?}", input.contents)).collect();
    let expected = [r#"Raw(b"\x01\x02\x03")"#, r#"Json(b"[7]")"#, r#"Raw(b"")"#, r#"Raw(b"\x04\x05")"#];
    assert_eq!(contents, expected);
}

/// Pieces of requests, which are joined in any order.
const PIECES: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"inputs\"",
    "\"outputs\"",
    "\"name\"",
    "\"image\"",
    "\"shape\"",
    "\"data\"",
    "\"parameters\"",
    "\"binary_data_size\"",
    "1",
    "\"datatype\"",
];

proptest! {
    #[test]
    fn no_body_makes_the_server_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40),
        bytes in prop::collection::vec(any::<u8>(), 0..8),
        length in prop::option::of("[0-9]{0,3}"),
    ) {
        let body = [pieces.concat().as_bytes(), &bytes].concat();
        let _ = parsed(&body, length.as_deref());
    }
}
