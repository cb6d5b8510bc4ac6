//! The process dies at each of its fail points, and afterwards no client can notice it.

mod scenario;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use self::scenario::{FLAGS, KEEP_JOBS, KEEP_VERSIONS, RETENTION, before, finish, play};
use crate::checker::{History, Rules, check, check_command, in_words, settled};
use crate::folders::{copy_into, copy_of};
use crate::process::{Client, Serve, output, poll};
use crate::workload::{SOON, specs, weights};

/// The number of SIGKILL.
const KILLED: i32 = 9;

/// The process may still die this long after the end of the scenario. Some points are in a release on SIGTERM
/// or in a sweep.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// How often the scenario is tried for one point. On a busy machine a job may end before it can be released.
const PLAYS: u32 = 3;

/// Returns the names of all fail points, as the binary prints them.
fn points() -> Vec<String> {
    let output = output(&["faults"]);
    assert!(output.status.success(), "chainrule faults: {output:?}");
    let text = String::from_utf8(output.stdout).expect("names in UTF-8");
    let names: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(!names.is_empty(), "chainrule faults names no point");
    names
}

/// Plays the scenario on a copy of the folder of [`before`] until the process dies at `point` for the `nth`
/// time. Calls `meanwhile`, then plays the scenario to its end without a fault. Returns the violations as an
/// error. `retention` is empty or [`RETENTION`].
fn dies_at(point: &str, nth: u32, retention: &[&str], meanwhile: impl Fn(&Path)) -> Result<(), String> {
    let fault = format!("kill@{point}:{nth}");
    for _ in 0..PLAYS {
        let folder = copy_of(before().folder.path());
        let history = History::after(before().events.clone());
        if comes_to(&fault, folder.path(), &history, retention)? {
            meanwhile(folder.path());
            let ended = ends_well(folder.path(), &history, retention);
            return ended.map_err(|words| format!("{fault} {}: {words}", retention.join(" ")));
        }
    }
    Err(format!("the scenario never comes to {fault}"))
}

/// Plays the scenario on `folder`. Returns whether the process died of `fault`.
fn comes_to(fault: &str, folder: &Path, history: &History, retention: &[&str]) -> Result<bool, String> {
    match Serve::new(folder).args(&FLAGS).args(retention).args(&["--fault", fault]).try_start() {
        Err(words) if words.contains("signal: 9") || words.contains("unix_wait_status(9)") => Ok(true),
        Err(words) => Err(format!("it did not start: {words}")),
        Ok(mut server) => {
            if play(&server.client(), history).is_some() {
                server.signal("TERM");
            }
            let status = server.wait(DIES_WITHIN).ok_or("it has not died, nor ended on SIGTERM")?;
            match status.signal() {
                Some(KILLED) => Ok(true),
                None if status.success() => Ok(false),
                _ => Err(format!("{fault}: it ended with {status}")),
            }
        }
    }
}

/// Starts a server without a fault and plays the scenario to its end. Then starts another one without
/// retention, so that nothing is deleted during the check.
fn ends_well(folder: &Path, history: &History, retention: &[&str]) -> Result<(), String> {
    let keeps_all = retention.is_empty();
    let rules = Rules {
        weights: weights().clone(),
        keep_jobs: (!keeps_all).then_some(KEEP_JOBS),
        keep_versions: (!keeps_all).then_some(KEEP_VERSIONS),
        ..Rules::default()
    };
    let mut server = Serve::new(folder).args(&FLAGS).args(retention).try_start()?;
    finish(&server.client(), history);
    crate::checker::all_ended(&server.client(), SOON)?;
    if !keeps_all {
        poll(SOON, || is_tidied(&server.client()).then_some(())).ok_or("retention keeps too much")?;
    }
    server.terminate(DIES_WITHIN);
    let mut server = Serve::new(folder).args(&FLAGS).try_start()?;
    let seen = settled(&server.client(), folder, history, specs(), SOON)?;
    server.terminate(DIES_WITHIN);
    let violations = check(history, &seen, &rules);
    check_command(folder)?;
    if violations.is_empty() { Ok(()) } else { Err(in_words(&violations)) }
}

/// Returns whether retention has deleted everything it should. Versions with aliases are kept.
fn is_tidied(client: &Client) -> bool {
    let models = client.all("/v1/models", "models").expect("models");
    let is_kept_to = |model: &Value| {
        let aliases = model["aliases"].as_object().map_or(0, Map::len);
        model["version_count"].as_u64() <= Some((KEEP_VERSIONS + aliases) as u64)
    };
    let are_kept_to = models.iter().all(is_kept_to);
    are_kept_to && client.jobs().expect("jobs").len() <= KEEP_JOBS
}

fn assert_all(name: &str, nths: &[u32], retentions: &[&[&str]]) {
    let points = points();
    let mut failures = Vec::new();
    for retention in retentions {
        for (point, nth) in points.iter().flat_map(|point| nths.iter().map(move |nth| (point, nth))) {
            if let Err(words) = dies_at(point, *nth, retention, |_| {}) {
                println!("{words}");
                failures.push(words);
            }
        }
    }
    let runs = points.len() * nths.len() * retentions.len();
    println!("figures: {name} points={} runs={runs} failures={}", points.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nothing_is_lost_by_a_death_at_any_point() {
    assert_all("crash_points", &[1], &[&[]]);
}

/// The known-bad twin: a process that loses acknowledged jobs when it dies. If this were not found, the test
/// above would prove nothing.
#[test]
fn a_death_that_loses_the_last_jobs_is_found() {
    let forget = |folder: &Path| {
        std::fs::remove_dir_all(folder).expect("an old folder");
        copy_into(before().folder.path(), folder).expect("a copy");
    };
    let words = dies_at("after-release", 1, &[], forget).expect_err("jobs were lost and nothing was found");
    assert!(words.contains("was acknowledged"), "{words}");
}

#[test]
#[ignore = "kills a server four times at each crash point"]
fn nothing_is_lost_by_a_later_death_at_any_point() {
    assert_all("crash_points_long", &[1, 2], &[&[], &RETENTION]);
}
