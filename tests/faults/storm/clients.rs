//! Clients that carry on whatever happens to the servers, and record the responses.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::checker::{History, What, is_end};
use crate::process::{Answer, Client};
use crate::workload::{self, MODELS};

/// A client posts no more jobs while this many of its own have not ended.
const PENDING_MAX: usize = 4;

/// How long a client waits for a response: less than a job takes, longer than any other request.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The pause between two tries while no server listens.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What the clients and the killing thread share.
#[derive(Default)]
pub struct Shared {
    /// The addresses of the servers, some of which may just have died.
    pub addresses: Mutex<Vec<SocketAddr>>,
    pub stop: AtomicBool,
    /// Whether no server will be started again.
    pub is_abandoned: AtomicBool,
    pub history: History,
    /// How often each thing was done.
    pub tally: Mutex<BTreeMap<&'static str, u64>>,
    /// Responses that no fault explains.
    pub strange: Mutex<Vec<String>>,
    /// The known-bad client: it uses a new key for each try.
    pub forgets_keys: bool,
}

impl Shared {
    pub fn count(&self, name: &'static str) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    fn has_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// A job that this client posted, in its last known state.
struct Known {
    id: String,
    state: String,
    version: Option<u64>,
    model: String,
}

/// One client.
pub struct Clerk<'a> {
    shared: &'a Shared,
    name: String,
    rng: ChaCha8Rng,
    jobs: Vec<Known>,
    posts: u32,
}

impl<'a> Clerk<'a> {
    pub fn new(shared: &'a Shared, seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number + 1);
        Self { shared, name: format!("client-{number}"), rng, jobs: Vec::new(), posts: 0 }
    }

    /// Sends requests until the storm stops it.
    pub fn run(mut self) {
        while !self.shared.has_stopped() {
            match self.rng.random_range(0..1000) {
                0..300 => self.post(),
                300..640 => self.poll(),
                640..643 => self.cancel(),
                643..668 => self.resume(),
                668..700 => self.delete(),
                700..900 => self.predict(),
                900..970 => self.point(),
                _ => self.delete_version(),
            }
            thread::sleep(Duration::from_millis(self.rng.random_range(0..8)));
        }
    }

    fn client(&mut self) -> Option<Client> {
        let addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if addresses.is_empty() {
            thread::sleep(RETRY_AFTER);
            return None;
        }
        let at = self.rng.random_range(0..addresses.len());
        Some(Client { address: addresses[at], within: ANSWER_WITHIN })
    }

    /// Sends a request to one of the servers. Returns an error if there is no response.
    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let Some(client) = self.client() else { return Err(io::ErrorKind::NotConnected.into()) };
        let answer = client.request(method, path, headers, body);
        match &answer {
            Err(_) => {
                self.shared.count("unanswered");
                thread::sleep(RETRY_AFTER);
            }
            // A server sends 503 while it starts, stops or is overloaded.
            Ok(answer) if answer.status >= 500 && answer.status != 503 => {
                let words = format!("{method} {path}: {} {}", answer.status, answer.text());
                self.shared.strange.lock().unwrap_or_else(PoisonError::into_inner).push(words);
            }
            Ok(_) => {}
        }
        answer
    }

    /// Posts a job and repeats the request with the same key until there is a response. It does so even after
    /// the stop, because servers run until the clients have ended.
    fn post(&mut self) {
        self.jobs.retain(|job| !is_end(&job.state) || self.rng.random_bool(0.98));
        if self.jobs.iter().filter(|job| !is_end(&job.state)).count() >= PENDING_MAX {
            return self.poll();
        }
        let names = workload::names();
        let name = names[self.rng.random_range(0..names.len())];
        let body = workload::specs()[name].to_string();
        self.posts += 1;
        let key = format!("{}-{}", self.name, self.posts);
        for attempt in 1_u32.. {
            if self.shared.is_abandoned.load(Ordering::SeqCst) {
                return;
            }
            let sent = if self.shared.forgets_keys { format!("{key}-try-{attempt}") } else { key.clone() };
            let headers = [("Content-Type", "application/json"), ("Idempotency-Key", sent.as_str())];
            let asked = self.shared.history.now();
            let posted = |id| What::Posted { key: key.clone(), spec: name.to_owned(), id };
            // Some clients disconnect before the response arrives, and send the request again.
            if attempt == 1 && self.rng.random_bool(0.2) {
                self.hang_up(&headers, body.as_bytes());
                self.shared.history.unanswered(asked, posted(None));
                self.shared.count("retries");
                continue;
            }
            match self.ask("POST", "/v1/jobs", &headers, body.as_bytes()) {
                Ok(answer) if answer.status == 202 => {
                    let job = answer.json();
                    let id = job["id"].as_str().unwrap_or_default().to_owned();
                    self.shared.history.told(asked, posted(Some(id.clone())));
                    self.shared.history.told_job(asked, &job);
                    self.shared.count("posted");
                    let model = job["model"].as_str().unwrap_or_default().to_owned();
                    self.jobs.push(Known { id, state: "queued".to_owned(), version: None, model });
                    return;
                }
                Ok(answer) if matches!(answer.status, 429 | 503) => thread::sleep(RETRY_AFTER),
                Ok(answer) => {
                    let words = format!("POST /v1/jobs: {} {}", answer.status, answer.text());
                    self.shared.strange.lock().unwrap_or_else(PoisonError::into_inner).push(words);
                    return;
                }
                Err(_) => {
                    self.shared.history.unanswered(asked, posted(None));
                    self.shared.count("retries");
                }
            }
        }
    }

