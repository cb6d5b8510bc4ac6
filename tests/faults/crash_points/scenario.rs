//! A scenario that reaches every fail point at least twice, and the folder it starts with.

use std::fs;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::checker::{Event, History};
use crate::process::{Client, Serve, has_ended};
use crate::script::Script;
use crate::workload::{SOON, specs};

pub const KEEP_JOBS: usize = 2;
pub const KEEP_VERSIONS: usize = 1;

/// Deletes ended jobs and versions while the scenario runs, so the checks can be less strict.
pub const RETENTION: [&str; 4] = ["--keep-jobs", "2", "--keep-versions", "1"];

/// Two workers, so that two jobs are claimed, released and rescued.
pub const FLAGS: [&str; 12] = [
    "--threads",
    "1",
    "--workers",
    "2",
    "--lease-seconds",
    "1",
    "--checkpoint-seconds",
    "0.05",
    "--upkeep-seconds",
    "1",
    "--crashes-max",
    "1000",
];

/// Neither of two jobs of 1,200 steps can have ended at this step.
const DIES_BETWEEN: &str = "kill@step:1000";

/// A folder whose server was killed while it ran two jobs, with some orphaned files.
pub struct Before {
    pub folder: TempDir,
    pub events: Vec<Event>,
}

/// Returns the folder, which is created once.
pub fn before() -> &'static Before {
    static BEFORE: OnceLock<Before> = OnceLock::new();
    BEFORE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::new();
        let dies = ["--fault", DIES_BETWEEN];
        let mut server = Serve::new(folder.path()).args(&FLAGS).args(&dies).start();
        let script = Script { client: server.client(), history: &history };
        let first = post(&script, "before-0", "a0").expect("an answer");
        script.until(&first, has_ended).expect("an answer");
        // The server may die before it responds to the second request.
        for (key, spec) in [("before-1", "a3"), ("before-2", "b3")] {
            post(&script, key, spec);
        }
        server.wait(SOON).expect("a death");
        let blobs = folder.path().join("blobs");
        let nobody = "01900000-0000-7000-8000-000000000000";
        fs::create_dir_all(blobs.join("jobs").join(nobody)).expect("a folder");
        for name in [
            format!("jobs/{nobody}/1-10.safetensors"),
            format!("jobs/{nobody}/1-20.safetensors#1"),
            format!("models/{nobody}-1.safetensors"),
            format!("models/a/9-{nobody}-1.safetensors"),
        ] {
            fs::write(blobs.join(name), b"of nobody").expect("a file");
        }
        Before { events: history.events(), folder }
    })
}

fn post(script: &Script, key: &str, spec: &str) -> Option<String> {
    script.post(key, spec, &specs()[spec])
}

/// The posts of the scenario: key and spec.
const POSTS: [(&str, &str); 13] = [
    ("first", "a1"),
    ("second", "b0"),
    ("third", "a2"),
    ("cancelled", "b3"),
    ("cancelled-too", "a3"),
    ("deleted", "b3"),
    ("deleted-too", "a3"),
    ("one-version", "c0"),
    ("another-version", "c0"),
    ("third-version", "c0"),
    ("pointed-at", "b0"),
    ("released", "a3"),
    ("released-too", "b3"),
];

/// Plays the scenario. Returns `None` if the server died before the end.
pub fn play(client: &Client, history: &History) -> Option<()> {
    let script = &Script { client: *client, history };
    let post = |key: &str| {
        let (_, spec) = POSTS.iter().find(|(other, _)| *other == key).expect("a key of the scenario");
        post(script, key, spec)
    };
    // Checkpoints are written and deleted, models are published.
    let trained = [post("first")?, post("second")?, post("third")?];
    for id in &trained {
        script.until(id, has_ended)?;
    }
    // The job is cancelled while it runs, then resumed.
    for key in ["cancelled", "cancelled-too"] {
        let id = post(key)?;
        script.until(&id, |job| job["progress"]["epoch"].as_u64() >= Some(1) || has_ended(job))?;
        script.cancel(&id)?;
        script.resume(&id)?;
    }
    for key in ["deleted", "deleted-too"] {
        let id = post(key)?;
        script.cancel(&id)?;
        script.delete(&id)?;
    }
    aliases_and_versions(script, &post)?;
    // The job is released when the server is asked to stop.
    let released = [post("released")?, post("released-too")?];
    for id in &released {
        script.until(id, |job| job["state"] == "running" || has_ended(job))?;
    }
    Some(())
}

/// Sets two aliases and deletes two versions. If retention has deleted a version or a job already, uses the
/// next one.
fn aliases_and_versions(script: &Script, post: &dyn Fn(&str) -> Option<String>) -> Option<()> {
    let version_of = |key: &str| -> Option<Option<u64>> {
        let id = post(key)?;
        let job = script.until(&id, has_ended)?;
        Some(job.and_then(|job| job["result"]["version"].as_u64()))
    };
    if let Some(version) = version_of("pointed-at")? {
        script.point("b", "best", version)?;
        script.point("b", "next", version)?;
    }
    for key in ["one-version", "another-version", "third-version"] {
        if let Some(version) = version_of(key)? {
            script.delete_version("c", version)?;
        }
    }
    Some(())
}

/// Repeats the requests without a response.
pub fn finish(client: &Client, history: &History) {
    let script = Script { client: *client, history };
    let events = history.events();
    for (key, spec) in POSTS {
        let of_key = |event: &&Event| matches!(&event.what, crate::checker::What::Posted { key: other, .. } if other == key);
        let posted: Vec<&Event> = events.iter().filter(of_key).collect();
        let is_answered = posted.iter().any(|event| event.told != crate::checker::NEVER);
        if !posted.is_empty() && !is_answered {
            post(&script, key, spec).expect("an answer");
        }
    }
}
