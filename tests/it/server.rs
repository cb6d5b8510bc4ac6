//! A server in the test process on a free port, and a client for it.

use std::path::Path;

use chainrule::app::App;
use chainrule::config::Config;
use chainrule::server::Server;
use clap::Parser;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// A server in this process with its own data folder.
pub struct TestServer {
    pub url: String,
    pub http: Client,
    app: App,
    stop: CancellationToken,
    running: JoinHandle<()>,
    _folder: Option<TempDir>,
}

/// Returns the configuration that the command line would make, with a free port.
pub fn config(folder: &Path, flags: &[&str]) -> Config {
    let folder = folder.to_str().expect("a path in UTF-8");
    let fixed = ["chainrule", "--listen", "127.0.0.1:0", "--data-dir", folder];
    Flags::parse_from(fixed.iter().chain(flags)).config
}

impl TestServer {
    pub async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self::start_in(folder.path(), flags).await;
        server._folder = Some(folder);
        server
    }

    pub async fn start_in(folder: &Path, flags: &[&str]) -> Self {
        let server = Server::start(config(folder, flags)).await.expect("a server");
        let url = format!("http://{}", server.address().expect("an address"));
        let app = server.app().clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        let http = Client::new();
        Self { url, http, app, stop, running, _folder: None }
    }

    /// Stops the server as SIGTERM does, and waits until it has stopped.
    pub async fn stop(self) {
        let Self { app, stop, running, .. } = self;
        drop(app);
        stop.cancel();
        running.await.expect("the server ends well");
    }

    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(self.path(path)).send().await.expect("an answer")
    }

    pub async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "GET {path}");
        response.json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.post(self.path(path)).header("Content-Type", media_type).body(body);
        request.send().await.expect("an answer")
    }

    /// Returns a client at another address of this machine.
    pub fn client_at(&self, address: [u8; 4]) -> Client {
        Client::at(address)
    }

    /// Returns the handle that the server's requests and workers share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Posts a job as a client at another address.
    pub async fn create_from(&self, address: [u8; 4], request: Value) -> Value {
        let request = self.client_at(address).post(self.path("/v1/jobs")).json(&request);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        response.json().await.expect("a job")
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.http.delete(self.path(path)).send().await.expect("an answer")
    }

    pub async fn put(&self, path: &str, body: Value) -> Response {
        self.http.put(self.path(path)).json(&body).send().await.expect("an answer")
    }

    pub async fn create(&self, request: Value) -> Value {
        let response = self.post("/v1/jobs", "application/json", request.to_string()).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        response.json().await.expect("a job")
    }

    /// Waits until a job has ended.
    pub async fn ended(&self, id: &str) -> Value {
        for _ in 0..20 {
            let job = self.get_json(&format!("/v1/jobs/{id}?wait_seconds=10")).await;
            if !matches!(job["state"].as_str(), Some("queued" | "running")) {
                return job;
            }
        }
        panic!("job {id} does not end");
    }

    /// Waits until a job has taken a step.
    pub async fn stepped(&self, id: &str) {
        let mut changes = self.app.dispatch().changes();
        let id: chainrule::job::JobId = id.parse().expect("an id");
        loop {
            let job = self.app.dispatch().job(id).await.expect("rows").expect("a job");
            assert!(!job.state.is_ended(), "{job:?}");
            if job.progress.step > 0 {
                return;
            }
            changes.recv().await.expect("a change");
        }
    }

    /// Waits until a job is in this epoch.
    pub async fn in_epoch(&self, id: &str, epoch: u32) {
        let mut changes = self.app.dispatch().changes();
        let id: chainrule::job::JobId = id.parse().expect("an id");
        while self.app.dispatch().job(id).await.expect("rows").expect("a job").progress.epoch < epoch {
            changes.recv().await.expect("a change");
        }
    }

    /// Trains a small model called `digits`.
    pub async fn with_model(&self) -> Value {
        let job = self.create(quick()).await;
        let job = self.ended(job["id"].as_str().expect("an id")).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job
    }
}

/// A job of a fraction of a second.
pub fn quick() -> Value {
    json!({ "train_samples": 2_000, "epochs": 2 })
}

/// A job that runs until it is stopped.
pub fn endless() -> Value {
    json!({ "epochs": 10_000, "network": { "layers": [{ "type": "dense", "units": 64 }, { "type": "relu" }, { "type": "dense", "units": 10 }] } })
}

/// Asserts that a response is a problem (RFC 9457) with this status and code.
pub async fn problem(response: Response, status: u16, code: &str) -> Value {
    let found = response.status().as_u16();
    let media_type = response.headers().get("content-type").cloned();
    let text = response.text().await.expect("a body");
    assert_eq!(found, status, "{text}");
    assert_eq!(
        media_type.as_ref().and_then(|value| value.to_str().ok()),
        Some("application/problem+json"),
        "{text}"
    );
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{text}");
    for field in ["type", "title", "detail", "request_id"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {text}");
    }
    for secret in ["/tmp", "SELECT", "INSERT", "panicked", ".rs:"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    problem
}

/// Returns the pointers of a problem's errors.
pub fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().into_iter().flatten().filter_map(|error| error["pointer"].as_str()).collect()
}
