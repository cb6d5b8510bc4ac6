//! A load of three servers, one after the other on one folder. One is stopped and one is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checker;
use crate::jobs::{ENDED_WITHIN, posted, spec};
use crate::process::{Client, Server};
use crate::random::Random;
use crate::shim::{Shim, scratch};

/// The time limit for a server to stop on SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// The specs that are posted: short ones, and one that outlasts two servers.
pub fn specs() -> Vec<Value> {
    vec![spec("a", 2, 1), spec("a", 3, 2), spec("b", 2, 3), spec("long", 60, 4)]
}

/// The result of a run.
pub struct Day {
    /// The shim's log.
    pub log: Vec<u8>,
    /// The files in the folder at the end.
    pub files: Files,
}

/// Runs the load with a seed.
pub fn run(seed: u64) -> Day {
    let (folder, aside) = (scratch(), scratch());
    let log = aside.path().join("log");
    let shim = Shim::new(folder.path(), aside.path()).with_log(&log);
    let data = shim.folder.join("data");
    let serve = || shim.serve(&data).args(&["--threads", "1", "--checkpoint-seconds", "0.05"]).start();
    let mut random = Random::new(seed);
    let specs = specs();

    let mut server = serve();
    let client = server.client();
    let first = posted(&client, &specs[0], "first");
    at_once(&client, &specs, "early");
    ended(&client, &first);
    told(&client.send_json("PUT", "/v1/models/a/aliases/best", &json!({ "version": 1 })));
    let second = posted(&client, &specs[1], "second");
    told(&client.cancel(&second));
    let long = posted(&client, &specs[3], "long");
    in_epoch(&client, &long, 2 + random.below(8) as u64);
    assert!(server.terminate(STOPPED_WITHIN).success(), "{}", server.errors());

    let mut server = serve();
    let client = server.client();
    assert_eq!(posted(&client, &specs[0], "first"), first);
    told(&client.delete(&format!("/v1/jobs/{first}")));
    posted(&client, &specs[2], "third");
    in_epoch(&client, &long, 12 + random.below(8) as u64);
    posted(&client, &specs[1], "fourth");
    server.kill();

    let mut server = serve();
    let client = server.client();
    at_once(&client, &specs, "late");
    told(&client.send_json("PUT", "/v1/models/a/aliases/best", &json!({ "version": 2 })));
    for job in client.jobs().expect("jobs") {
        ended(&client, job["id"].as_str().expect("an id"));
    }
    told(&client.delete("/v1/models/b@1"));
    stop(&mut server);
    Day { log: std::fs::read(log).expect("a log"), files: files_in(&shim.folder) }
}

/// Files by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Returns all files in a folder except SQLite's shared memory, which needs no storage.
pub fn files_in(folder: &Path) -> Files {
    let names = checker::files_under(folder).expect("files").into_iter();
    let names = names.filter(|name| !name.ends_with("-shm"));
    names.map(|name| (name.clone(), std::fs::read(folder.join(name)).expect("a file"))).collect()
}

fn stop(server: &mut Server) {
    assert!(server.terminate(STOPPED_WITHIN).success(), "{}", server.errors());
}

/// Posts three jobs on three connections in parallel.
fn at_once(client: &Client, specs: &[Value], key: &str) {
    std::thread::scope(|scope| {
        for (number, spec) in specs.iter().take(3).enumerate() {
            scope.spawn(move || posted(client, spec, &format!("{key}-{number}")));
        }
    });
}

/// Asserts that there is a response. It may be a refusal.
fn told(answer: &std::io::Result<crate::process::Answer>) {
    let answer = answer.as_ref().expect("an answer");
    assert!(answer.status < 500, "{}", answer.text());
}

/// Polls a job until it has ended, as a client does.
fn ended(client: &Client, id: &str) {
    client.ended(id, ENDED_WITHIN).expect("an end");
}

fn in_epoch(client: &Client, id: &str, epoch: u64) {
    let reached =
        |job: &Value| job["progress"]["epoch"].as_u64() >= Some(epoch) || job["state"] == "succeeded";
    client.until(id, ENDED_WITHIN, reached).expect("an epoch");
}
