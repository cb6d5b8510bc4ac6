//! What operators see of requests: the log, the metrics and the readiness.

use std::io::Read;
use std::path::Path;

use chainrule::config::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::process::Process;
use crate::raw::{ask, connect_from};
use crate::server::{TestServer, config, endless, problem};

/// Returns what a server logs as JSON about the requests of `ask`, at most `requests_max` in a second.
fn logged(requests_max: u32, ask: impl FnOnce(&Process)) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, mut log) = Process::serve_logging(folder.path(), requests_max);
    ask(&process);
    process.signal("TERM");
    assert!(process.wait().success());
    let mut text = String::new();
    log.read_to_string(&mut text).expect("text");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect()
}

#[test]
fn a_request_is_logged_in_a_line_with_its_client_and_its_bytes() {
    let body = json!({ "expression": "x * 2", "inputs": { "x": 3 } }).to_string();
    let mut answered = 0;
    let lines = logged(100, |process| {
        let head = "POST /v1/graph HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
        let answer = process.ask(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        answered = answer.split_once("\r\n\r\n").expect("a head").1.len();
    });
    let line = lines.iter().find(|line| line["path"] == "/v1/graph").expect("a line");
    assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("request")));
    assert_eq!(
        (&line["client"], &line["method"], &line["status"]),
        (&json!("127.0.0.1"), &json!("POST"), &json!(200))
    );
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(body.len()), &json!(answered)));
    assert!(line["elapsed_seconds"].as_f64() > Some(0.0) && line["request_id"].is_string(), "{line}");
}

/// Requests that succeed and requests with errors are limited separately, so that neither hides the other.
#[test]
fn the_lines_about_requests_are_limited() {
    let paths = |requests_max: u32| {
        let lines = logged(requests_max, |process| {
            for path in ["/healthz", "/unknown"] {
                process.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
            }
        });
        let paths = lines.iter().filter(|line| line["message"] == "request");
        paths.map(|line| line["path"].as_str().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(1), ["/healthz", "/unknown"]);
    assert_eq!(paths(0), [""; 0]);
}

/// However many refusals there are, the log has one line per second for each kind.
#[test]
fn refusals_are_logged_as_few_warnings() {
    let refused = 200;
    let lines = logged(100, |process| {
        for _ in 0..refused {
            let answer =
                process.ask("GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        }
        let answer = process.ask("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    });
    let of = |reason: &str| lines.iter().filter(|line| line["refusal"] == reason).collect::<Vec<_>>();
    let (hosts, sites) = (of("unknown_host"), of("cross_site"));
    assert!((1..refused / 2).contains(&hosts.len()), "{} lines", hosts.len());
    assert_eq!(sites.len(), 1);
    assert!(hosts.iter().chain(&sites).all(|line| line["level"] == "WARN" && line["client"] == "127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_cover_the_process_its_connections_lanes_memory_and_refusals() {
    let server = TestServer::start(&[]).await;
    ask(&server, "GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    let text = server.get("/metrics").await.text().await.expect("text");
    let value = |name: &str| -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    };
    if cfg!(target_os = "linux") {
        for name in ["resident_memory_bytes", "threads", "open_fds", "max_fds", "start_time_seconds"] {
            assert!(value(&format!("process_{name}")) > 0.0, "{name}");
        }
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
    assert!(value("chainrule_open{kind=\"connections\"}") >= 1.0);
    assert!(value("chainrule_requests_under_way") >= 1.0);
    assert!(value("chainrule_memory_charged_bytes") >= f64::from(48 << 10));
    assert_eq!(value("chainrule_refusals_total{reason=\"unknown_host\"}"), 1.0);
    for lane in ["predict", "batch", "pictures", "lab", "text", "other"] {
        assert_eq!(value(&format!("chainrule_lane_running{{lane=\"{lane}\"}}")), 0.0);
        assert_eq!(value(&format!("chainrule_lane_waiting{{lane=\"{lane}\"}}")), 0.0);
    }
    let (target, version) = (std::env::consts::ARCH, env!("CARGO_PKG_VERSION"));
    let build = format!("chainrule_build_info{{target=\"{target}\",version=\"{version}\"}} 1");
    assert!(text.lines().any(|line| line == build), "{text}");
    server.stop().await;
}

/// A load balancer must not send predictions to a server that refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_predictions_is_not_ready() {
    // There is room for about twenty connections.
    let server = TestServer::start(&["--memory-bytes-max", "1048576"]).await;
    assert_eq!(server.get("/readyz").await.status(), StatusCode::OK);
    let mut held = Vec::new();
    for last in 2..200 {
        held.push(connect_from(&server, [127, 0, 0, last]).await);
        let answer = server.get("/readyz").await;
        if answer.status() != StatusCode::OK {
            problem(answer, 503, "predictions").await;
            break;
        }
    }
    assert!((15..25).contains(&held.len()), "{} connections", held.len());
    drop(held);
    while server.get("/readyz").await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[test]
fn a_server_that_others_can_reach_warns() {
    let exposure = |listen: &str| {
        let listen = listen.parse().expect("an address");
        Config { listen, ..config(Path::new("."), &[]) }.exposure()
    };
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.7:80", "[2001:db8::1]:80"] {
        let sentence = exposure(address).expect("a sentence");
        assert!(sentence.contains(address) && sentence.contains("no authentication"), "{sentence}");
    }
    for address in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
        assert_eq!(exposure(address), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_clients_when_to_reconnect() {
    let server = TestServer::start(&[]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let mut events = server.get(&format!("/v1/jobs/{id}/events")).await;
    let first = events.chunk().await.expect("a part").expect("some of it");
    assert!(String::from_utf8_lossy(&first).contains("retry: 1000"), "{first:?}");
    drop(events);
    server.stop().await;
}
