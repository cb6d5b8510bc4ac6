//! Disks that are full, read-only or broken for a while.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::checker::{self, History, Law, What};
use crate::jobs::{ENDED_WITHIN, spec};
use crate::process::{Client, Serve, Server, has_ended, poll};
use crate::scenario::{PATIENT, STOPPED_WITHIN, lose_an_accepted_job, post, settled};
use crate::shim::{
    CREATES, EDQUOT, EIO, ENOSPC, EROFS, Failure, Number, Place, REMOVES, SYNCS, Shim, WRITES, scratch,
};

/// The time limit for a job to report that it waits, and to continue once it can.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

const LASTING: i64 = -1;

/// The most renewals of a lease in a second.
const RENEWALS: usize = 4;

/// A minimum of free space that is so low that the small file system stays above it.
const FLOOR: [&str; 2] = ["--min-free-bytes", "100000"];

/// A short job whose model is served all the time, a job that trains while the disk fails, and a job that is
/// posted during the failure.
fn specs() -> Vec<Value> {
    vec![spec("first", 1, 1), spec("long", 200, 2), spec("late", 1, 3)]
}

/// A server with a model, and a job that trains.
struct Working {
    server: Server,
    client: Client,
    history: History,
    long: String,
}

impl Working {
    fn begin(serve: Serve) -> Self {
        // A checkpoint in each epoch keeps the disk busy.
        let flags = ["--threads", "1", "--checkpoint-seconds", "0.05", "--lease-seconds", "1"];
        let server = serve.args(&flags).args(&FLOOR).start();
        let client = server.client();
        let history = History::new();
        let specs = specs();
        let first = post(&client, &history, &specs[0], "first").unwrap_or_else(|_| panic!("no answer"));
        client.ended(&first, ENDED_WITHIN).expect("an end");
        let long = post(&client, &history, &specs[1], "long").unwrap_or_else(|_| panic!("no answer"));
        let working = Self { server, client, history, long };
        working.trains_on();
        working
    }

    fn epoch(&self) -> Option<u64> {
        self.client.job(&self.long)?["progress"]["epoch"].as_u64()
    }

    /// Asserts that the job makes progress.
    fn trains_on(&self) {
        let before = self.epoch().unwrap_or(0);
        let further = poll(NOTICED_WITHIN, || {
            let job = self.client.job(&self.long)?;
            let epoch = job["progress"]["epoch"].as_u64()?;
            (epoch > before || job["state"] == "succeeded").then_some(())
        });
        assert!(further.is_some(), "it stands still: {:?}", self.client.job(&self.long));
    }

    /// Asserts that the job reports that it waits, and that predictions are served.
    fn waits(&self, words: &str) {
        let waits = |job: &Value| job["progress"]["waiting_for_disk"] == json!(true);
        if let Err(job) = self.client.until(&self.long, NOTICED_WITHIN, waits) {
            panic!("{words}: the job does not say that it waits: {job}");
        }
        let answer = self.client.predict("first").expect("an answer");
        assert_eq!(answer.status, 200, "{words}: {}", answer.text());
    }

    /// Waits until the disk has refused renewals of the job for longer than a lease of `seconds`.
    fn outlasts_a_lease(&self, seconds: usize) {
        let refused = || self.server.errors().matches("the lease was not renewed").count();
        let outlasted = poll(NOTICED_WITHIN, || (refused() > seconds * RENEWALS).then_some(()));
        assert!(outlasted.is_some(), "{} renewals were refused", refused());
    }

    /// Posts a job. It must be refused with one of `refusals`, or be accepted and kept if that is allowed.
    fn posts(&self, words: &str, refusals: &[u16], may_be_accepted: bool) {
        let spec = &specs()[2];
        let asked = self.history.now();
        let posted = |id| What::Posted { key: "late".to_owned(), spec: spec.to_string(), id };
        let answer = self.client.post_job(spec, Some("late")).expect("an answer");
        match answer.status {
            202 => {
                assert!(may_be_accepted, "{words}: accepted: {}", answer.text());
                self.history.told(asked, posted(answer.json()["id"].as_str().map(str::to_owned)));
            }
            status => {
                assert!(refusals.contains(&status), "{words}: {status} {}", answer.text());
                self.history.unanswered(asked, posted(None));
            }
        }
    }

