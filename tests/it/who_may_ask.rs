//! Which hosts and sites may send requests, and with which framing.

use serde_json::{Value, json};

use crate::raw::{Answer, ask};
use crate::server::{TestServer, endless, problem};

async fn with_head(server: &TestServer, request: &str, headers: &[&str]) -> Answer {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    ask(server, &format!("{request} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_an_address_or_localhost_or_a_name_that_is_allowed() {
    let server = TestServer::start(&["--allowed-hosts", "digits.example,Reader.Local"]).await;
    for host in [
        "localhost",
        "LocalHost:8080",
        "127.0.0.1",
        "192.168.7.7:80",
        "[::1]:8080",
        "digits.example:9",
        "reader.local",
    ] {
        let answer = with_head(&server, "GET /v1/jobs", &[&format!("Host: {host}")]).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
    }
    for host in ["rebind.example", "localhost.example", "digits.example.evil", "127.0.0.1.example", "x"] {
        let answer = with_head(&server, "GET /v1/jobs", &[&format!("Host: {host}")]).await;
        answer.assert(421, "unknown_host");
        assert!(answer.text.contains(host), "{}", answer.text);
    }
    with_head(&server, "GET /v1/jobs", &[]).await.assert(400, "invalid_host");
    with_head(&server, "GET /v1/jobs", &["Host: localhost", "Host: localhost"])
        .await
        .assert(400, "invalid_host");
    with_head(&server, "GET /v1/jobs", &["Host: a b"]).await.assert(400, "invalid_host");
    for host in ["user@localhost", "localhost:evil", "[::1].evil.example"] {
        with_head(&server, "GET /v1/jobs", &[&format!("Host: {host}")]).await.assert(400, "invalid_host");
    }
    with_head(&server, "GET http://rebind.example/v1/jobs", &["Host: localhost"])
        .await
        .assert(421, "unknown_host");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_changes_nothing() {
    let server = TestServer::start(&[]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let cancel = format!("POST /v1/jobs/{id}/cancel");
    let host = "Host: localhost:8080";
    for headers in [
        &["Sec-Fetch-Site: cross-site"][..],
        &["Sec-Fetch-Site: same-site"],
        &["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
        &["Origin: http://evil.example"],
        &["Origin: null"],
        &["Origin: http://localhost:8081"],
        &["Origin: https://localhost"],
        &["Origin: http://localhost:8080", "Origin: http://evil.example"],
        &["Origin: http://localhost:8080", "Sec-Fetch-Site: cross-site"],
    ] {
        with_head(&server, &cancel, &[&[host], headers].concat()).await.assert(403, "cross_site");
        for request in [&format!("DELETE /v1/jobs/{id}"), "PUT /v1/models/digits/aliases/a", "POST /v1/jobs"]
        {
            with_head(&server, request, &[&[host], headers].concat()).await.assert(403, "cross_site");
        }
        let read = with_head(&server, "GET /v1/jobs", &[&[host], headers].concat()).await;
        assert_eq!(read.status, 200, "reading is for everyone: {}", read.text);
    }
    assert_eq!(server.get_json(&format!("/v1/jobs/{id}")).await["finished_at"], Value::Null);
    for headers in [
        &["Sec-Fetch-Site: same-origin", "Origin: http://elsewhere.example"][..],
        &["Sec-Fetch-Site: none"],
        &["Origin: http://localhost:8080"],
        &[],
    ] {
        let answer = with_head(&server, &cancel, &[&[host], headers].concat()).await;
        assert!(matches!(answer.status, 202 | 409), "{headers:?}: {}", answer.text);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_resume_accept_neither_forms_nor_text() {
    let server = TestServer::start(&[]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    for action in ["cancel", "resume"] {
        let path = format!("/v1/jobs/{id}/{action}");
        for media_type in
            ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"]
        {
            problem(server.post(&path, media_type, "a=b").await, 415, "unsupported_media_type").await;
        }
    }
    assert_eq!(server.get_json(&format!("/v1/jobs/{id}")).await["finished_at"], Value::Null);
    let cancelled = server.post(&format!("/v1/jobs/{id}/cancel"), "application/json", "{}").await;
    assert_eq!(cancelled.status(), 202);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let server = TestServer::start(&[]).await;
    let json = ["Host: localhost", "Content-Type: application/json"];
    let with = |more: &[&'static str]| [&json[..], more].concat();
    with_head(&server, "POST /v1/jobs", &with(&["Transfer-Encoding: gzip, chunked"]))
        .await
        .assert(501, "unsupported_transfer_encoding");
    let keys = with(&["Idempotency-Key: a", "Idempotency-Key: a", "Content-Length: 2"]);
    let lines: String = keys.iter().map(|line| format!("{line}\r\n")).collect();
    let twice = format!("POST /v1/jobs HTTP/1.1\r\n{lines}Connection: close\r\n\r\n{{}}");
    ask(&server, &twice).await.assert(400, "invalid_idempotency_key");
    assert_eq!(server.get_json("/v1/jobs").await["jobs"], json!([]), "nothing was stored");
    server.stop().await;
}
