//! A short sequence of requests. It is recorded in a history, whatever happens to the server.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::checker::{self, History, Law, Rules, Violation, What};
use crate::jobs::{ENDED_WITHIN, by_text, spec, undisturbed};
use crate::process::{Answer, Client, Serve, Server};

/// One training thread, and almost no limit on crashes: the test kills the server, and the job is not at
/// fault.
pub const PATIENT: [&str; 4] = ["--threads", "1", "--crashes-max", "1000"];

/// The time limit for a server to stop on SIGTERM.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// The server no longer responds.
pub struct Gone;

/// The specs of the two jobs. One is awaited and deleted, the other is cancelled.
pub fn specs() -> Vec<Value> {
    vec![spec("kept", 2, 1), spec("dropped", 40, 2), spec("last", 2, 3)]
}

/// Posts three jobs, cancels one, waits for one and deletes it. A refused request is repeated.
///
/// # Errors
/// Returns an error if the server is gone. The history has what it promised until then.
pub fn live(client: &Client, history: &History) -> Result<(), Gone> {
    let specs = specs();
    let kept = post(client, history, &specs[0], "kept")?;
    let dropped = post(client, history, &specs[1], "dropped")?;
    let asked = history.now();
    match client.cancel(&dropped) {
        Ok(answer) if answer.status == 202 => history.told(asked, What::Cancelled { id: dropped }),
        answer => unanswered(history, asked, What::Cancelled { id: dropped }, answer)?,
    }
    post(client, history, &specs[2], "last")?;
    awaited(client, history, &kept)?;
    let asked = history.now();
    match client.delete(&format!("/v1/jobs/{kept}")) {
        Ok(answer) if answer.status == 204 => history.told(asked, What::Deleted { id: kept }),
        answer => unanswered(history, asked, What::Deleted { id: kept }, answer)?,
    }
    Ok(())
}

/// Kills a server after it has accepted a job. Puts back the database from before the job, like a disk that
/// acknowledges writes and loses them.
pub fn lose_an_accepted_job(data: &Path, history: &History) {
    let mut first = Serve::new(data).args(&PATIENT).start();
    let status = first.terminate(STOPPED_WITHIN);
    assert!(status.success(), "{status}: {}", first.errors());
    // A server that ends writes its log back, so this file is the whole database.
    let database = data.join("chainrule.db");
    let before = std::fs::read(&database).expect("a database");
    let mut server = Serve::new(data).args(&PATIENT).start();
    assert!(post(&server.client(), history, &specs()[2], "late").is_ok());
    server.kill();
    std::fs::write(&database, before).expect("written");
    for end in ["wal", "shm"] {
        std::fs::remove_file(data.join(format!("chainrule.db-{end}"))).expect("a file");
    }
}

fn unanswered(
    history: &History,
    asked: u64,
    what: What,
    answer: std::io::Result<Answer>,
) -> Result<(), Gone> {
    history.unanswered(asked, what);
    answer.map(drop).map_err(|_| Gone)
}

/// Posts a job until it is accepted.
///
/// # Errors
/// Returns an error if the server is gone.
pub fn post(client: &Client, history: &History, spec: &Value, key: &str) -> Result<String, Gone> {
    let deadline = Instant::now() + ENDED_WITHIN;
    loop {
        let asked = history.now();
        let posted = |id| What::Posted { key: key.to_owned(), spec: spec.to_string(), id };
        let answer = client.post_job(spec, Some(key));
        if let Ok(answer) = &answer
            && answer.status == 202
        {
            let id = answer.json()["id"].as_str().expect("an id").to_owned();
            history.told(asked, posted(Some(id.clone())));
            return Ok(id);
        }
        let status = answer.as_ref().ok().map(|answer| (answer.status, answer.text()));
        unanswered(history, asked, posted(None), answer)?;
        let (status, text) = status.expect("an answer");
        assert!(matches!(status, 500 | 503 | 507), "{key} was refused with {status}: {text}");
        assert!(Instant::now() < deadline, "{key} is still refused after {ENDED_WITHIN:?}: {status} {text}");
    }
}

/// Polls a job until it has ended.
fn awaited(client: &Client, history: &History, id: &str) -> Result<(), Gone> {
    let deadline = Instant::now() + ENDED_WITHIN;
    loop {
        let asked = history.now();
        let answer = client.get(&format!("/v1/jobs/{id}?wait_seconds=5")).map_err(|_| Gone)?;
        match answer.status {
            200 => history.told_job(asked, &answer.json()),
            404 => history.told(asked, What::Missing { id: id.to_owned() }),
            _ => {}
        }
        if crate::process::has_ended(&answer.json()) {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{id} has not ended: {} {}", answer.status, answer.text());
    }
}

/// Starts a server without faults on `data`, repeats the requests without a response, waits until all jobs
/// have ended, and returns the violations.
pub fn aftermath(data: &Path, history: &History) -> Vec<Violation> {
    match Serve::new(data).args(&PATIENT).try_start() {
        Ok(server) => settled(server, history, &specs()),
        Err(why) => vec![Violation { law: Law::Lost, words: format!("no server: {why}") }],
    }
}

/// Repeats the requests without a response, waits until all jobs have ended, stops the server and returns the
/// violations.
pub fn settled(mut server: Server, history: &History, specs: &[Value]) -> Vec<Violation> {
    let client = server.client();
    let texts: HashMap<String, Value> = by_text(specs);
    for (key, spec) in asked_in_vain(history) {
        if post(&client, history, &texts[&spec], &key).is_err() {
            let words = format!("the server is gone: {}", server.errors());
            return vec![Violation { law: Law::Lost, words }];
        }
    }
    let data = server.folder.clone();
    let rules = Rules { weights: undisturbed(specs), ..Rules::default() };
    let mut violations = match checker::settled(&client, &data, history, &texts, ENDED_WITHIN) {
        Ok(seen) => checker::check(history, &seen, &rules),
        Err(why) => vec![Violation { law: Law::Lost, words: format!("{why}; {}", server.errors()) }],
    };
    let status = server.terminate(STOPPED_WITHIN);
    if !status.success() {
        let words = format!("SIGTERM: {status}: {}", server.errors());
        violations.push(Violation { law: Law::Lost, words });
    }
    if let Err(words) = checker::check_command(&data) {
        violations.push(Violation { law: Law::Files, words });
    }
    violations
}

/// Returns key and spec of each job that was posted but never accepted.
fn asked_in_vain(history: &History) -> Vec<(String, String)> {
    let mut open: Vec<(String, String)> = Vec::new();
    for event in history.events() {
        if let What::Posted { key, spec, id } = event.what {
            open.retain(|(other, _)| *other != key);
            if id.is_none() {
                open.push((key, spec));
            }
        }
    }
    open
}