    /// Asserts that after the fault the job continues by itself, jobs are accepted, and all jobs end as in an
    /// undisturbed run.
    fn recovers(mut self, words: &str) {
        self.trains_on();
        let after = post(&self.client, &self.history, &specs()[2], "after");
        assert!(after.is_ok(), "{words}: the server is gone: {}", self.server.errors());
        checker::all_ended(&self.client, ENDED_WITHIN).unwrap_or_else(|why| panic!("{words}: {why}"));
        let job = self.client.job(&self.long).expect("a job");
        assert_eq!(job["attempt"], 1, "{words}: a server that waits takes its own job away: {job}");
        let status = self.server.terminate(STOPPED_WITHIN);
        assert!(status.success(), "{words}: {status}: {}", self.server.errors());
        // A file that could not be deleted stays until the next start.
        let server = Serve::new(&self.server.folder).args(&PATIENT).args(&FLOOR).start();
        let violations = settled(server, &self.history, &specs());
        assert!(violations.is_empty(), "{words}:{}", checker::in_words(&violations));
    }
}

fn lasting(error: i64, classes: i64, place: Place) -> Failure {
    Failure { error, classes, place, shots: LASTING }
}

/// Runs a job on a disk that fails for a while.
fn fails_for_a_while(failure: Failure) {
    let words = format!("{failure:?}");
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let working = Working::begin(shim.serve(&shim.folder.join("data")));
    shim.fail(failure);
    working.waits(&words);
    // If only blobs can't be written, a job can still be accepted and kept.
    working.posts(&words, &[507], matches!(failure.place, Place::Blobs));
    assert!(shim.get(Number::Refused) > 0, "{words}: nothing was refused");
    shim.heal();
    working.recovers(&words);
}

/// Runs a job on a disk that refuses one or a few operations.
fn fails_so_often(failure: Failure) {
    let words = format!("{failure:?}");
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let working = Working::begin(shim.serve(&shim.folder.join("data")));
    shim.fail(failure);
    working.posts(&words, &[500, 503, 507], true);
    // The job may end before it has written that often.
    let has_ended = || working.client.job(&working.long).is_some_and(|job| has_ended(&job));
    let all =
        poll(NOTICED_WITHIN, || (shim.get(Number::Refused) >= failure.shots || has_ended()).then_some(()));
    let job = working.client.job(&working.long);
    let refused = shim.get(Number::Refused);
    assert!(all.is_some(), "{words}: {refused} were refused: {job:?}: {}", working.server.errors());
    assert!(refused > 0, "{words}: nothing was refused");
    shim.heal();
    working.recovers(&words);
}

#[test]
fn a_job_waits_for_a_full_disk_and_continues() {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let working = Working::begin(shim.serve(&shim.folder.join("data")));
    shim.set(Number::Quota, 10_000);
    working.waits("a quota");
    // The failed write of the job freed some space, and a row may still fit in it. A few more jobs fill it.
    let refused = poll(NOTICED_WITHIN, || {
        let number = working.history.now();
        let (key, spec) = (format!("fill-{number}"), &specs()[2]);
        let answer = working.client.post_job(spec, Some(&key)).expect("an answer");
        let id = (answer.status == 202).then(|| answer.json()["id"].as_str().expect("an id").to_owned());
        let what = What::Posted { key, spec: spec.to_string(), id };
        match answer.status {
            202 => working.history.told(number, what),
            _ => working.history.unanswered(number, what),
        }
        (answer.status != 202).then_some((answer.status, answer.text()))
    });
    working.outlasts_a_lease(1);
    let (status, text) = refused.expect("a refusal");
    assert_eq!(status, 507, "{text}");
    shim.heal();
    working.recovers("a quota");
}

/// Another server on the same folder can't write either. It must not conclude from this that the worker is
/// dead.
#[test]
fn a_job_that_waits_for_the_disk_is_not_taken_by_another_server() {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let working = Working::begin(shim.serve(&shim.folder.join("data")));
    let mut beside = shim.serve(&working.server.folder).args(&["--lease-seconds", "3"]).args(&FLOOR).start();
    shim.fail(lasting(ENOSPC, WRITES | CREATES, Place::Anywhere));
    working.waits("a full disk");
    working.outlasts_a_lease(3);
    shim.heal();
    working.trains_on();
    beside.terminate(STOPPED_WITHIN);
    working.recovers("a full disk");
}

#[test]
fn a_job_waits_for_a_read_only_disk_and_continues() {
    fails_for_a_while(lasting(EROFS, WRITES | CREATES | REMOVES, Place::Anywhere));
}

/// SQLite opens a read-only file for reading, and does not try again to write while the file is open.
#[test]
fn a_disk_that_was_read_only_for_a_moment_is_written_again() {
    for shots in [2, 3, 4] {
        fails_so_often(Failure {
            error: EROFS,
            classes: WRITES | CREATES | REMOVES,
            place: Place::Rows,
            shots,
        });
    }
}