    /// Sends a request and closes the connection without waiting for the response.
    fn hang_up(&mut self, headers: &[(&str, &str)], body: &[u8]) {
        let Some(client) = self.client() else { return };
        let mut message = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        for (name, value) in headers {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        message.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let sent = TcpStream::connect_timeout(&client.address, client.within).and_then(|mut stream| {
            stream.write_all(message.as_bytes())?;
            stream.write_all(body)
        });
        // The server needs time to read the request before the connection is closed.
        thread::sleep(Duration::from_millis(self.rng.random_range(0..12)));
        drop(sent);
    }

    fn pick(&mut self, is_fit: impl Fn(&Known) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.jobs.len()).filter(|at| is_fit(&self.jobs[*at])).collect();
        (!fit.is_empty()).then(|| fit[self.rng.random_range(0..fit.len())])
    }

    fn poll(&mut self) {
        let pending = self.pick(|job| !is_end(&job.state));
        let at = if self.rng.random_bool(0.7) { pending } else { self.pick(|_| true) };
        let Some(at) = at else { return };
        let id = self.jobs[at].id.clone();
        let asked = self.shared.history.now();
        match self.ask("GET", &format!("/v1/jobs/{id}"), &[], b"") {
            Ok(answer) if answer.status == 200 => self.hear(asked, at, &answer.json()),
            Ok(answer) if answer.status == 404 => self.shared.history.told(asked, What::Missing { id }),
            _ => {}
        }
    }

    fn hear(&mut self, asked: u64, at: usize, job: &Value) {
        self.shared.history.told_job(asked, job);
        let known = &mut self.jobs[at];
        known.state = job["state"].as_str().unwrap_or_default().to_owned();
        known.version = job["result"]["version"].as_u64();
    }

    /// Sends a request that changes something, and records whether there was a response.
    fn change(&mut self, method: &str, path: &str, body: &[u8], done: u16, what: What) -> Option<Answer> {
        let asked = self.shared.history.now();
        let headers = [("Content-Type", "application/json")];
        let headers = if body.is_empty() { &headers[..0] } else { &headers[..] };
        match self.ask(method, path, headers, body) {
            Ok(answer) if answer.status == done => {
                self.shared.history.told(asked, what);
                Some(answer)
            }
            Ok(answer) => {
                if answer.status >= 500 {
                    self.shared.history.unanswered(asked, what);
                }
                None
            }
            Err(_) => {
                self.shared.history.unanswered(asked, what);
                None
            }
        }
    }

    fn cancel(&mut self) {
        let Some(at) = self.pick(|job| !is_end(&job.state)) else { return };
        let id = self.jobs[at].id.clone();
        let path = format!("/v1/jobs/{id}/cancel");
        let asked = self.shared.history.now();
        if let Some(answer) = self.change("POST", &path, b"", 202, What::Cancelled { id }) {
            self.shared.count("cancelled");
            self.hear(asked, at, &answer.json());
        }
    }

    fn resume(&mut self) {
        let Some(at) = self.pick(|job| job.state == "cancelled") else { return };
        let id = self.jobs[at].id.clone();
        let path = format!("/v1/jobs/{id}/resume");
        if self.change("POST", &path, b"", 202, What::Resumed { id }).is_some() {
            self.shared.count("resumed");
            self.jobs[at].state = "queued".to_owned();
        }
    }

    fn delete(&mut self) {
        let Some(at) = self.pick(|job| is_end(&job.state)) else { return };
        let id = self.jobs[at].id.clone();
        if self.change("DELETE", &format!("/v1/jobs/{id}"), b"", 204, What::Deleted { id }).is_some() {
            self.shared.count("deleted");
            self.jobs.swap_remove(at);
        }
    }

    fn predict(&mut self) {
        let model = MODELS[self.rng.random_range(0..MODELS.len())].to_owned();
        let version = self.pick(|job| job.version.is_some()).map(|at| &self.jobs[at]);
        let reference = match version {
            Some(Known { model, version: Some(version), .. }) => format!("{model}@{version}"),
            _ => model,
        };
        let asked = self.shared.history.now();
        let headers = [("Content-Type", "application/octet-stream")];
        let path = format!("/v1/models/{reference}/predict");
        let Ok(answer) = self.ask("POST", &path, &headers, &[0; 784]) else { return };
        let said = answer.json();
        if let (200, Some(model), Some(version)) =
            (answer.status, said["model"].as_str(), said["version"].as_u64())
        {
            self.shared.count("predictions");
            let answer = said["predictions"].to_string();
            self.shared.history.told(asked, What::Predicted { model: model.to_owned(), version, answer });
        }
    }

    /// Sets an alias to a version.
    fn point(&mut self) {
        let Some(at) = self.pick(|job| job.version.is_some()) else { return };
        let (model, version) = (self.jobs[at].model.clone(), self.jobs[at].version);
        let alias = if self.rng.next_u32() & 1 == 0 { "best" } else { "next" };
        let body = json!({"version": version}).to_string();
        let path = format!("/v1/models/{model}/aliases/{alias}");
        let what = What::Alias { model, alias: alias.to_owned(), version };
        if self.change("PUT", &path, body.as_bytes(), 200, what).is_some() {
            self.shared.count("aliases");
        }
    }

    fn delete_version(&mut self) {
        let Some(at) = self.pick(|job| job.version.is_some()) else { return };
        let Known { model, version: Some(version), .. } = &self.jobs[at] else { return };
        let (model, version) = (model.clone(), *version);
        let path = format!("/v1/models/{model}@{version}");
        if self.change("DELETE", &path, b"", 204, What::VersionDeleted { model, version }).is_some() {
            self.shared.count("versions_deleted");
        }
    }
}
