//! Several servers on one data folder.

use std::path::Path;

use serde_json::{Value, json};

use crate::process::Process;

/// A job of a few seconds on one thread.
fn job(seed: u32) -> String {
    json!({ "epochs": 12, "train_samples": 20_000, "seed": seed, "network": { "layers": [{ "type": "dense", "units": 256 }, { "type": "relu" },
        { "type": "dense", "units": 10 }] } })
    .to_string()
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

fn sha256(process: &Process) -> Value {
    process.get("/v1/models/digits")["versions"][0]["sha256"].clone()
}

/// Returns the weights of an undisturbed run.
fn undisturbed(seed: u32) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    assert_eq!(process.ended(&id(&process.post_job(&job(seed))))["state"], "succeeded");
    sha256(&process)
}

/// Starts two servers. The first one runs the job, which is in its second epoch.
fn two(folder: &Path, flags: &[&str], seed: u32) -> (Process, Process, String) {
    let first = Process::serve_with(folder, flags);
    let id = id(&first.post_job(&job(seed)));
    first.in_epoch(&id, 2);
    (first, Process::serve_with(folder, flags), id)
}

#[test]
fn a_change_through_one_server_is_visible_on_all_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second, running) = two(folder.path(), &[], 1);
    let queued = id(&second.post_job(&job(2)));
    assert_eq!(first.get(&format!("/v1/jobs/{queued}"))["state"], "queued", "one job of a model at a time");
    let (status, cancelled) = second.post(&format!("/v1/jobs/{running}/cancel"));
    assert_eq!((status, &cancelled["state"]), (202, &json!("cancelled")));
    let ended = first.ended(&queued);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)));
    for server in [&first, &second] {
        assert_eq!(server.get(&format!("/v1/jobs/{running}"))["state"], "cancelled");
        assert_eq!(server.get(&format!("/v1/jobs/{queued}"))["result"]["version"], 1);
        assert_eq!(server.get("/v1/models/digits@1")["versions"][0]["job_id"], json!(queued));
    }
}

#[test]
fn a_server_that_stops_hands_its_job_to_another_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    // The lease is an hour, so waiting for it would exceed every time limit.
    let (mut first, second, id) = two(folder.path(), &["--lease-seconds", "3600"], 3);
    first.signal("TERM");
    assert!(first.wait().success());
    let job = second.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
    assert_eq!(sha256(&second), undisturbed(3));
}

#[test]
fn the_job_of_a_killed_server_resumes_on_another_after_its_lease() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut first, second, id) = two(folder.path(), &["--lease-seconds", "0.5"], 4);
    first.kill();
    let job = second.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
    assert_eq!(sha256(&second), undisturbed(4));
}

#[test]
fn a_second_sigterm_ends_a_server_at_once_and_its_job_resumes_from_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Process::serve_with(folder.path(), &["--fault", "hang@step:1000"]);
    let id = id(&first.post_job(&job(5)));
    first.until(&id, |job| job["progress"]["step"].as_u64() >= Some(1_000));
    first.signal("TERM");
    // Two identical signals at the same moment would be delivered as one.
    while first.is_ready() {
        std::thread::yield_now();
    }
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(128 + 15));
    let second = Process::serve(folder.path());
    let job = second.ended(&id);
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
}

/// If a panic between two jobs ended the worker, nobody would serve the queue.
#[test]
fn a_panic_outside_training_costs_no_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--fault", "panic@after-claim", "--workers", "1", "--lease-seconds", "1"];
    let process = Process::serve_with(folder.path(), &flags);
    let job = process.ended(&id(&process.post_job(&job(6))));
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
}

#[test]
fn a_panic_in_training_fails_its_job_with_the_message_and_the_server_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve_with(folder.path(), &["--fault", "panic@step:7"]);
    let failed = process.ended(&id(&process.post_job(&job(6))));
    assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("panicked")));
    let detail = failed["error"]["detail"].as_str().expect("a text");
    assert!(detail.contains("the fault panic@step:7 was asked for"), "{detail}");
    let next = process.ended(&id(&process.post_job(&job(7))));
    assert_eq!(next["state"], "succeeded");
}
