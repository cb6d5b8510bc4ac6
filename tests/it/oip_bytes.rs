//! Tensors as bytes, compressed bodies, and pictures, in the Open Inference Protocol.

use std::io::{Read, Write};

use base64::prelude::{BASE64_STANDARD, Engine};
use chainrule::data::{mnist, picture};
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::oip::{INFER, error, images, infer, output_of, predicted, request};
use crate::server::TestServer;

const LENGTH: &str = "Inference-Header-Content-Length";

/// A body of JSON, followed by bytes.
pub fn joined(json: &Value, bytes: &[u8]) -> (usize, Vec<u8>) {
    let json = json.to_string();
    (json.len(), [json.as_bytes(), bytes].concat())
}

pub async fn post(
    server: &TestServer,
    (length, body): (usize, Vec<u8>),
    headers: &[(&str, &str)],
) -> Response {
    let mut request = server.http.post(server.path(INFER)).header(LENGTH, length.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).send().await.expect("an answer")
}

pub fn binary(shape: Value, datatype: &str, size: usize) -> Value {
    json!({ "name": "image", "shape": shape, "datatype": datatype, "parameters": { "binary_data_size": size } })
}

/// Divides a response into its JSON and the bytes after it.
async fn divided(response: Response) -> (Value, Vec<u8>) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    let length: usize = response.headers()[LENGTH].to_str().expect("text").parse().expect("a number");
    let body = response.bytes().await.expect("bytes");
    (serde_json::from_slice(&body[..length]).expect("JSON"), body[length..].to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

async fn expected(server: &TestServer, count: usize) -> (Vec<f32>, Vec<i64>) {
    let (labels, probabilities) = predicted(server, count).await;
    let probabilities = probabilities.iter().map(|value| value.as_f64().expect("a number") as f32).collect();
    (probabilities, labels.iter().filter_map(Value::as_i64).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_go_as_bytes_both_ways() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let (probabilities, labels) = expected(&server, 2).await;
    let bytes = images(2);
    let singles: Vec<u8> = bytes.iter().flat_map(|&byte| f32::from(byte).to_le_bytes()).collect();
    let doubles: Vec<u8> = bytes.iter().flat_map(|&byte| f64::from(byte).to_le_bytes()).collect();
    for (datatype, raw) in [("UINT8", bytes.clone()), ("FP32", singles), ("FP64", doubles)] {
        let json = json!({
            "inputs": [binary(json!([2, 784]), datatype, raw.len())],
            "parameters": { "binary_data_output": true }
        });
        let (head, rest) = divided(post(&server, joined(&json, &raw), &[]).await).await;
        let outputs = head["outputs"].as_array().expect("outputs");
        assert!(outputs.iter().all(|output| output.get("data").is_none()), "{head}");
        assert_eq!(outputs[0]["parameters"], json!({ "binary_data_size": 80 }));
        assert_eq!(outputs[1]["parameters"], json!({ "binary_data_size": 16 }));
        assert_eq!(floats(&rest[..80]), probabilities, "{datatype}");
        assert_eq!(rest[80..88], labels[0].to_le_bytes());
        assert_eq!(rest.len(), 96);
    }
    // An output's own form counts more than that of the request, and JSON comes from bytes.
    let json = json!({
        "inputs": [binary(json!([2, 28, 28]), "UINT8", bytes.len())],
        "parameters": { "binary_data_output": true },
        "outputs": [
            { "name": "label", "parameters": { "binary_data": false } },
            { "name": "probabilities", "parameters": { "binary_data": true, "classification": 1 } }
        ]
    });
    let (head, rest) = divided(post(&server, joined(&json, &bytes), &[]).await).await;
    assert_eq!(output_of(&head, "label")["data"], json!(labels));
    let text = format!("{:.6}:{label}:{label}", probabilities[labels[0] as usize], label = labels[0]);
    assert_eq!(rest[..4], (text.len() as u32).to_le_bytes());
    assert_eq!(&rest[4..4 + text.len()], text.as_bytes());

    let json = json!({ "inputs": [binary(json!([2, 784]), "UINT8", bytes.len())] });
    let response = post(&server, joined(&json, &bytes), &[]).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!response.headers().contains_key(LENGTH));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_json_is_one_image() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let (probabilities, labels) = expected(&server, 1).await;
    let (_, rest) = divided(post(&server, (0, images(1)), &[]).await).await;
    assert_eq!(floats(&rest[..40]), probabilities);
    assert_eq!(rest[40..], labels[0].to_le_bytes());
    for wrong in [images(2), images(1)[1..].to_vec(), Vec::new()] {
        error(post(&server, (0, wrong), &[]).await, 400, "invalid_tensor").await;
    }
    server.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("gzip")
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("zlib")
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_read_and_the_header_counts_what_they_become() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    for count in [1, 300] {
        let (probabilities, _) = expected(&server, count).await;
        let bytes = images(count);
        let json = json!({
            "inputs": [binary(json!([count, 784]), "UINT8", bytes.len())],
            "parameters": { "binary_data_output": true }
        });
        let (length, body) = joined(&json, &bytes);
        let two = [gzip(&body[..100]), gzip(&body[100..])].concat();
        for (coding, packed) in [("gzip", gzip(&body)), ("deflate", deflate(&body)), ("x-gzip", two)] {
            let response = post(&server, (length, packed), &[("Content-Encoding", coding)]).await;
            let (_, rest) = divided(response).await;
            assert_eq!(floats(&rest[..40 * count]), probabilities, "{coding}");
        }
    }
    let plain = post(&server, joined(&request(1), &[]), &[("Content-Encoding", "identity")]).await;
    assert_eq!(plain.status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_inference_is_compressed_and_only_if_the_client_asks() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let body = request(100).to_string();
    let ask = async |accept: &str| {
        let sent = server.http.post(server.path(INFER)).header("Accept-Encoding", accept).body(body.clone());
        let response = sent.send().await.expect("an answer");
        let coding = response
            .headers()
            .get("content-encoding")
            .map(|coding| coding.to_str().expect("text").to_owned());
        (coding, response.bytes().await.expect("bytes").to_vec())
    };
    let (none, plain) = ask("identity").await;
    assert_eq!((none, ask("br").await), (None, (None, plain.clone())));
    let mut unpacked = Vec::new();
    for accept in ["gzip", "gzip, deflate, br"] {
        let (coding, packed) = ask(accept).await;
        assert_eq!(coding.as_deref(), Some("gzip"), "{accept}");
        assert!(packed.len() < plain.len());
        unpacked.clear();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain);
    }
    for accept in ["deflate", "deflate, gzip;q=0.5"] {
        let (coding, packed) = ask(accept).await;
        assert_eq!(coding.as_deref(), Some("deflate"), "{accept}");
        unpacked.clear();
        ZlibDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).expect("zlib");
        assert_eq!(unpacked, plain);
    }
    // The asyncio client asks for codings with every request, and decompresses inference only.
    for path in ["/v2", "/v2/models/digits", "/v2/models/digits/stats", "/v2/models/nothing"] {
        let sent = server.http.get(server.path(path)).header("Accept-Encoding", "gzip, deflate, br");
        let response = sent.send().await.expect("an answer");
        assert!(!response.headers().contains_key("content-encoding"), "{path}");
    }
    let index =
        server.http.post(server.path("/v2/repository/index")).header("Accept-Encoding", "gzip").send();
    assert!(!index.await.expect("an answer").headers().contains_key("content-encoding"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_bytes_are_pictures() {
    let server = TestServer::start(&["--pictures-max", "3"]).await;
    server.with_model().await;
    let (probabilities, labels) = expected(&server, 2).await;
    let pictures: Vec<Vec<u8>> =
        (0..2).map(|index| picture::to_png(mnist::dataset().test.image(index))).collect();
    let raw: Vec<u8> = pictures
        .iter()
        .flat_map(|picture| [&(picture.len() as u32).to_le_bytes(), picture.as_slice()].concat())
        .collect();
    let with = |shape: Value, size: usize| json!({ "inputs": [binary(shape, "BYTES", size)], "parameters": { "prepare": "none" } });
    for shape in [json!([2]), json!([2, 1])] {
        let response = post(&server, joined(&with(shape, raw.len()), &raw), &[]).await;
        let found: Value = response.json().await.expect("JSON");
        let numbers: Vec<f32> = output_of(&found, "probabilities")["data"]
            .as_array()
            .expect("numbers")
            .iter()
            .map(|number| number.as_f64().expect("a number") as f32)
            .collect();
        assert_eq!(numbers, probabilities);
    }
    let texts: Vec<String> = pictures.iter().map(|picture| BASE64_STANDARD.encode(picture)).collect();
    let coded = |data: Value, count: usize| json!({ "inputs": [{ "name": "image", "shape": [count], "datatype": "BYTES", "data": data }] });
    let found = infer(&server, &coded(json!(texts), 2)).await;
    assert_eq!(output_of(&found, "label")["data"].as_array().map(Vec::len), Some(labels.len()));

    let refused = async |json: Value, code: &str, words: &str| {
        let response =
            server.http.post(server.path(INFER)).body(json.to_string()).send().await.expect("an answer");
        let detail = error(response, 400, code).await;
        assert!(detail.contains(words), "{detail}");
    };
    refused(coded(json!(texts), 3), "invalid_tensor", "its shape has 3 elements, but its data has 2").await;
    refused(coded(json!(texts), 1), "invalid_tensor", "its shape has 1 elements, but its data has 2").await;
    refused(coded(json!(["%"]), 1), "invalid_tensor", "element 0 is not base64").await;
    refused(coded(json!([1]), 1), "invalid_tensor", "texts in base64").await;
    refused(coded(json!(["AAAA"]), 1), "invalid_picture", "png").await;
    refused(coded(json!(vec!["AAAA"; 4]), 4), "invalid_tensor", "from 1 to 3").await;
    let mut shaped = coded(json!(texts), 2);
    shaped["inputs"][0]["shape"] = json!([2, 28, 28]);
    refused(shaped, "invalid_tensor", "Expected [-1]").await;
    for (wrong, words) in [
        (raw[..raw.len() - 1].to_vec(), "are left"),
        ([raw.as_slice(), &[0; 2]].concat(), "are left after its 2 elements"),
        (u32::MAX.to_le_bytes().to_vec(), "4294967295 bytes"),
        (vec![0; 3], "is cut off"),
        (Vec::new(), "its data has 0"),
    ] {
        let response = post(&server, joined(&with(json!([2]), wrong.len()), &wrong), &[]).await;
        let detail = error(response, 400, "invalid_tensor").await;
        assert!(detail.contains(words), "{detail}");
    }
    server.stop().await;
}
