//! The routes for operators.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{TestServer, endless, problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_alive_and_ready() {
    let server = TestServer::start(&[]).await;
    assert_eq!(server.get_json("/healthz").await["status"], "ok");
    assert_eq!(server.get_json("/readyz").await["status"], "ok");
    // Probes and scrapers may send parameters of their own.
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/"] {
        assert_eq!(server.get(&format!("{path}?probe=1")).await.status(), StatusCode::OK, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_jobs_for_lack_of_space_is_not_ready() {
    let server = TestServer::start(&["--min-free-bytes", "9000000000000000"]).await;
    problem(server.post("/v1/jobs", "application/json", "{}").await, 507, "disk_full").await;
    let unready = problem(server.get("/readyz").await, 503, "disk").await;
    assert_eq!(unready["detail"], "the data folder has less free space than --min-free-bytes");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_jobs_epochs_and_predictions() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 3 * 784]).await;
    server.get("/v1/jobs/seven").await;
    server.get("/no/such/path").await;
    let response = server.get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.expect("text");
    for line in [
        "chainrule_http_requests_total{method=\"POST\",route=\"/v1/jobs\",status=\"202\"} 1",
        "chainrule_http_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"400\"} 1",
        "chainrule_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "chainrule_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/jobs\"} 1",
        "chainrule_jobs{state=\"succeeded\"} 1",
        "chainrule_jobs{state=\"running\"} 0",
        "chainrule_queue_length 0",
        "# TYPE chainrule_training_epochs_total counter",
        "chainrule_training_epochs_total 2",
        "chainrule_predictions_total{model=\"digits\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in
        ["chainrule_epoch_train_loss{worker=\"0\"}", "chainrule_epoch_validation_accuracy{worker=\"0\"}"]
    {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.trim().parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name} in\n{text}");
    }
    let request = server.http.get(server.path("/metrics")).header("Accept", "application/openmetrics-text");
    let media_type = request.send().await.expect("an answer").headers()["content-type"].clone();
    assert_eq!(media_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_versions_has_no_series_on_any_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = TestServer::start_in(folder.path(), &[]).await;
    first.with_model().await;
    let second = TestServer::start_in(folder.path(), &[]).await;
    let has_series = async |server: &TestServer| {
        let text = server.get("/metrics").await.text().await.expect("text");
        text.contains("chainrule_predictions_total{model=\"digits\"}")
    };
    for server in [&first, &second] {
        server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784]).await;
        assert!(has_series(server).await);
    }
    assert_eq!(first.delete("/v1/models/digits@1").await.status(), StatusCode::NO_CONTENT);
    assert!(!has_series(&first).await);
    let learns = async { while second.get("/v1/models/digits").await.status() != StatusCode::NOT_FOUND {} };
    tokio::time::timeout(Duration::from_secs(60), learns).await.expect("the second server learns of it");
    assert!(!has_series(&second).await);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_request_id_and_keeps_a_plain_one_of_the_client() {
    let server = TestServer::start(&[]).await;
    let own = server.get("/healthz").await.headers()["x-request-id"].clone();
    assert_eq!(own.len(), 36);
    let send = async |id: &str| {
        let request = server.http.get(server.path("/v1/nothing")).header("X-Request-Id", id);
        let response = request.send().await.expect("an answer");
        let header = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        let problem = problem(response, 404, "unknown_path").await;
        assert_eq!(problem["request_id"], header.as_str());
        header
    };
    assert_eq!(send("lesson-7").await, "lesson-7");
    assert_ne!(send("a b\"c").await, "a b\"c");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_jobs_and_models_and_curl_lines_for_this_address() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    let response = server.get("/").await;
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let page = response.text().await.expect("text");
    for text in
        [job["id"].as_str().expect("an id"), "/v1/models/digits", &format!("curl -s {}/v1/jobs", server.url)]
    {
        assert!(page.contains(text), "{text} is not in\n{page}");
    }
    let request = server.http.get(server.path("/")).header("Host", "x\"><script>");
    if let Ok(response) = request.send().await {
        assert!(!response.text().await.expect("text").contains("<script>"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mnist_is_listed_with_its_figures_and_examples() {
    let server = TestServer::start(&[]).await;
    let list = server.get_json("/v1/datasets").await;
    assert_eq!((&list["datasets"][0]["name"], &list["next_cursor"]), (&json!("mnist"), &Value::Null));
    let mnist = server.get_json("/v1/datasets/mnist").await;
    assert_eq!(mnist["shape"], json!([28, 28]));
    let rounded = |name: &str| mnist[name].as_f64().map(|value| (value * 1e4).round() / 1e4);
    assert_eq!((rounded("mean"), rounded("deviation")), (Some(0.1307), Some(0.3081)));
    assert_eq!(mnist["splits"]["train"]["examples"], 60_000);
    assert_eq!(
        mnist["splits"]["test"]["per_class"],
        json!([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    );
    let example = server.get_json("/v1/datasets/mnist/test/0").await;
    assert_eq!(
        (&example["label"], &example["class"], &example["index"]),
        (&json!(7), &json!("7"), &json!(0))
    );
    assert_eq!(example["image"].as_array().map(Vec::len), Some(28));
    let request =
        server.http.get(server.path("/v1/datasets/mnist/train/59999")).header("Accept", "image/png");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "image/png");
    assert!(response.bytes().await.expect("bytes").starts_with(b"\x89PNG"));
    for (accept, media_type) in [
        ("IMAGE/PNG", "image/png"),
        ("application/json;q=0.1, image/png;q=0.5", "image/png"),
        ("application/json, image/png;q=0.1", "application/json"),
        ("image/png;q=0", "application/json"),
    ] {
        let request = server.http.get(server.path("/v1/datasets/mnist/test/0")).header("Accept", accept);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], media_type, "{accept}");
    }
    problem(server.get("/v1/datasets/mnits").await, 404, "unknown_dataset").await;
    problem(server.get("/v1/datasets/mnist/dev/0").await, 404, "unknown_split").await;
    for index in ["10000", "-1", "+1", "01", "00"] {
        problem(server.get(&format!("/v1/datasets/mnist/test/{index}")).await, 404, "unknown_example").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_streams_are_refused_not_queued() {
    let server = TestServer::start(&["--streams-max", "1"]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let stream = server.get(&format!("/v1/jobs/{id}/events")).await;
    let refused = server.get(&format!("/v1/jobs/{id}/events")).await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 503, "too_many_streams").await;
    assert_eq!(server.get("/healthz").await.status(), StatusCode::OK, "whoever watches it is answered");
    drop(stream);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let server = TestServer::start(&["--header-timeout-seconds", "1"]).await;
    let address = server.url.strip_prefix("http://").expect("an address");
    for sent in ["", "GET /healthz HTTP/1.1\r\nHost:"] {
        let mut connection = tokio::net::TcpStream::connect(address).await.expect("a connection");
        connection.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{sent:?} was not closed");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_408() {
    let server = TestServer::start(&["--body-timeout-seconds", "1"]).await;
    let never =
        reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    problem(server.post("/v1/jobs", "application/json", never).await, 408, "body_timeout").await;
    server.stop().await;
}
