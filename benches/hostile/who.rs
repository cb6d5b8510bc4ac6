//! Checks which hosts, sites and framings are accepted. Each check is a single request with its expected
//! response.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Rlimit;
use tokio::time::timeout;

use crate::attack::Scene;
use crate::scene::{Side, ask};
use crate::wire::{Connection, get, loopback};

const STRANGER: u8 = 7;
const WITHIN: Duration = Duration::from_secs(10);

/// A request and its expected response.
pub struct Case {
    pub what: String,
    pub status: u16,
    /// The code of the problem, if it matters.
    pub code: Option<&'static str>,
    message: Vec<u8>,
}

impl Case {
    fn new(
        what: impl Into<String>,
        status: u16,
        code: Option<&'static str>,
        message: impl Into<Vec<u8>>,
    ) -> Self {
        Self { what: what.into(), status, code, message: message.into() }
    }

    pub fn expected(&self) -> String {
        shown(self.status, self.code.unwrap_or_default())
    }
}

fn shown(status: u16, code: &str) -> String {
    if code.is_empty() { status.to_string() } else { format!("{status} `{code}`") }
}

/// The response that was received.
#[derive(Clone, Debug)]
pub struct Came {
    pub shown: String,
    pub is_expected: bool,
}

/// Sends every request to a server of `side`, in order, each on a new connection.
pub async fn run(side: &Side, files: &Rlimit) -> Result<Vec<(Case, Came)>> {
    let set = side.set(Scene::Models, files).await?;
    let (_, jobs) = ask(set.server.address, &get("/v1/jobs?model=digits&limit=1")).await?;
    let job: Arc<str> = jobs["jobs"][0]["id"].as_str().unwrap_or_default().into();
    let mut all = Vec::new();
    for case in cases(&job, set.server.address.port()) {
        let came = match timeout(WITHIN, came(set.server.address, &case)).await {
            Ok(came) => came,
            Err(_) => Came { shown: "no answer".to_owned(), is_expected: false },
        };
        all.push((case, came));
    }
    Ok(all)
}

async fn came(address: std::net::SocketAddr, case: &Case) -> Came {
    let Ok(mut connection) = Connection::open(loopback(STRANGER), address).await else {
        return Came { shown: "no connection".to_owned(), is_expected: false };
    };
    match connection.ask(&case.message).await {
        Ok(answer) => {
            let problem = answer.json();
            let code = problem["code"].as_str().unwrap_or_default();
            let is_expected =
                answer.status == case.status && case.code.is_none_or(|expected| expected == code);
            Came { shown: shown(answer.status, code), is_expected }
        }
        Err(outcome) => Came { shown: outcome.to_string(), is_expected: false },
    }
}

/// Joins lines to a request. The end of the head and `body` follow the last line.
fn lines(lines: &[&str], body: &str) -> String {
    let mut message = lines.join("\r\n");
    if !body.is_empty() {
        message.push_str(&format!("\r\nContent-Length: {}", body.len()));
    }
    format!("{message}\r\n\r\n{body}")
}

fn cases(job: &str, port: u16) -> Vec<Case> {
    let mut cases = hosts(port);
    cases.extend(other_sites(job, port));
    cases.extend(forms(job));
    cases.extend(ambiguous());
    cases
}

fn hosts(port: u16) -> Vec<Case> {
    const GET: &str = "GET /v1/models HTTP/1.1";
    let host = |host: &str| lines(&[GET, &format!("Host: {host}")], "");
    let own = format!("127.0.0.1:{port}");
    vec![
        Case::new("`Host` is its address", 200, None, host(&own)),
        Case::new("`Host: localhost`", 200, None, host("localhost")),
        Case::new("`Host: [::1]:80`", 200, None, host("[::1]:80")),
        Case::new("`Host: evil.example`", 421, Some("unknown_host"), host("evil.example")),
        Case::new(
            "`Host: localhost.evil.example`",
            421,
            Some("unknown_host"),
            host("localhost.evil.example"),
        ),
        Case::new("no `Host`", 400, None, lines(&[GET], "")),
        Case::new("two `Host`", 400, None, lines(&[GET, "Host: localhost", "Host: evil.example"], "")),
    ]
}

