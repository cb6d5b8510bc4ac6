//! Jobs outlive their server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Process;
use crate::server::TestServer;

/// A job of some seconds.
const JOB: &str = r#"{"epochs": 12, "seed": 5, "network": {"layers": [
    {"type": "dense", "units": 256}, {"type": "relu"}, {"type": "dense", "units": 10}]}}"#;

fn weights(process: &Process) -> Value {
    process.get("/v1/models/digits")["versions"][0]["sha256"].clone()
}

#[test]
fn a_job_goes_on_after_kill_9_and_after_sigterm_and_ends_with_the_weights_of_an_undisturbed_run() {
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
async fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request: Value = serde_json::from_str(JOB).expect("JSON");
    let expected = server.create(request.clone()).await["id"].as_str().expect("an id").to_owned();
    let expected = server.ended(&expected).await;
    let id = server.create(request).await["id"].as_str().expect("an id").to_owned();
    server.stepped(&id).await;
    server.stop().await;

    let newest = std::fs::read_dir(folder.path().join("blobs/jobs").join(&id)).expect("checkpoints");
    let newest = newest.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint");
    std::fs::write(&newest, b"damaged").expect("written");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let job = server.ended(&id).await;
    assert_eq!(job["result"]["test_loss"], expected["result"]["test_loss"]);
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
