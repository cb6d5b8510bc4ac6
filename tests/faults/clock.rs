//! Jumps of the wall clock. They affect neither leases nor order nor results.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checker::{self, History, What};
use crate::jobs::{ENDED_WITHIN, spec};
use crate::process::{Client, Server, has_ended, poll};
use crate::scenario::{Gone, STOPPED_WITHIN, post, settled};
use crate::shim::{Number, Shim, scratch};

const LEASE: Duration = Duration::from_secs(2);
const HOUR: i64 = 3600;

/// A job of many long epochs.
fn slow(model: &str, epochs: u32) -> Value {
    let mut spec = spec(model, epochs, 1);
    spec["train_samples"] = json!(3000);
    spec["checkpoint"]["every_epochs"] = json!(100);
    spec
}

/// The time limit for another server to take a job: a few leases, on a busy machine.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

fn serve(shim: &Shim, workers: &str, fault: &[&str]) -> Server {
    let data = shim.folder.join("data");
    let lease = LEASE.as_secs().to_string();
    let checkpoints = ["--threads", "1", "--checkpoint-seconds", "0.2"];
    let serve = shim.serve(&data).args(&["--lease-seconds", &lease, "--workers", workers]);
    serve.args(&checkpoints).args(fault).start()
}

fn accepted(client: &Client, history: &History, spec: &Value, key: &str) -> String {
    post(client, history, spec, key).unwrap_or_else(|Gone| panic!("no answer to {key}"))
}

fn is_running(job: &Value) -> bool {
    job["state"] == "running" || has_ended(job)
}

/// Watches all jobs for a while. Returns a job that was taken from a living worker, if there is one.
fn taken(client: &Client, within: Duration) -> Option<Value> {
    let end = Instant::now() + within;
    let seen = poll(within + LEASE, || {
        let jobs = client.jobs().expect("jobs");
        let taken = jobs.into_iter().find(|job| job["attempt"].as_u64() > Some(1));
        (taken.is_some() || Instant::now() >= end).then_some(taken)
    });
    seen.flatten()
}

/// Asserts that no job is taken from a living worker for a while.
fn nobody_takes(client: &Client, within: Duration, words: &str) {
    let taken = taken(client, within);
    assert!(taken.is_none(), "{words}: a job was taken from a live worker: {taken:?}");
}

/// Moves the clock while two servers train. Jobs of one model are posted before and after.
fn jumps(offsets: &[i64]) {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let specs = [slow("one", 10_000), slow("two", 10_000), spec("queue", 2, 3), spec("queue", 3, 4)];
    let mut servers = [serve(&shim, "1", &[]), serve(&shim, "2", &[])];
    let [first, second] = [&servers[0], &servers[1]].map(Server::client);
    let history = History::new();
    let endless =
        [accepted(&first, &history, &specs[0], "one"), accepted(&second, &history, &specs[1], "two")];
    for id in &endless {
        first.until(id, ENDED_WITHIN, is_running).expect("a job that runs");
    }
    for (number, offset) in offsets.iter().enumerate() {
        let words = format!("offsets {offsets:?}, number {number}");
        accepted(&first, &history, &specs[2 + number % 2], &format!("before-{number}"));
        shim.set(Number::Clock, *offset);
        accepted(&second, &history, &specs[2 + (number + 1) % 2], &format!("after-{number}"));
        nobody_takes(&first, LEASE + LEASE / 2, &words);
    }
    for id in &endless {
        let job = second.job(id).expect("a job");
        assert_eq!((&job["state"], &job["attempt"]), (&json!("running"), &json!(1)), "{job}");
        let asked = history.now();
        let answer = second.cancel(id).expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text());
        history.told(asked, What::Cancelled { id: id.clone() });
    }
    checker::all_ended(&first, ENDED_WITHIN).unwrap_or_else(|why| panic!("{why}"));
    nobody_takes(&first, Duration::ZERO, "at the end");
    servers[1].terminate(STOPPED_WITHIN);
    let [first, _] = servers;
    let violations = settled(first, &history, &specs[2..]);
    assert!(violations.is_empty(), "offsets {offsets:?}:{}", checker::in_words(&violations));
}

/// Kills one of two servers while the clock moves. The other one takes its job.
fn takes_up(offset: i64) {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let specs = vec![slow("taken", 300)];
    let history = History::new();
    let mut victim = serve(&shim, "1", &[]);
    let id = accepted(&victim.client(), &history, &specs[0], "taken");
    let trains = |job: &Value| job["progress"]["epoch"].as_u64() >= Some(2) || has_ended(job);
    victim.client().until(&id, ENDED_WITHIN, trains).expect("a job that trains");
    let heir = serve(&shim, "1", &[]);
    shim.set(Number::Clock, offset);
    victim.kill();
    let killed = Instant::now();
    let has_taken = |job: &Value| job["attempt"].as_u64() >= Some(2) && is_running(job);
    let job = heir.client().until(&id, TAKEN_WITHIN, has_taken);
    let job = job.unwrap_or_else(|job| panic!("offset {offset}: not taken within {TAKEN_WITHIN:?}: {job}"));
    println!("offset {offset}: taken after {:?}", killed.elapsed());
    assert_eq!(job["attempt"], 2, "offset {offset}: {job}");
    let violations = settled(heir, &history, &specs);
    assert!(violations.is_empty(), "offset {offset}:{}", checker::in_words(&violations));
}

#[test]
fn jumps_of_the_clock_take_no_job_from_a_living_worker_and_change_no_order() {
    jumps(&[HOUR, -HOUR]);
}

#[test]
fn a_dead_servers_job_is_taken_although_the_clock_is_an_hour_slow() {
    takes_up(-HOUR);
}

/// The known-bad twin: a server whose leases expire by the wall clock takes the job of a living one.
#[test]
fn a_server_that_trusts_the_wall_clock_is_found() {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let victim = serve(&shim, "1", &[]);
    let history = History::new();
    let id = accepted(&victim.client(), &history, &slow("one", 10_000), "one");
    victim.client().until(&id, ENDED_WITHIN, is_running).expect("a job that runs");
    // The thief starts only now, so that the job runs on the victim. No server takes a job from itself.
    let thief = serve(&shim, "1", &["--fault", "wall-clock"]);
    nobody_takes(&thief.client(), LEASE, "no clock has jumped");
    // If a beat is written at the moment of an observation, that observation misses the jump.
    let end = Instant::now() + TAKEN_WITHIN;
    let mut found = None;
    for jump in (1..).take_while(|_| Instant::now() < end) {
        shim.set(Number::Clock, jump * HOUR);
        found = taken(&thief.client(), LEASE / 2);
        if found.is_some() {
            break;
        }
    }
    assert!(found.is_some(), "the clock jumped, and nothing was found");
}

#[test]
#[ignore = "moves the clock ten times, and lets five jobs be taken over"]
fn many_jumps_of_the_clock_change_nothing() {
    let offsets = [HOUR, 0, -HOUR, HOUR, -24 * HOUR, 365 * 24 * HOUR, 1, -1, 3, -3];
    jumps(&offsets);
    for offset in [0, HOUR, -HOUR, 24 * HOUR, -24 * HOUR] {
        takes_up(offset);
    }
    println!("figures: clock jumps={} take_overs=5 bad=0", offsets.len());
}
