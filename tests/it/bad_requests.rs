//! Invalid input gets a clear error that names each fault. Nothing is stored and nothing breaks.

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
async fn a_job_that_is_too_expensive_is_refused_with_the_estimate() {
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
async fn a_missing_resource_is_404_and_a_missing_method_405() {
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
    for path in ["metrics", "events"] {
        let path = format!("/v1/jobs/{unknown}/{path}?all=1");
        problem(server.get(&path).await, 422, "invalid_query").await;
    }
    problem(server.get("/v1/nothing").await, 404, "unknown_path").await;
    problem(server.get("/v1/%FF").await, 404, "unknown_path").await;
    let response = server.http.put(server.path("/v1/jobs")).send().await.expect("an answer");
    let allow = response.headers()["allow"].to_str().expect("text").to_owned();
    assert!(allow.contains("POST") && allow.contains("GET"), "{allow}");
    problem(response, 405, "method_not_allowed").await;
    server.stop().await;
}

/// Every route with parameters in its path.
const PATHS: [(&str, &str); 20] = [
    ("GET", "/v1/jobs/*"),
    ("DELETE", "/v1/jobs/*"),
    ("GET", "/v1/jobs/*/metrics"),
    ("GET", "/v1/jobs/*/events"),
    ("POST", "/v1/jobs/*/cancel"),
    ("POST", "/v1/jobs/*/resume"),
    ("GET", "/v1/jobs/*/checkpoints"),
    ("GET", "/v1/jobs/*/checkpoints/*"),
    ("GET", "/v1/models/*"),
    ("DELETE", "/v1/models/*"),
    ("PUT", "/v1/models/*/aliases/*"),
    ("DELETE", "/v1/models/*/aliases/*"),
    ("POST", "/v1/models/*/predict"),
    ("POST", "/v1/models/*/explain"),
    ("POST", "/v1/models/*/trace"),
    ("POST", "/v1/models/*/microscope"),
    ("GET", "/v1/models/*/layers/*/weights"),
    ("GET", "/v1/datasets/*"),
    ("GET", "/v1/datasets/*/*/*"),
    ("GET", "/v1/activations/*"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_utf_8_is_refused_by_every_route_in_the_same_words() {
    let server = TestServer::start(&[]).await;
    for (method, path) in PATHS {
        for place in 0..path.matches('*').count() {
            let mut words = path.split('*');
            let mut bad = words.next().expect("a path").to_owned();
            for (index, word) in words.enumerate() {
                bad.push_str(if index == place { "%ff" } else { "x" });
                bad.push_str(word);
            }
            let method = method.parse().expect("a method");
            let request = server.http.request(method, server.path(&bad)).json(&json!({}));
            let refusal = problem(request.send().await.expect("an answer"), 400, "invalid_path").await;
            assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains(&bad)), "{refusal}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_refused_with_the_name_of_each_parameter_at_fault() {
    let server = TestServer::start(&[]).await;
    let detail = async |response: Response| {
        let problem = problem(response, 422, "invalid_query").await;
        (problem["detail"].as_str().expect("text").to_owned(), problem)
    };
    let predict = async |query: &str| {
        let path = format!("/v1/models/digits/predict?{query}");
        detail(server.post(&path, "application/octet-stream", vec![0; 784]).await).await
    };
    let (unknown, problem) = predict("tpo=3").await;
    assert_eq!(unknown, "unknown parameter \"tpo\", did you mean \"top\"?");
    assert_eq!(pointers(&problem), ["/tpo"]);
    let (all, problem) = predict("top=x&prepare=none&prepare=none").await;
    assert_eq!(all, "top must be a whole number, not \"x\"; parameter \"prepare\" is given twice");
    assert_eq!(pointers(&problem), ["/top", "/prepare"]);
    let (state, _) = detail(server.get("/v1/jobs?state=runing").await).await;
    assert_eq!(state, "unknown state \"runing\", did you mean \"running\"?");
    let (cursor, _) = detail(server.get("/v1/jobs?cursor=x%20y").await).await;
    assert_eq!(cursor, "cursor must be the next_cursor of a response, not \"x y\"");
    let (none, _) = detail(server.post("/v1/jobs?epochs=3", "application/json", "{}").await).await;
    assert_eq!(none, "unknown parameter \"epochs\", there are none here");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_fit_the_state_of_a_job_is_refused_with_that_state() {
    let server = TestServer::start(&[]).await;
    let running = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    server.stepped(&running).await;
    let waiting = server.create(json!({})).await["id"].as_str().expect("an id").to_owned();
    for (id, state) in [(&running, "is running"), (&waiting, "waits in the queue")] {
        let refused = server.post(&format!("/v1/jobs/{id}/resume"), "", "").await;
        let refused = problem(refused, 409, "job_not_stopped").await;
        let expected = format!("job {id} {state}; only one that failed or was cancelled is resumed");
        assert_eq!(refused["detail"], expected.as_str());
        let kept = problem(server.delete(&format!("/v1/jobs/{id}")).await, 409, "job_not_ended").await;
        assert!(kept["detail"].as_str().is_some_and(|detail| detail.contains(state)), "{kept}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_img_element_gets_a_picture_and_the_address_bar_gets_json() {
    let server = TestServer::start(&[]).await;
    for (accept, media_type) in [
        (&["image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"][..], "image/png"),
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"], "application/json"),
        (&["application/json;q=0.2", "image/png;q=0.9"], "image/png"),
        (&["*/*;q=1, image/png;q=0.1"], "application/json"),
    ] {
        let mut request = server.http.get(server.path("/v1/datasets/mnist/test/0"));
        for line in accept {
            request = request.header("Accept", *line);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], media_type, "{accept:?}");
    }
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
    let server = TestServer::start(&["--queue-max", "4"]).await;
    let running = server.create(endless()).await;
    server.stepped(running["id"].as_str().expect("an id")).await;
    server.create(json!({})).await;
    server.create(json!({})).await;
    // One client can have at most half of the queue.
    problem(post_job(&server, "{}").await, 429, "queue_full").await;
    server.create_from([127, 0, 0, 2], json!({})).await;
    server.create_from([127, 0, 0, 2], json!({})).await;
    let response = post_job(&server, "{}").await;
    let seconds = response.headers()["retry-after"].to_str().ok().and_then(|seconds| seconds.parse().ok());
    assert!(seconds.is_some_and(|seconds: u32| (1..=3_600).contains(&seconds)), "{seconds:?}");
    problem(response, 429, "queue_full").await;
    problem(server.get("/readyz").await, 503, "queue").await;
    assert_eq!(server.get_json("/v1/jobs").await["jobs"].as_array().expect("jobs").len(), 5);
    server.stop().await;
}
