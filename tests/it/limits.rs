//! The limits hold: no request starves others or keeps what was charged to it.

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{ask, connect, connect_from, read};
use crate::server::{TestServer, endless, problem};

const HEAD: &str = "Host: localhost\r\n";

/// Returns the current value of a metric.
async fn metric(server: &TestServer, name: &str) -> i64 {
    let text = server.get("/metrics").await.text().await.expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    // A counter of refusals is absent until the first refusal.
    let none = name.starts_with("chainrule_refusals_total").then_some(0);
    value.or(none).unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

async fn until_metric(server: &TestServer, name: &str, is_so: impl Fn(i64) -> bool) {
    while !is_so(metric(server, name).await) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_and_never_sent_is_charged_nothing() {
    let server = TestServer::start(&["--memory-bytes-max", "33554432"]).await;
    server.with_model().await;
    let before = metric(&server, "chainrule_memory_charged_bytes").await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut connection = connect(&server).await;
        let head = format!(
            "POST /v1/models/digits/predict HTTP/1.1\r\n{HEAD}Content-Type: application/octet-stream\r\nContent-Length: 2097152\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.expect("sent");
        silent.push(connection);
    }
    until_metric(&server, "chainrule_requests_under_way", |count| count > 64).await;
    let charged = metric(&server, "chainrule_memory_charged_bytes").await - before;
    let connections = 64 * (48 << 10);
    assert!(
        (connections..connections * 5 / 4).contains(&charged),
        "{charged} bytes for bodies that have not come"
    );
    let answer = server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    drop(silent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_can_not_have_all_the_memory() {
    let server =
        TestServer::start(&["--memory-bytes-max", "33554432", "--body-timeout-seconds", "600"]).await;
    server.with_model().await;
    let mut connections = Vec::new();
    for _ in 0..8 {
        let mut connection = connect_from(&server, [127, 0, 0, 2]).await;
        let head = format!(
            "POST /v1/models/digits/predict HTTP/1.1\r\n{HEAD}Content-Type: application/octet-stream\r\nContent-Length: 2097152\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.expect("sent");
        // The server may refuse the request before the client has sent all of it.
        let _ = connection.write_all(&vec![0; 3 << 19]).await;
        connections.push(connection);
    }
    until_metric(&server, "chainrule_refusals_total{reason=\"too_many_bytes\"}", |count| count > 0).await;
    let large =
        server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784 * 1000]).await;
    assert_eq!(large.status(), StatusCode::OK, "another client has room");
    drop(connections);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_a_job_blocks_nobody() {
    let server = TestServer::start(&["--requests-max", "1", "--waits-max", "8"]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let request = server.http.get(server.path(&format!("/v1/jobs/{id}?wait_seconds=60"))).send();
            tokio::spawn(request)
        })
        .collect();
    until_metric(&server, "chainrule_open{kind=\"waits\"}", |count| count == 4).await;
    assert_eq!(server.get("/v1/models").await.status(), StatusCode::OK);
    let refused = server.get(&format!("/v1/jobs/{id}?wait_seconds=60")).await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 503, "too_many_waits").await;
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.status(), StatusCode::OK);
    server.stop().await;
    for waiting in waiting {
        assert!(waiting.await.expect("the request ends with the server").is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_that_was_idle_longest_is_closed_for_a_new_one() {
    let server = TestServer::start(&["--connections-per-client-max", "3"]).await;
    let mut first = connect_from(&server, [127, 0, 0, 2]).await;
    let mut second = connect_from(&server, [127, 0, 0, 2]).await;
    until_metric(&server, "chainrule_open{kind=\"connections\"}", |count| count >= 3).await;
    // This request makes the first connection the most recently used one.
    let request = format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n");
    first.write_all(request.as_bytes()).await.expect("sent");
    assert!(first.read(&mut [0; 4096]).await.expect("an answer") > 0);
    let _third = connect_from(&server, [127, 0, 0, 2]).await;
    let mut fourth = connect_from(&server, [127, 0, 0, 2]).await;
    fourth.write_all(request.as_bytes()).await.expect("sent");
    assert!(fourth.read(&mut [0; 4096]).await.expect("an answer") > 0);
    assert_eq!(second.read(&mut [0; 16]).await.unwrap_or_default(), 0, "the second was closed");
    first.write_all(request.as_bytes()).await.expect("sent");
    assert!(first.read(&mut [0; 4096]).await.expect("an answer") > 0, "the first was not");
    server.stop().await;
}

/// A connection whose body stalls is closed before a connection that was just used.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_body_stalls_is_closed_for_a_new_one() {
    // No body is late, however busy the machine is.
    let server =
        TestServer::start(&["--connections-per-client-max", "3", "--body-timeout-seconds", "600"]).await;
    server.with_model().await;
    let head = format!(
        "POST /v1/models/digits/predict HTTP/1.1\r\n{HEAD}Content-Type: application/octet-stream\r\nContent-Length: 784\r\n\r\n"
    );
    let mut stalled = Vec::new();
    for part in [0, 1] {
        let mut connection = connect_from(&server, [127, 0, 0, 2]).await;
        connection.write_all(head.as_bytes()).await.expect("sent");
        connection.write_all(&vec![0; part]).await.expect("sent");
        stalled.push(connection);
        let under_way = 2 + part as i64;
        until_metric(&server, "chainrule_requests_under_way", |count| count == under_way).await;
    }
    let mut slow = connect_from(&server, [127, 0, 0, 2]).await;
    slow.write_all(head.as_bytes()).await.expect("sent");
    slow.write_all(&[0; 783]).await.expect("sent");
    until_metric(&server, "chainrule_requests_under_way", |count| count == 4).await;
    let request = format!("GET /healthz HTTP/1.1\r\n{HEAD}\r\n");
    let mut others = Vec::new();
    for mut closed in stalled {
        let mut other = connect_from(&server, [127, 0, 0, 2]).await;
        other.write_all(request.as_bytes()).await.expect("sent");
        assert!(other.read(&mut [0; 4096]).await.expect("an answer") > 0);
        assert_eq!(closed.read(&mut [0; 16]).await.unwrap_or_default(), 0, "it made room");
        others.push(other);
    }
    slow.write_all(&[0]).await.expect("sent");
    let mut answer = [0; 4096];
    let length = slow.read(&mut answer).await.expect("an answer");
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connections_are_all_busy_gets_no_more() {
    let server = TestServer::start(&["--connections-per-client-max", "2"]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut connection = connect_from(&server, [127, 0, 0, 2]).await;
        let request = format!("GET /v1/jobs/{id}?wait_seconds=60 HTTP/1.1\r\n{HEAD}\r\n");
        connection.write_all(request.as_bytes()).await.expect("sent");
        busy.push(connection);
    }
    until_metric(&server, "chainrule_open{kind=\"waits\"}", |count| count == 2).await;
    let answer = read(&mut connect_from(&server, [127, 0, 0, 2]).await).await;
    answer.assert(503, "too_many_connections");
    assert!(answer.text.contains("Retry-After: 1"), "{}", answer.text);
    assert_eq!(server.get("/v1/models").await.status(), StatusCode::OK, "other clients get in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let server = TestServer::start(&["--write-timeout-seconds", "1"]).await;
    let mut connection = connect_from(&server, [127, 0, 0, 2]).await;
    let request = format!("GET /v1/activations/sigmoid?points=10000 HTTP/1.1\r\n{HEAD}\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut most = 0;
    while metric(&server, "chainrule_refusals_total{reason=\"answer_not_taken\"}").await == 0 {
        most = most.max(metric(&server, "chainrule_memory_charged_bytes").await);
    }
    assert!(most > 500_000, "{most} bytes are charged for an answer that is not taken");
    // The charge of a few connections remains. It is smaller than the response.
    until_metric(&server, "chainrule_memory_charged_bytes", |charged| charged < 400_000).await;
    let taken = server.get("/v1/activations/sigmoid?points=10000").await.bytes().await;
    assert!(taken.expect("whoever takes it gets all of it").len() > 500_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_off_is_reported_as_incomplete() {
    let server = TestServer::start(&[]).await;
    let mut connection = connect(&server).await;
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{}}"
    );
    connection.write_all(request.as_bytes()).await.expect("sent");
    connection.shutdown().await.expect("half of it closed");
    read(&mut connection).await.assert(400, "body_cut_off");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_work_has_its_own_places_and_a_disconnect_stops_the_work() {
    let flags = [
        "--long-work-max",
        "1",
        "--waiting-max",
        "2",
        "--lab-flops-max",
        "1e15",
        "--memory-bytes-max",
        "402653184",
        "--waiting-seconds-max",
        "600",
    ];
    let server = TestServer::start(&flags).await;
    server.with_model().await;
    let endless_check = || {
        let body = json!({ "network": "cnn-best", "samples": 256, "parameters": 1_000 });
        let request = server.http.post(server.path("/v1/gradient-check")).json(&body).send();
        tokio::spawn(request)
    };
    let running = endless_check();
    until_metric(&server, "chainrule_lane_running{lane=\"lab\"}", |count| count == 1).await;
    let waiting = endless_check();
    until_metric(&server, "chainrule_lane_waiting{lane=\"lab\"}", |count| count == 1).await;
    let refused = server.post("/v1/gradient-check", "application/json", "{}").await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 503, "lane_full").await;

    let one = server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784]).await;
    assert_eq!(one.status(), StatusCode::OK);
    let many =
        server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784 * 10_000]).await;
    assert_eq!(many.status(), StatusCode::OK);
    assert_eq!(server.get("/v1/models").await.status(), StatusCode::OK);

    running.abort();
    until_metric(&server, "chainrule_lane_waiting{lane=\"lab\"}", |count| count == 0).await;
    waiting.abort();
    until_metric(&server, "chainrule_lane_running{lane=\"lab\"}", |count| count == 0).await;
    server.stop().await;
}

/// Two clients send two batches to a lane with one place. Each batch gets the predictions for all its images.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_several_clients_take_turns_and_get_the_same_answers_as_alone() {
    let server = TestServer::start(&["--long-work-max", "1"]).await;
    server.with_model().await;
    let images: Vec<u8> =
        (0..784 * 6_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = server.path("/v1/models/digits/predict");
    let post = |last: u8, images: Vec<u8>| {
        let request = server.client_at([127, 0, 0, last]).post(&path);
        let request = request.header("Content-Type", "application/octet-stream").body(images);
        async move { request.send().await.expect("an answer").json::<serde_json::Value>().await.expect("JSON") }
    };
    let alone = post(2, images.clone()).await;
    assert_eq!(alone["predictions"].as_array().map(Vec::len), Some(6_000));
    let together = futures_util::future::join_all((2..8).map(|last| post(last, images.clone()))).await;
    assert!(together.iter().all(|answer| *answer == alone));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_that_needs_too_many_operations_is_refused_with_their_number() {
    let server = TestServer::start(&["--predict-flops-max", "1e6"]).await;
    server.with_model().await;
    let path = "/v1/models/digits/predict";
    let one = server.post(path, "application/octet-stream", vec![0; 784]).await;
    assert_eq!(one.status(), StatusCode::OK);
    let many = server.post(path, "application/octet-stream", vec![0; 784 * 500]).await;
    let detail = problem(many, 422, "prediction_too_large").await["detail"].to_string();
    assert!(detail.contains("500 images") && detail.contains("1.0e6"), "{detail}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_more_pixels_than_a_request_may_have_are_refused_before_they_are_decoded() {
    let server = TestServer::start(&["--pictures-pixels-max", "2000"]).await;
    server.with_model().await;
    let request = server.http.get(server.path("/v1/datasets/mnist/test/0")).header("Accept", "image/png");
    let png = request.send().await.expect("an answer").bytes().await.expect("bytes");
    let form = |pictures: usize| {
        let file = || reqwest::multipart::Part::bytes(png.to_vec()).file_name("a.png");
        let form = (0..pictures).fold(reqwest::multipart::Form::new(), |form, _| form.part("image", file()));
        server.http.post(server.path("/v1/models/digits/predict")).multipart(form).send()
    };
    assert_eq!(form(2).await.expect("an answer").status(), StatusCode::OK);
    problem(form(3).await.expect("an answer"), 422, "picture_too_large").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_never_be_admitted_is_refused_for_good() {
    let server = TestServer::start(&["--memory-bytes-max", "2097152"]).await;
    server.with_model().await;
    let answer =
        server.post("/v1/models/digits/predict", "application/octet-stream", vec![0; 784 * 240]).await;
    assert!(!answer.headers().contains_key("retry-after"));
    problem(answer, 422, "request_too_large").await;
    let head = format!(
        "POST /v1/models/digits/predict HTTP/1.1\r\n{HEAD}Content-Type: application/octet-stream\r\nContent-Length: 1568000\r\nConnection: close\r\n\r\n"
    );
    ask(&server, &head).await.assert(413, "body_too_large");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_be_as_large_as_any_body() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let file = reqwest::multipart::Part::bytes(vec![7; 3 << 20]).file_name("a.png");
    let form = reqwest::multipart::Form::new().part("image", file);
    let request = server.http.post(server.path("/v1/models/digits/predict")).multipart(form);
    problem(request.send().await.expect("an answer"), 422, "invalid_picture").await;
    server.stop().await;
}