/// Requests that a page of another site can make a browser send. Requests that change something come last.
fn other_sites(job: &str, port: u16) -> Vec<Case> {
    const JSON: &str = "Content-Type: application/json";
    let (delete, cancel) =
        ("DELETE /v1/models/best@1 HTTP/1.1", format!("POST /v1/jobs/{job}/cancel HTTP/1.1"));
    let host = format!("Host: localhost:{port}");
    let graph = |extra: &str| {
        lines(
            &["POST /v1/graph HTTP/1.1", &host, JSON, extra],
            "{\"expression\":\"a*b\",\"inputs\":{\"a\":1,\"b\":2}}",
        )
    };
    let own = format!("Origin: http://localhost:{port}");
    let get = lines(&["GET /v1/models HTTP/1.1", &host, "Sec-Fetch-Site: cross-site"], "");
    vec![
        Case::new("`GET` from another site", 200, None, get),
        Case::new("`POST` from its own page", 200, None, graph("Sec-Fetch-Site: same-origin")),
        Case::new("`POST` with its own `Origin`", 200, None, graph(&own)),
        Case::new("`POST` from another site", 403, Some("cross_site"), graph("Sec-Fetch-Site: cross-site")),
        Case::new("`POST` from a sister site", 403, Some("cross_site"), graph("Sec-Fetch-Site: same-site")),
        Case::new(
            "`POST` with a foreign `Origin`",
            403,
            Some("cross_site"),
            graph("Origin: https://evil.example"),
        ),
        Case::new("`POST` with `Origin: null`", 403, Some("cross_site"), graph("Origin: null")),
        Case::new(
            "`POST` with its own `Origin`, another port",
            403,
            Some("cross_site"),
            graph("Origin: http://localhost:1"),
        ),
        Case::new(
            "`POST …/cancel` from another site",
            403,
            Some("cross_site"),
            lines(&[&cancel, &host, "Sec-Fetch-Site: cross-site", "Content-Length: 0"], ""),
        ),
        Case::new(
            "`DELETE` of a model from another site",
            403,
            Some("cross_site"),
            lines(&[delete, &host, "Sec-Fetch-Site: cross-site"], ""),
        ),
        Case::new(
            "`DELETE` of a model with a foreign `Origin`",
            403,
            Some("cross_site"),
            lines(&[delete, &host, "Origin: https://evil.example"], ""),
        ),
    ]
}

fn forms(job: &str) -> Vec<Case> {
    let bodies = [
        ("a form", "application/x-www-form-urlencoded", "a=1"),
        ("a form of parts", "multipart/form-data; boundary=b", "--b--\r\n"),
        ("text", "text/plain", "{}"),
    ];
    let one = |(what, media_type, body): (&str, &str, &str), action: &str| {
        let request = format!("POST /v1/jobs/{job}/{action} HTTP/1.1");
        let kind = format!("Content-Type: {media_type}");
        let message = lines(&[&request, "Host: localhost", &kind], body);
        Case::new(format!("`POST …/{action}` with {what}"), 415, None, message)
    };
    ["cancel", "resume"].iter().flat_map(|action| bodies.map(|body| one(body, action))).collect()
}

fn ambiguous() -> Vec<Case> {
    const JSON: &str = "Content-Type: application/json";
    let post = |path: &str, extra: &[&str], body: &str| {
        let request = format!("POST {path} HTTP/1.1");
        let mut all = vec![request.as_str(), "Host: localhost", JSON];
        all.extend(extra);
        lines(&all, body)
    };
    let twice = |path: &str, body: &str| {
        Case::new(format!("`POST {path}` with one key twice"), 422, None, post(path, &[], body))
    };
    let keys = ["Idempotency-Key: one", "Idempotency-Key: two"];
    let gzip =
        lines(&["POST /v1/graph HTTP/1.1", "Host: localhost", JSON, "Transfer-Encoding: gzip, chunked"], "");
    let image = vec!["0"; 784].join(",");
    vec![
        Case::new("`Transfer-Encoding: gzip, chunked`", 501, None, gzip + "0\r\n\r\n"),
        Case::new("two `Idempotency-Key`", 400, None, post("/v1/jobs", &keys, "{\"epochs\":0}")),
        twice("/v1/jobs", "{\"epochs\":1,\"epochs\":2,\"train_samples\":10,\"model\":\"twice\"}"),
        twice("/v1/graph", "{\"expression\":\"a*a\",\"inputs\":{\"a\":1,\"a\":2}}"),
        twice("/v1/affine", "{\"x\":[1],\"x\":[2],\"w\":[[1]]}"),
        twice("/v1/models/digits/predict", &format!("{{\"image\":[{image}],\"image\":[{image}]}}")),
    ]
}
