//! Bad input: a clear error that names the fault, nothing stored, nothing broken.

use reqwest::Response;
use serde_json::{Value, json};

use crate::server::{TestServer, endless, pointers, problem};

async fn post_job(server: &TestServer, body: impl Into<reqwest::Body>) -> Response {
    server.post("/v1/jobs", "application/json", body).await
}

async fn job_faults(server: &TestServer, body: Value) -> Value {
    problem(post_job(server, body.to_string()).await, 422, "invalid_request").await
}

fn layers(layers: Value) -> Value {
    json!({ "network": { "layers": layers } })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_jobs_are_refused_with_the_pointer_of_each_fault() {
    let server = TestServer::start(&[]).await;
    problem(post_job(&server, "").await, 400, "empty_body").await;
    problem(post_job(&server, "epochs=3").await, 400, "invalid_json").await;
    problem(post_job(&server, "{\"epochs\": NaN}").await, 400, "invalid_json").await;
    problem(post_job(&server, "{\"epochs\": 3").await, 400, "invalid_json").await;
    problem(post_job(&server, "[".repeat(100_000)).await, 400, "invalid_json").await;
    problem(server.post("/v1/jobs", "text/plain", "{}").await, 415, "unsupported_media_type").await;
    problem(
        server.http.post(server.path("/v1/jobs")).send().await.expect("an answer"),
        415,
        "unsupported_media_type",
    )
    .await;

    let ten = json!({ "type": "dense", "units": 10 });
    let cases = [
        (json!([]), ""),
        (json!("mlp"), ""),
        (json!({ "epochs": -1 }), "/epochs"),
        (json!({ "epochs": 0 }), "/epochs"),
        (json!({ "epochs": 1e39 }), "/epochs"),
        (json!({ "epochs": 1_000_000_000 }), "/epochs"),
        (json!({ "epochs": 1.5 }), "/epochs"),
        (json!({ "epochs": "3" }), "/epochs"),
        (json!({ "batch_size": 0 }), "/batch_size"),
        (json!({ "batch_size": 60_001 }), "/batch_size"),
        (json!({ "batch_size": 101, "train_samples": 100, "validation_fraction": 0 }), "/batch_size"),
        (json!({ "train_samples": 60_001 }), "/train_samples"),
        (json!({ "dataset": "mnits" }), "/dataset"),
        (json!({ "dataset": 3 }), "/dataset"),
        (json!({ "optimizer": { "type": "adma" } }), "/optimizer/type"),
        (json!({ "optimizer": { "learning_rate": 0 } }), "/optimizer/learning_rate"),
        (json!({ "optimizer": { "learning_rate": 1e39 } }), "/optimizer/learning_rate"),
        (json!({ "optimizer": { "betas": [0.9] } }), "/optimizer/betas"),
        (json!({ "optimizer": { "type": "sgd", "momentum": 0.9 } }), "/optimizer/momentum"),
        (json!({ "schedule": { "type": "linear" } }), "/schedule/type"),
        (json!({ "schedule": { "warmup_epochs": 6 } }), "/schedule/warmup_epochs"),
        (json!({ "loss": "hinge" }), "/loss"),
        (json!({ "network": "resnet" }), "/network"),
        (json!({ "network": 3 }), "/network"),
        (json!({ "network": {} }), "/network/layers"),
        (layers(json!([])), "/network/layers"),
        (layers(json!([{ "type": "dense", "units": 0 }, ten])), "/network/layers/0/units"),
        (layers(json!([{ "type": "dense", "units": 1_000_000_000 }, ten])), "/network/layers/0/units"),
        (layers(json!([{ "type": "dense", "unit": 5 }, ten])), "/network/layers/0/units"),
        (layers(json!([{ "type": "conv3d" }, ten])), "/network/layers/0/type"),
        (layers(json!([{ "units": 5 }, ten])), "/network/layers/0/type"),
        (layers(json!([3, ten])), "/network/layers/0"),
        (layers(json!([{ "type": "dense", "units": 9 }])), "/network/layers/0/units"),
        (layers(json!([ten, { "type": "relu" }])), "/network/layers/1"),
        (layers(json!([{ "type": "conv2d", "filters": 3 }, ten])), "/network/layers/0/kernel"),
        (layers(json!([{ "type": "conv2d", "filters": 3, "kernel": 29 }, ten])), "/network/layers/0/kernel"),
        (
            layers(json!([{ "type": "conv2d", "filters": 3, "kernel": 3, "padding": "full" }, ten])),
            "/network/layers/0/padding",
        ),
        (
            layers(
                json!([{ "type": "max_pool2d", "size": 20 }, { "type": "conv2d", "filters": 3, "kernel": 3 }, ten]),
            ),
            "/network/layers/1",
        ),
        (layers(json!([ten, { "type": "max_pool2d" }, ten])), "/network/layers/1"),
        (
            layers(json!([{ "type": "flatten" }, { "type": "conv2d", "filters": 3, "kernel": 3 }, ten])),
            "/network/layers/1",
        ),
        (layers(json!([{ "type": "dropout", "rate": 1 }, ten])), "/network/layers/0/rate"),
        (json!({ "augment": { "rotate": 3 } }), "/augment/rotate"),
        (json!({ "augment": { "elastic": { "sigma": 0 } } }), "/augment/elastic/sigma"),
        (json!({ "augment": 3 }), "/augment"),
        (json!({ "ema_decay": 1 }), "/ema_decay"),
        (json!({ "optimizer": { "type": "rmsprop", "centered": 1 } }), "/optimizer/centered"),
        (json!({ "schedule": { "type": "step", "step_size": 0 } }), "/schedule/step_size"),
        (json!({ "initial_model": "Nobody!" }), "/initial_model"),
        (json!({ "model": "Digits!" }), "/model"),
        (json!({ "model": "" }), "/model"),
        (json!({ "seed": -1 }), "/seed"),
        (json!({ "validation_fraction": 1 }), "/validation_fraction"),
        (json!({ "label_smoothing": 1 }), "/label_smoothing"),
        (json!({ "target_accuracy": 1.1 }), "/target_accuracy"),
        (json!({ "target_accuracy": 0.9, "validation_fraction": 0 }), "/target_accuracy"),
        (json!({ "gradient_clip_norm": -1 }), "/gradient_clip_norm"),
        (json!({ "early_stopping": { "patience": 0 } }), "/early_stopping/patience"),
        (json!({ "checkpoint": { "keep": 0 } }), "/checkpoint/keep"),
        (json!({ "initial_model": "nobody@3" }), "/initial_model"),
        (json!({ "epoch": 3 }), "/epoch"),
        (json!({ "a/b~c": 3 }), "/a~1b~0c"),
    ];
    for (request, pointer) in cases {
        let problem = job_faults(&server, request.clone()).await;
        assert!(pointers(&problem).contains(&pointer), "{request} gives {problem}");
    }

    let problem =
        job_faults(&server, json!({ "epochs": 0, "batch_size": 0, "dataset": "x", "colour": 1 })).await;
    let mut found = pointers(&problem);
    found.sort_unstable();
    assert_eq!(found, ["/batch_size", "/colour", "/dataset", "/epochs"]);
    let problem = job_faults(&server, json!({ "dataset": "mnits", "epoch": 3 })).await;
    let text = problem.to_string();
    assert!(
        text.contains("did you mean \\\"mnist\\\"") && text.contains("did you mean \\\"epochs\\\""),
        "{text}"
    );

    assert_eq!(server.get_json("/v1/jobs").await["jobs"], json!([]), "nothing was stored");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_would_take_too_much_is_refused_with_the_estimate() {
    let server = TestServer::start(&["--job-flops-max", "1e12"]).await;
    let problem = job_faults(&server, json!({ "epochs": 1_000 })).await;
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("floating-point operations")),
        "{problem}"
    );
    let wide = layers(json!([{ "type": "dense", "units": 16_384 }, { "type": "dense", "units": 16_384 },
        { "type": "dense", "units": 10 }]));
    let problem = job_faults(&server, wide).await;
    assert!(problem.to_string().contains("bytes of memory"), "{problem}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404_and_what_is_not_offered_405() {
    let server = TestServer::start(&[]).await;
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    problem(server.get(&format!("/v1/jobs/{unknown}")).await, 404, "unknown_job").await;
    problem(server.get(&format!("/v1/jobs/{unknown}/metrics")).await, 404, "unknown_job").await;
    problem(server.get(&format!("/v1/jobs/{unknown}/events")).await, 404, "unknown_job").await;
    problem(server.post(&format!("/v1/jobs/{unknown}/cancel"), "", "").await, 404, "unknown_job").await;
    problem(server.get("/v1/jobs/seven").await, 400, "invalid_job_id").await;
    problem(server.get("/v1/jobs/%FF").await, 400, "invalid_path").await;
    problem(server.get("/v1/models/digits").await, 404, "unknown_model").await;
    problem(server.get("/v1/models/Digits").await, 400, "invalid_model_reference").await;
    problem(server.post("/v1/models/digits/predict", "application/json", "{}").await, 404, "unknown_model")
        .await;
    problem(server.get("/v1/datasets/%FF").await, 400, "invalid_path").await;
    problem(server.get("/v1/datasets/mnist/%FF/0").await, 400, "invalid_path").await;
    problem(server.get(&format!("/v1/jobs/{unknown}/metrics?all=1")).await, 422, "invalid_query").await;
    problem(server.get("/v1/nothing").await, 404, "unknown_path").await;
    let response = server.http.put(server.path("/v1/jobs")).send().await.expect("an answer");
    let allow = response.headers()["allow"].to_str().expect("text").to_owned();
    assert!(allow.contains("POST") && allow.contains("GET"), "{allow}");
    problem(response, 405, "method_not_allowed").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_with_a_length_or_in_chunks() {
    let server = TestServer::start(&["--job-request-bytes-max", "10000"]).await;
    problem(post_job(&server, vec![b' '; 10_001]).await, 413, "body_too_large").await;
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1_000]));
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    problem(post_job(&server, stream).await, 413, "body_too_large").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_short_however_much_is_wrong() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let fields: serde_json::Map<String, Value> = (0..20_000).map(|n| (format!("{n:x}"), json!(1))).collect();
    let many = job_faults(&server, Value::Object(fields)).await;
    assert!(
        many.to_string().len() < 20_000 && many.to_string().contains("19980 more unknown fields"),
        "{many}"
    );
    let long = job_faults(&server, json!({ "model": "A".repeat(200_000) })).await;
    assert!(long.to_string().len() < 2_000, "{long}");

    let predict = async |request: Value| {
        let response =
            server.post("/v1/models/digits/predict", "application/json", request.to_string()).await;
        problem(response, 422, "invalid_request").await
    };
    let empty = predict(json!({ "images": vec![Value::Array(Vec::new()); 60_000] })).await;
    assert!(empty.to_string().len() < 20_000 && empty.to_string().contains("not 60000"), "{empty}");
    let nested = predict(json!({ "image": vec![json!([[[[0]]]]); 28] })).await;
    assert!(pointers(&nested).contains(&"/image/0"), "{nested}");
    let dark = predict(json!({ "image": vec![-1; 784] })).await;
    let detail = dark["detail"].as_str().expect("text");
    assert!(detail.starts_with("/image: 784 of its 784 numbers are not from 0 to 255"), "{dark}");
    let strings = predict(json!({ "image": vec!["x"; 784] })).await;
    assert!(strings.to_string().contains("there are more faults"), "{strings}");
    let scale = predict(json!({ "image": [], "scale": "x".repeat(1_000_000) })).await;
    assert!(scale.to_string().len() < 2_000, "{scale}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_body_is_415() {
    let server = TestServer::start(&[]).await;
    let request = server.http.post(server.path("/v1/jobs")).header("Content-Type", "application/json");
    let response = request.header("Content-Encoding", "gzip").body("{}").send().await.expect("an answer");
    problem(response, 415, "unsupported_content_encoding").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_with_retry_after_and_loses_nothing() {
    let server = TestServer::start(&["--queue-max", "2"]).await;
    let running = server.create(endless()).await;
    server.stepped(running["id"].as_str().expect("an id")).await;
    server.create(json!({})).await;
    server.create(json!({})).await;
    let response = post_job(&server, "{}").await;
    let seconds = response.headers()["retry-after"].to_str().ok().and_then(|seconds| seconds.parse().ok());
    assert!(seconds.is_some_and(|seconds: u32| (1..=3_600).contains(&seconds)), "{seconds:?}");
    problem(response, 429, "queue_full").await;
    problem(server.get("/readyz").await, 503, "queue").await;
    assert_eq!(server.get_json("/v1/jobs").await["jobs"].as_array().expect("jobs").len(), 3);
    server.stop().await;
}
