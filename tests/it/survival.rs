//! Jobs survive the death of their server.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::process::Process;
use crate::server::TestServer;

/// A job of a few seconds.
const JOB: &str = r#"{"epochs": 12, "train_samples": 20000, "seed": 5, "checkpoint": {"every_epochs": 1, "keep": 100}, "network": {"layers": [
    {"type": "dense", "units": 256}, {"type": "relu"}, {"type": "dense", "units": 10}]}}"#;

/// Returns (attempt, step) of the checkpoints of a job, in order.
fn checkpoints(folder: &Path, id: &str) -> Vec<(u64, u64)> {
    let files = std::fs::read_dir(folder.join("blobs/jobs").join(id)).expect("checkpoints");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let (attempt, step) = name.strip_suffix(".safetensors")?.split_once('-')?;
        Some((attempt.parse().ok()?, step.parse().ok()?))
    };
    let mut found: Vec<(u64, u64)> = files.filter_map(read).collect();
    found.sort_unstable();
    found
}

/// Asserts that each attempt resumed from a checkpoint of the one before and did not start over.
fn assert_resumed(folder: &Path, id: &str) {
    let checkpoints = checkpoints(folder, id);
    let first = checkpoints.first().expect("a checkpoint").1;
    for pair in checkpoints.windows(2).filter(|pair| pair[0].0 < pair[1].0) {
        assert!(pair[1].1 > first, "attempt {} began again: {checkpoints:?}", pair[1].0);
    }
    assert!(checkpoints.last() > Some(&(1, u64::MAX)), "one attempt alone: {checkpoints:?}");
}

fn weights(process: &Process) -> Value {
    process.get("/v1/models/digits")["versions"][0]["sha256"].clone()
}

#[tokio::test]
async fn sigterm_ends_a_server_whose_database_another_process_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::serve(folder.path());
    process.post_job(JOB);
    let options = SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut other = options.connect().await.expect("a connection");
    let held = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let told = Instant::now();
    process.signal("TERM");
    let status = process.wait();
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    held.rollback().await.expect("released");
}

#[test]
fn a_job_resumes_after_kill_9_and_after_sigterm_and_ends_with_the_weights_of_an_undisturbed_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    let job = process.post_job(JOB);
    let job = process.ended(job["id"].as_str().expect("an id"));
    assert_eq!(job["state"], "succeeded");
    let undisturbed = weights(&process);
    let expected =
        (job["result"]["test_loss"].clone(), process.get("/v1/jobs")["jobs"][0]["metrics"].clone());
    drop(process);

    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::serve(folder.path());
    let id = process.post_job(JOB)["id"].as_str().expect("an id").to_owned();
    process.in_epoch(&id, 2);
    process.kill();

    let mut process = Process::serve(folder.path());
    let job = process.in_epoch(&id, 4);
    assert_eq!(job["attempt"], 2, "{job}");
    let asked = Instant::now();
    process.signal("TERM");
    let status = process.wait();
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    let process = Process::serve(folder.path());
    let job = process.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(3)), "{job}");
    assert_eq!(weights(&process), undisturbed);
    assert_resumed(folder.path(), &id);
    assert_eq!((job["result"]["test_loss"].clone(), job["metrics"].clone()), expected);
    let metrics = process.get(&format!("/v1/jobs/{id}/metrics"));
    let epochs: Vec<u64> = metrics["epochs"]
        .as_array()
        .expect("epochs")
        .iter()
        .filter_map(|epoch| epoch["epoch"].as_u64())
        .collect();
    assert_eq!(epochs, (1..=12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_before_its_server_died_stays_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let running = server.create(crate::server::endless()).await["id"].as_str().expect("an id").to_owned();
    let queued = server.create(json!({})).await["id"].as_str().expect("an id").to_owned();
    server.stepped(&running).await;
    for id in [&running, &queued] {
        server.post(&format!("/v1/jobs/{id}/cancel"), "", "").await;
    }
    server.stop().await;
    let server = TestServer::start_in(folder.path(), &[]).await;
    for id in [&running, &queued] {
        assert_eq!(server.ended(id).await["state"], "cancelled");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_skipped_for_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request: Value = serde_json::from_str(JOB).expect("JSON");
    let expected = server.create(request.clone()).await["id"].as_str().expect("an id").to_owned();
    let expected = server.ended(&expected).await;
    let id = server.create(request).await["id"].as_str().expect("an id").to_owned();
    server.in_epoch(&id, 4).await;
    server.stop().await;

    let (attempt, step) = *checkpoints(folder.path(), &id).last().expect("checkpoints");
    let newest = format!("blobs/jobs/{id}/{attempt}-{step}.safetensors");
    std::fs::write(folder.path().join(newest), b"damaged").expect("written");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let job = server.ended(&id).await;
    assert_eq!(job["result"]["test_loss"], expected["result"]["test_loss"]);
    assert_resumed(folder.path(), &id);
    server.stop().await;
}

/// A 202 for a job that the disk could not store would mean a lost job.
#[test]
fn on_a_full_disk_accepted_jobs_are_kept_and_the_rest_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve_with_files_of(folder.path(), 512);
    let mut accepted = Vec::new();
    for _ in 0..200 {
        let (status, answer) = process.try_post_job(JOB);
        if status != 202 {
            assert!(matches!(status, 503 | 507), "{answer}");
            break;
        }
        accepted.push(answer["id"].as_str().expect("an id").to_owned());
    }
    assert!((1..200).contains(&accepted.len()), "{} were accepted", accepted.len());
    for id in accepted {
        assert_eq!(process.get(&format!("/v1/jobs/{id}"))["id"], json!(id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_crashes_its_server_repeatedly_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = json!({ "network": { "layers": [{ "type": "dense", "units": 2_000 }, { "type": "relu" },
        { "type": "dense", "units": 10 }] } });
    let id = {
        let process = Process::serve(folder.path());
        process.post_job(&slow.to_string())["id"].as_str().expect("an id").to_owned()
    };
    for _ in 0..4 {
        let mut process = Process::serve(folder.path());
        let job = process.until(&id, |job| job["state"] != "queued");
        process.kill();
        if job["state"] != "running" {
            break;
        }
    }
    let server = TestServer::start_in(folder.path(), &["--crashes-max", "2"]).await;
    let job = server.ended(&id).await;
    assert_eq!(job["error"]["code"], "crash_loop", "{job}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_checkpoints_are_kept_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request =
        json!({ "epochs": 5, "train_samples": 500, "checkpoint": { "every_epochs": 1, "keep": 2 } });
    let id = server.create(request).await["id"].as_str().expect("an id").to_owned();
    server.ended(&id).await;
    let files = std::fs::read_dir(folder.path().join("blobs/jobs").join(&id)).expect("checkpoints");
    assert_eq!(files.count(), 2);
    server.stop().await;
}