#[test]
fn a_job_waits_for_a_disk_that_does_not_sync_and_continues() {
    fails_for_a_while(lasting(EIO, SYNCS, Place::Anywhere));
}

#[test]
fn one_failed_sync_does_not_fail_a_job() {
    fails_so_often(Failure { error: EIO, classes: SYNCS, place: Place::Anywhere, shots: 1 });
}

#[test]
#[ignore = "lets the disk fail in 15 ways, each for a while and a few times"]
fn a_job_waits_for_each_kind_of_failing_disk() {
    let (mut kinds, mut shots) = (0, 0);
    for place in [Place::Anywhere, Place::Rows, Place::Blobs] {
        for (error, classes) in [
            (ENOSPC, WRITES | CREATES),
            (EDQUOT, WRITES | CREATES),
            (EROFS, WRITES | CREATES | REMOVES),
            (EIO, WRITES),
            (EIO, SYNCS),
        ] {
            fails_for_a_while(lasting(error, classes, place));
            kinds += 1;
            for count in [1, 2, 5] {
                fails_so_often(Failure { error, classes, place, shots: count });
                shots += count;
            }
        }
    }
    println!("figures: disk kinds={kinds} single_refusals={shots} bad=0");
}

#[test]
fn below_the_floor_a_job_is_refused() {
    let folder = scratch();
    let floor = (1_u64 << 60).to_string();
    let server = Serve::new(folder.path()).args(&["--min-free-bytes", &floor]).start();
    let answer = server.client().post_job(&specs()[0], Some("first")).expect("an answer");
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert_eq!(answer.json()["code"], "disk_full", "{}", answer.text());
    assert_eq!(server.client().jobs().expect("jobs"), Vec::<Value>::new());
}

/// The epochs that a job could not write before its server stopped are trained again, so none is missing.
#[test]
fn a_job_that_waits_for_the_disk_while_its_server_stops_loses_no_epoch() {
    let (folder, aside) = (scratch(), scratch());
    let shim = Shim::new(folder.path(), aside.path());
    let working = Working::begin(shim.serve(&shim.folder.join("data")));
    shim.fail(lasting(ENOSPC, WRITES | CREATES, Place::Anywhere));
    working.waits("a full disk");
    // By then, the training itself must wait.
    working.outlasts_a_lease(2);
    shim.heal();
    let Working { mut server, history, .. } = working;
    let status = server.terminate(STOPPED_WITHIN);
    assert!(status.success(), "{status}: {}", server.errors());
    let server = Serve::new(&server.folder).args(&PATIENT).args(&FLOOR).start();
    let violations = settled(server, &history, &specs());
    assert!(violations.is_empty(), "{}", checker::in_words(&violations));
}

/// The known-bad twin: a disk that loses what it has acknowledged.
#[test]
fn the_checks_find_a_job_that_was_accepted_and_not_written() {
    let folder = scratch();
    let history = History::new();
    lose_an_accepted_job(folder.path(), &history);
    let violations = settled(Serve::new(folder.path()).args(&PATIENT).start(), &history, &specs());
    assert!(checker::count(&violations, Law::Lost) > 0, "found: {}", checker::in_words(&violations));
}

/// A small file system in memory. It is unmounted on drop.
struct Small {
    at: PathBuf,
}

impl Small {
    /// Returns `None` if this machine does not allow mounting.
    fn mounted(at: &Path) -> Option<Self> {
        let arguments = ["-t", "tmpfs", "-o", "size=8m", "chainrule-test"];
        let status = Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then(|| Self { at: at.to_owned() })
    }

    /// Fills the file system to the last byte.
    fn fill(&self) -> PathBuf {
        let ballast = self.at.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("a file");
        for size in [64 * 1024, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A failure to unmount can't make the test fail here.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn a_job_waits_for_a_full_file_system_and_continues() {
    let folder = scratch();
    let Some(small) = Small::mounted(folder.path()) else {
        // Only what the print macros write is captured.
        let why = "skipped: a full file system, because this user can't mount one";
        writeln!(std::io::stderr(), "{why}").expect("standard error");
        return;
    };
    let working = Working::begin(Serve::new(&small.at.join("data")));
    let ballast = small.fill();
    working.waits("8 MiB");
    working.posts("8 MiB", &[507], false);
    std::fs::remove_file(ballast).expect("removed");
    working.recovers("8 MiB");
}
