//! Measures a long queue: the time of a claim, and `POST /v1/jobs` at a steady rate. Both are compared with
//! the time of one durable commit of SQLite.
//!
//! `cargo bench --bench queue [-- ROWS [RATE [SECONDS]]]`

use std::time::{Duration, Instant};

use chainrule::config::Config;
use chainrule::data;
use chainrule::dispatch::Dispatch;
use chainrule::job::{JobError, Progress};
use chainrule::server::Server;
use chainrule::store::{Claim, Inserted, NewJob, Store};
use chainrule::train::{SpecLimits, parse};
use clap::Parser;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

fn job(seed: usize) -> NewJob {
    let request = json!({ "seed": seed, "model": format!("model-{}", seed % 50) });
    let spec = parse(&request, &data::shapes(), &SpecLimits::default()).expect("a valid request");
    NewJob {
        spec,
        progress: Progress::default(),
        owner: format!("10.0.0.{}", seed % 200),
        idempotency_key: None,
        request_sha256: String::new(),
    }
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3
}

fn line(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{what:<52} p50 {:8.3} ms  p99 {:8.3} ms  max {:8.3} ms",
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        quantile(&times, 1.0)
    );
}

/// Commits one row at a time, as durably as the server does.
async fn commits_of_sqlite(folder: &std::path::Path) -> Vec<Duration> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("rival.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.expect("a database");
    sqlx::query("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
        .execute(&mut connection)
        .await
        .expect("a table");
    let text = serde_json::to_string(&job(1).spec).expect("JSON");
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        sqlx::query("INSERT INTO rows (text) VALUES ($1)")
            .bind(&text)
            .execute(&mut connection)
            .await
            .expect("a row");
        times.push(begun.elapsed());
    }
    connection.close().await.expect("closed");
    times
}

async fn open(path: &std::path::Path) -> Dispatch {
    Dispatch::new(Store::open(path).await.expect("a database"))
}

async fn fill(dispatch: &Dispatch, rows: usize) {
    let mut waiting = tokio::task::JoinSet::new();
    for seed in 0..rows {
        let handle = dispatch.clone();
        waiting.spawn(async move { handle.insert_job(job(seed), u32::MAX).await });
        if waiting.len() >= 512 {
            waiting.join_next().await.expect("a task").expect("no panic").expect("rows");
        }
    }
    while let Some(inserted) = waiting.join_next().await {
        let inserted = inserted.expect("no panic").expect("rows");
        assert!(matches!(inserted, Inserted::Accepted(_)), "{inserted:?}");
    }
}

async fn claims(dispatch: &Dispatch) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let job = dispatch.claim().await.expect("rows").expect("a job");
        times.push(begun.elapsed());
        let claim = Claim { id: job.id, attempt: job.attempt };
        let error = JobError { code: "bench".to_owned(), detail: "not meant to run".to_owned() };
        dispatch.fail(claim, &error).await.expect("rows");
    }
    times
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let (rows, rate, seconds) =
        (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(1_000), numbers.next().unwrap_or(10));
    let folder = tempfile::tempdir().expect("a folder");
    line("one row and commit, SQLite alone", commits_of_sqlite(folder.path()).await);

    let dispatch = open(&folder.path().join("short.db")).await;
    fill(&dispatch, 400).await;
    line("claim, 400 rows", claims(&dispatch).await);
    dispatch.close().await;

    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("blobs")).expect("a folder");
    let dispatch = open(&data.join("chainrule.db")).await;
    let begun = Instant::now();
    fill(&dispatch, rows).await;
    println!("{rows} jobs put in the queue in {:.1} s", begun.elapsed().as_secs_f64());
    line(&format!("claim, {rows} rows"), claims(&dispatch).await);
    dispatch.close().await;

    let data = data.to_str().expect("UTF-8");
    let flags = ["queue", "--listen", "127.0.0.1:0", "--data-dir", data, "--queue-max", "10000000"];
    let server = Server::start(Flags::parse_from(flags).config).await.expect("a server");
    let url = format!("http://{}/v1/jobs", server.address().expect("an address"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut answers = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for seed in 0..rate * seconds {
        // Latency is measured from the time at which the request was due, so that a late start counts.
        let due = ticks.tick().await;
        let request = http.post(&url).json(&json!({ "seed": seed, "model": format!("model-{}", seed % 50) }));
        answers.spawn(async move {
            let status = request.send().await.expect("an answer").status();
            assert_eq!(status, reqwest::StatusCode::ACCEPTED);
            due.elapsed()
        });
    }
    let mut times = Vec::new();
    while let Some(time) = answers.join_next().await {
        times.push(time.expect("no panic"));
    }
    line(&format!("POST /v1/jobs, {rate} a second, {rows} rows, training"), times);
    stop.cancel();
    running.await.expect("the server ends well");
}
