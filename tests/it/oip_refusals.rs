//! What the Open Inference Protocol refuses, and that every error has its form.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::oip::{INFER, error, images, post, request};
use crate::oip_bytes::{binary, joined, post as post_bytes};
use crate::raw::{ask, connect, read};
use crate::server::TestServer;

async fn refused(server: &TestServer, request: &Value) -> String {
    error(post(server, INFER, request.to_string()).await, 400, "invalid_tensor").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_fit_is_refused_with_what_to_send() {
    let server = TestServer::start(&["--images-max", "64"]).await;
    server.with_model().await;
    let input = |field: &str, value: Value| {
        let mut request = request(1);
        request["inputs"][0][field] = value;
        request
    };
    let output = |output: Value| {
        let mut request = request(1);
        request["outputs"] = output;
        request
    };
    let parameter = |name: &str, value: Value| {
        let mut request = request(1);
        request["parameters"] = json!({ name: value });
        request
    };
    let image = request(1)["inputs"][0].clone();
    let mut dark = images(1).iter().map(|&byte| json!(byte)).collect::<Vec<_>>();
    dark[5] = json!(-1);
    let cases = [
        (
            input("shape", json!([784])),
            "Expected [-1,28,28] or [-1,784], got [784]; the first number counts the images: send [1,784]",
        ),
        (input("shape", json!([28, 28])), "send [1,784]"),
        (input("shape", json!([1, 783])), "Expected [-1,28,28] or [-1,784], got [1,783]"),
        (input("shape", json!([])), "got []"),
        (input("shape", json!([0, 784])), "batch-size must be from 1 to 64 for 'digits' and UINT8, got 0"),
        (input("shape", json!([65, 784])), "got 65"),
        (input("shape", json!([9_223_372_036_854_775_807_u64, 784])), "got 9223372036854775807"),
        (input("shape", json!([4_294_967_296_u64, 4_294_967_296_u64])), "got [4294967296,4294967296]"),
        (input("shape", json!([-1, 784])), "must not be negative, but one is -1"),
        (input("shape", json!([2, 784])), "its shape has 1568 elements, but its data has 784"),
        (input("data", json!([])), "its data has 0"),
        (input("data", json!([[0, 1], [2, 3], 4])), "its data has 5"),
        (input("data", json!({})), "must be an array"),
        (input("data", json!("0")), "must be an array"),
        (input("data", json!([true])), "true or false"),
        (input("data", json!(["0"])), "only BYTES are texts"),
        (input("data", Value::Null), "send data, or bytes with binary_data_size"),
        (
            input("data", json!(dark)),
            "1 of its 784 elements are not whole numbers from 0 to 255; the first is -1, element 5 of image 0",
        ),
        (input("data", json!(vec![0.5; 784])), "784 of its 784 elements are not whole numbers"),
        (input("datatype", json!("FP16")), "expected UINT8, FP32, FP64 or BYTES, got 'FP16'"),
        (input("datatype", json!("uint8")), "got 'uint8'"),
        (
            input("name", json!("input")),
            "unexpected inference input 'input' for model 'digits'; it takes one input, 'image'",
        ),
        (input("parameters", json!({ "shared_memory_region": "a" })), "shared memory is not supported"),
        (input("parameters", json!({ "binary_data_size": 784 })), "not both"),
        (json!({ "inputs": [] }), "no inference input for model 'digits'"),
        (json!({ "inputs": [image, image] }), "given twice"),
        (json!({ "inputs": [binary(json!([1, 784]), "UINT8", 784)] }), "needs the header"),
        (output(json!([{ "name": "logits" }])), "unexpected inference output 'logits' for model 'digits'"),
        (output(json!([{ "name": "label" }, { "name": "label" }])), "requested twice"),
        (
            output(json!([{ "name": "label", "parameters": { "classification": 1 } }])),
            "'label' has no classification",
        ),
        (
            output(json!([{ "name": "probabilities", "parameters": { "classification": 0 } }])),
            "at least 1, not 0",
        ),
        (output(json!([{ "name": "probabilities", "parameters": { "classification": 1.5 } }])), "not 1.5"),
        (
            output(json!([{ "name": "label", "parameters": { "binary_data": 1 } }])),
            "must be true or false, not 1",
        ),
        (parameter("binary_data_output", json!("yes")), "must be true or false"),
        (parameter("scale", json!("percent")), "must be \"byte\" or \"unit\", not \"percent\""),
        (parameter("prepare", json!(true)), "must be \"mnist\" or \"none\", not true"),
        (parameter("scale", json!("unit")), "leave out the parameter \"scale\""),
    ];
    for (request, words) in cases {
        let detail = refused(&server, &request).await;
        assert!(detail.contains(words), "{words}\n{detail}");
    }
    let mut several = input("shape", json!([3]));
    several["outputs"] = json!([{ "name": "x" }]);
    several["parameters"] = json!({ "scale": 1 });
    let detail = refused(&server, &several).await;
    assert_eq!(detail.split("; ").count(), 4, "all faults at once: {detail}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_not_a_request_is_refused() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let many = |item: &str, count: usize| vec![item; count].join(",");
    let names: Vec<String> = (0..20).map(|index| format!("\"p{index}\":0")).collect();
    for (body, code) in [
        (String::new(), "empty_body"),
        ("{\"inputs\":[".to_owned(), "invalid_json"),
        ("\u{1}".to_owned(), "invalid_json"),
        ("{\"inputs\":[]} {}".to_owned(), "invalid_json"),
        ("[null,{},[],[]]".to_owned(), "invalid_request"),
        ("{\"inputs\":[[\"image\",[1],\"UINT8\",{},[1]]]}".to_owned(), "invalid_request"),
        ("{}".to_owned(), "invalid_request"),
        ("[]".to_owned(), "invalid_request"),
        ("{\"inputs\":{}}".to_owned(), "invalid_request"),
        ("{\"inputs\":[{\"name\":\"image\"}]}".to_owned(), "invalid_request"),
        ("{\"id\":1,\"inputs\":[]}".to_owned(), "invalid_request"),
        ("{\"inputs\":[],\"inputs\":[]}".to_owned(), "invalid_request"),
        ("{\"inputs\":[],\"parameters\":{\"a\":1,\"a\":1}}".to_owned(), "invalid_request"),
        ("{\"inputs\":[],\"parameters\":{\"a\":[[[]]]}}".to_owned(), "invalid_request"),
        (
            format!("{{\"inputs\":[{}]}}", many("{\"name\":\"\",\"shape\":[],\"datatype\":\"\"}", 100_000)),
            "invalid_request",
        ),
        (
            format!("{{\"inputs\":[{{\"name\":\"image\",\"shape\":[{}]}}]}}", many("1", 100_000)),
            "invalid_request",
        ),
        (format!("{{\"inputs\":[],\"parameters\":{{{}}}}}", names.join(",")), "invalid_request"),
        ("[".repeat(1_000_000), "invalid_request"),
        (format!("{{\"a\":{}", "[".repeat(1_000_000)), "invalid_json"),
    ] {
        error(post(&server, INFER, body).await, 400, code).await;
    }
    let deep = |depth: usize| {
        let numbers = images(1).iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let data = format!("{}{numbers}{}", "[".repeat(depth), "]".repeat(depth));
        request(1).to_string().replacen(&json!(images(1)).to_string(), &data, 1)
    };
    assert_eq!(post(&server, INFER, deep(100)).await.status(), 200);
    for depth in [200, 1_000_000] {
        let detail = error(post(&server, INFER, deep(depth)).await, 400, "invalid_tensor").await;
        assert!(detail.contains("nested more than 100 deep"), "{detail}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_fit_their_json_are_refused() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let image = images(1);
    let of = |size: usize, shape: Value| json!({ "inputs": [binary(shape, "UINT8", size)] });
    let one = of(784, json!([1, 784]));
    let (length, body) = joined(&one, &image);
    for (wrong, words) in [
        ((length, body[..body.len() - 1].to_vec()), "expecting 784 additional bytes, but 783 are left"),
        ((length, [body.as_slice(), &[0]].concat()), "unexpected additional input data"),
        (joined(&of(783, json!([1, 784])), &image[1..]), "has 784 bytes, got 783"),
        (joined(&of(785, json!([1, 784])), &[&image[..], &[0]].concat()), "has 784 bytes, got 785"),
        (joined(&of(784, json!([2, 784])), &image), "has 1568 bytes, got 784"),
        (
            joined(&of(784, json!([4_294_967_296_u64, 4_294_967_296_u64])), &image),
            "got [4294967296,4294967296]",
        ),
        (joined(&of(784, json!([1_u64 << 62, 784])), &image), "batch-size"),
    ] {
        let detail = error(post_bytes(&server, wrong, &[]).await, 400, "invalid_tensor").await;
        assert!(detail.contains(words), "{words}\n{detail}");
    }
    let huge = json!({ "inputs": [{ "name": "image", "shape": [1, 784], "datatype": "UINT8",
        "parameters": { "binary_data_size": u64::MAX } }] });
    error(post_bytes(&server, joined(&huge, &image), &[]).await, 400, "invalid_tensor").await;
    for header in ["785000", "-1", "1.5", "0x10", " ", "99999999999999999999999"] {
        let sent = server.http.post(server.path(INFER)).header("Inference-Header-Content-Length", header);
        let response = sent.body(body.clone()).send().await.expect("an answer");
        let detail = error(response, 400, "invalid_inference_header").await;
        assert!(
            detail.starts_with(&format!("inference header size should be in range (0, {})", body.len())),
            "{detail}"
        );
    }
    // Bytes belong to inputs in order, and JSON in between takes none.
    let other = |name: &str, size: usize| json!({ "name": name, "shape": [size], "datatype": "UINT8", "parameters": { "binary_data_size": size } });
    let json = json!({ "inputs": [other("a", 3), request(1)["inputs"][0], other("b", 5)] });
    let detail = error(post_bytes(&server, joined(&json, &[0; 8]), &[]).await, 400, "invalid_tensor").await;
    assert_eq!(detail.matches("unexpected inference input").count(), 2, "{detail}");
    let detail = error(post_bytes(&server, joined(&json, &[0; 7]), &[]).await, 400, "invalid_tensor").await;
    assert!(
        detail.contains("input 'b': unexpected size, expecting 5 additional bytes, but 4 are left"),
        "{detail}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_and_its_memory_returned() {
    let server = TestServer::start(&["--body-bytes-max", "1048576"]).await;
    server.with_model().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(request(1).to_string().as_bytes()).expect("written");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 512 << 20), &mut encoder).expect("written");
    let bomb = encoder.finish().expect("gzip");
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let packed = async |coding: &str, body: Vec<u8>| {
        server
            .http
            .post(server.path(INFER))
            .header("Content-Encoding", coding)
            .body(body)
            .send()
            .await
            .expect("an answer")
    };
    post(&server, INFER, request(1).to_string()).await;
    let before = server.app().admission().memory_bytes();
    let detail = error(packed("gzip", bomb.clone()).await, 413, "body_too_large").await;
    assert!(detail.contains("larger than 1048576 bytes when it is decompressed"), "{detail}");
    error(packed("deflate", bomb.clone()).await, 400, "invalid_content_encoding").await;
    error(packed("gzip", request(1).to_string().into_bytes()).await, 400, "invalid_content_encoding").await;
    error(packed("gzip", bomb[..bomb.len() / 2].to_vec()).await, 413, "body_too_large").await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(request(1).to_string().as_bytes()).expect("written");
    let short = encoder.finish().expect("gzip");
    error(packed("gzip", short[..short.len() - 9].to_vec()).await, 400, "invalid_content_encoding").await;
    for coding in ["br", "zstd", "gzip, gzip", "deflate, gzip"] {
        error(packed(coding, short.clone()).await, 415, "unsupported_content_encoding").await;
    }
    assert_eq!(server.app().admission().memory_bytes(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_the_form_of_the_protocol() {
    let server = TestServer::start(&["--body-bytes-max", "100000", "--body-timeout-seconds", "1"]).await;
    server.with_model().await;
    for (path, code) in [
        ("/v2/nothing", "unknown_path"),
        ("/v2/models", "unknown_path"),
        ("/v2/models/nothing", "unknown_model"),
        ("/v2/models/Digits%20x", "unknown_model"),
        ("/v2/models/digits@1", "unknown_model"),
        ("/v2/models/digits/versions/2", "unknown_version"),
        ("/v2/models/digits/versions/0", "unknown_version"),
        ("/v2/models/digits/versions/01", "unknown_version"),
        ("/v2/models/digits/versions/99999999999", "unknown_version"),
        ("/v2/models/digits/versions/a%20b", "unknown_version"),
        ("/v2/models/digits/versions/champion/ready", "unknown_alias"),
    ] {
        error(server.get(path).await, 404, code).await;
    }
    error(server.get("/v2/models/%ff").await, 400, "invalid_path").await;
    error(server.put("/v2/health/live", json!({})).await, 405, "method_not_allowed").await;
    for path in ["/v2/models/nothing/infer", "/v2/models/nothing/versions/1/infer"] {
        error(post(&server, path, request(1).to_string()).await, 404, "unknown_model").await;
    }
    error(
        post(&server, "/v2/models/digits/versions/7/infer", request(1).to_string()).await,
        404,
        "unknown_version",
    )
    .await;
    error(post(&server, INFER, vec![b' '; 200_000]).await, 413, "body_too_large").await;

    let mut slow = connect(&server).await;
    let head = format!(
        "POST {INFER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    read(&mut slow).await.assert(408, "body_timeout");
    for (host, site, status, code) in
        [("evil.example", "none", 421, "unknown_host"), ("localhost", "cross-site", 403, "cross_site")]
    {
        let head = format!(
            "POST {INFER} HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: {site}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = ask(&server, &head).await;
        answer.assert(status, code);
        assert!(answer.text.contains("{\"error\":\""), "{}", answer.text);
    }
    server.stop().await;

    let small = TestServer::start(&["--memory-bytes-max", "33554432"]).await;
    small.with_model().await;
    let admission = small.app().admission().clone();
    let peer = chainrule::admission::Peer::new([127, 0, 0, 1].into());
    let mut held = Vec::new();
    while let Ok(charge) = admission.charge(peer, 1 << 20) {
        held.push(charge);
    }
    let many = json!({ "inputs": [binary(json!([400, 784]), "UINT8", 400 * 784)] });
    let response = post_bytes(&small, joined(&many, &images(400)), &[]).await;
    assert_eq!(response.headers()["retry-after"], "1");
    error(response, 503, "too_many_bytes").await;
    drop(held);
    small.stop().await;
}
