//! `slowhttptest` (the program in the Debian package of this name) in its four modes.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::attack::{Attack, Kind, Scene, Target};

/// Duration of a run in seconds: longer than the usual timeouts of servers.
const SECONDS: u64 = 25;

/// Extra time for the program to write its report.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// A mode of attack.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Headers,
    Body,
    Range,
    Read,
}

/// The program's judgement of the server.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The number of probes that got a response, and the number of all probes.
    Available(usize, usize),
    /// Why the program did not run.
    Skipped(String),
}

impl Verdict {
    /// Returns what is wrong, if anything is.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Available(there, looks) if there < looks => Some(format!("slowhttptest: {self}")),
            Self::Available(..) => None,
            Self::Skipped(why) => Some(format!("not shown: {why}")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available(there, looks) => write!(f, "service available in {there} of {looks} s"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

pub fn attacks() -> Vec<Attack> {
    let attack = |name, what, run| Attack {
        name,
        what,
        defence: "timeouts in both directions; a share of the connections for each client",
        kind: Kind::Starvation,
        scene: Scene::Models,
        expected: &[],
        seconds_min: SECONDS,
        run,
    };
    vec![
        attack("slow-headers", "`slowhttptest -H`, 1,000 connections", |target| {
            Box::pin(run(target, Mode::Headers))
        }),
        attack("slow-body", "`slowhttptest -B`, 1,000 connections", |target| {
            Box::pin(run(target, Mode::Body))
        }),
        attack("range", "`slowhttptest -R`, 1,000 connections", |target| Box::pin(run(target, Mode::Range))),
        attack("slow-read", "`slowhttptest -X`, 1,000 connections", |target| {
            Box::pin(run(target, Mode::Read))
        }),
    ]
}

async fn run(target: Target, mode: Mode) {
    let judged = target.clone();
    let running = tokio::task::spawn_blocking(move || measured(&target, mode));
    let verdict = match running.await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Skipped(format!("{error:#}")),
        Err(_) => Verdict::Skipped("its run panicked".to_owned()),
    };
    judged.judge(verdict);
}

fn measured(target: &Target, mode: Mode) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report");
    // Runs at the attackers' low priority; see `main`.
    let mut command = Command::new("nice");
    command.args(["-n", "10", "slowhttptest", "-c", "1000", "-r", "200", "-p", "3", "-v", "0", "-g", "-o"]);
    command.arg(&report).args(["-l", &SECONDS.to_string()]).args(flags(target, mode));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !is_installed() {
        return Ok(Verdict::Skipped("slowhttptest is not installed".to_owned()));
    }
    let mut child = command.spawn()?;
    let ended = wait(&mut child, Duration::from_secs(SECONDS) + REPORT_WITHIN);
    // The process may have ended already.
    let _ = child.kill();
    child.wait()?;
    ended.context("slowhttptest did not end in time")?;
    available(&report.with_extension("csv"))
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("slowhttptest").is_file())
}

fn flags(target: &Target, mode: Mode) -> Vec<String> {
    let url = |path: &str| format!("http://{}{path}", target.address);
    let predict = url("/v1/models/digits/predict");
    let flags: Vec<&str> = match mode {
        Mode::Headers => vec!["-H", "-i", "10", "-t", "GET", "-x", "24", "-u"],
        Mode::Body => {
            vec![
                "-B",
                "-i",
                "10",
                "-s",
                "8192",
                "-t",
                "POST",
                "-x",
                "10",
                "-f",
                "application/octet-stream",
                "-u",
            ]
        }
        Mode::Range => vec!["-R", "-a", "10", "-b", "3000", "-t", "HEAD", "-u"],
        Mode::Read => vec!["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3", "-u"],
    };
    let url = match mode {
        Mode::Headers | Mode::Range => url("/"),
        Mode::Body => predict,
        Mode::Read => url("/v1/networks"),
    };
    flags.into_iter().map(str::to_owned).chain([url]).collect()
}

fn wait(child: &mut Child, within: Duration) -> Option<()> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if child.try_wait().ok().flatten().is_some() {
            return Some(());
        }
        thread::sleep(PAUSE);
    }
    None
}

/// The last column of the report is 0 in each second in which a probe got no response.
fn available(report: &Path) -> Result<Verdict> {
    let text = fs::read_to_string(report).context("slowhttptest wrote no report")?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    anyhow::ensure!(header.ends_with("Service Available"), "an unknown report of slowhttptest: {header}");
    let looks: Vec<bool> = lines
        .filter_map(|line| line.rsplit(',').next()?.trim().parse::<u64>().ok())
        .map(|there| there > 0)
        .collect();
    Ok(Verdict::Available(looks.iter().filter(|is_there| **is_there).count(), looks.len()))
}
