//! Repeats in minutes what servers do in hours, to show that nothing grows.

mod gauge;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use self::gauge::{Sample, assert_flat};
use crate::checker::check_command;
use crate::process::{Client, Serve, has_ended, poll};
use crate::workload::{MODELS, SOON, THREADS, names, specs};

const JOBS_KEPT: usize = 50;
const VERSIONS_KEPT: usize = 5;
const FLAGS: [&str; 6] = ["--keep-jobs", "50", "--keep-versions", "5", "--upkeep-seconds", "5"];

/// The time limit for a server to end on SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The time between two samples of the process.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// No more jobs are posted while this many are queued.
const QUEUED_MAX: usize = 5;

const CLIENTS: u64 = 2;

/// Counts of what the clients did.
#[derive(Default)]
struct Done {
    jobs: u64,
    predictions: u64,
    streams: u64,
    cancelled: u64,
    deleted: u64,
    aliases: u64,
    refused: Vec<String>,
}

struct Clerk<'a> {
    client: Client,
    rng: ChaCha8Rng,
    done: &'a Mutex<Done>,
    jobs: Vec<String>,
}

impl Clerk<'_> {
    fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..20 => self.post(),
            20..50 => self.predict(),
            50..70 => self.stream(),
            70..76 => self.on_a_job("POST", "/cancel", |done| done.cancelled += 1),
            76..86 => self.on_a_job("DELETE", "", |done| done.deleted += 1),
            _ => self.point(),
        }
        thread::sleep(Duration::from_millis(self.rng.random_range(0..40)));
    }

    fn count(&self, add: impl FnOnce(&mut Done)) {
        add(&mut self.done.lock().expect("a lock"));
    }

    /// Sends a request. Records the responses that show a broken server.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<(u16, Value)> {
        match self.client.request(method, path, headers, body) {
            Ok(answer) if answer.status < 500 => return Some((answer.status, answer.json())),
            Ok(answer) => self.count(|done| {
                done.refused.push(format!("{method} {path}: {} {}", answer.status, answer.text()));
            }),
            Err(error) => self.count(|done| done.refused.push(format!("{method} {path}: {error}"))),
        }
        None
    }

    fn post(&mut self) {
        let queued = self.ask("GET", "/v1/jobs?state=queued&limit=50", &[], b"");
        let queued = queued.and_then(|(_, page)| Some(page["jobs"].as_array()?.len()));
        if queued.is_none_or(|queued| queued > QUEUED_MAX) {
            return;
        }
        let names = names();
        let body = specs()[names[self.rng.random_range(0..names.len())]].to_string();
        let key = format!("soak-{}", self.rng.random::<u64>());
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        if let Some((202, job)) = self.ask("POST", "/v1/jobs", &headers, body.as_bytes()) {
            self.jobs.push(job["id"].as_str().expect("an id").to_owned());
            self.count(|done| done.jobs += 1);
        }
        if self.jobs.len() > 100 {
            self.jobs.remove(0);
        }
    }

    fn pick(&mut self) -> Option<String> {
        (!self.jobs.is_empty()).then(|| self.jobs[self.rng.random_range(0..self.jobs.len())].clone())
    }

    fn on_a_job(&mut self, method: &str, action: &str, add: impl FnOnce(&mut Done)) {
        let Some(id) = self.pick() else { return };
        if let Some((200..=299, _)) = self.ask(method, &format!("/v1/jobs/{id}{action}"), &[], b"") {
            self.count(add);
        }
    }

    fn predict(&mut self) {
        let model = MODELS[self.rng.random_range(0..MODELS.len())];
        let headers = [("Content-Type", "application/octet-stream")];
        let path = format!("/v1/models/{model}/predict");
        if let Some((200, _)) = self.ask("POST", &path, &headers, &[0; 784]) {
            self.count(|done| done.predictions += 1);
        }
    }

    /// Opens the event stream of a job and closes it after some bytes.
    fn stream(&mut self) {
        let Some(id) = self.pick() else { return };
        let request = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let Ok(mut stream) = TcpStream::connect(self.client.address) else { return };
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let wanted = self.rng.random_range(1..4_000);
        let mut bytes = vec![0; wanted];
        // The content does not matter, only that the stream is closed half-way.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_exact(&mut bytes));
        self.count(|done| done.streams += 1);
    }

    fn point(&mut self) {
        let model = MODELS[self.rng.random_range(0..MODELS.len())];
        let path = format!("/v1/models/{model}/aliases/best");
        if self.rng.random_bool(0.2) {
            self.ask("DELETE", &path, &[], b"");
            return;
        }
        let Some((200, models)) = self.ask("GET", "/v1/models", &[], b"") else { return };
        let models = models["models"].as_array().cloned().unwrap_or_default();
        let found = models.iter().find(|entry| entry["name"] == *model);
        let Some(version) = found.and_then(|entry| entry["versions"][0]["version"].as_u64()) else { return };
        let headers = [("Content-Type", "application/json")];
        let body = json!({"version": version}).to_string();
        if let Some((200, _)) = self.ask("PUT", &path, &headers, body.as_bytes()) {
            self.count(|done| done.aliases += 1);
        }
    }
}

fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").map_or(600, |seconds| seconds.parse().expect("a number of seconds"))
}

#[test]
#[ignore = "sends every kind of request for ten minutes, or SOAK_SECONDS"]
fn nothing_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Serve::new(folder.path()).args(&THREADS).args(&FLAGS).start();
    let (client, pid) = (server.client(), server.pid());
    let done = Mutex::new(Done::default());
    let stop = AtomicBool::new(false);
    let mut samples = Vec::new();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut clerk =
                Clerk { client, rng: ChaCha8Rng::seed_from_u64(number), done: &done, jobs: Vec::new() };
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    clerk.act();
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds());
        while Instant::now() < end {
            thread::sleep(SAMPLE_EVERY);
            samples.extend(Sample::of(pid, &client, folder.path()));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let done = done.into_inner().expect("a lock");
    println!(
        "figures: soak seconds={} jobs={} predictions={} streams={} cancelled={} deleted={} aliases={} refused={}",
        seconds(),
        done.jobs,
        done.predictions,
        done.streams,
        done.cancelled,
        done.deleted,
        done.aliases,
        done.refused.len(),
    );
    let [first, middle, last] = [0, samples.len() / 2, samples.len() - 1].map(|at| samples[at]);
    println!("figures: soak_start {first}\nfigures: soak_half {middle}\nfigures: soak_end {last}");
    assert!(done.refused.is_empty(), "{:#?}", &done.refused[..done.refused.len().min(10)]);
    assert_flat(&samples);

    crate::checker::all_ended(&client, SOON).expect("an end");
    let jobs = client.jobs().expect("jobs");
    assert!(jobs.iter().all(has_ended), "a job has not ended");
    // Retention takes a while to delete the rest. It keeps some versions of each model, and a version with an
    // alias.
    let kept = poll(SOON, || {
        Sample::of(pid, &client, folder.path())?
            .has_at_most(JOBS_KEPT, MODELS.len() * (VERSIONS_KEPT + 1))
            .then_some(())
    });
    assert!(kept.is_some(), "retention leaves {:?}", Sample::of(pid, &client, folder.path()));
    let failed: Vec<&Value> = jobs.iter().filter(|job| job["state"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    server.terminate(ENDS_WITHIN);
    let server = Serve::new(folder.path()).args(&THREADS).args(&FLAGS).start();
    drop(server);
    check_command(folder.path()).expect("a sound folder");
}
