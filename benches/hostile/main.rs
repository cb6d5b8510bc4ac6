//! Attacks a release server with default limits. Reports what the attackers received, what the server used,
//! and how a good client fared during the attack. The report is the Markdown of `docs/reliability.md`.
//!
//! `cargo bench --bench hostile [-- --before BINARY] [--only NAME] [--seconds N] [--markdown FILE]`
//!
//! With `--before`, each attack is also made on an older binary, in turns. Everything runs on one machine.
//! Attackers use 127.0.0.10 and up, on threads of low priority, as if they ran elsewhere. The good client
//! uses 127.0.0.9. The exit status is 1 if a defence of the binary under test did not hold.

mod attack;
mod attacks;
mod bombs;
mod good;
mod memory;
mod outcome;
mod scene;
mod server;
mod single;
mod slow;
mod table;
mod trial;
mod who;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit};
use tokio::runtime::Runtime;

use crate::attack::{Attack, Scene};
use crate::scene::Side;

/// The name in `--only` and `--list` for the part without attacks.
const WHO: &str = "who-may-ask";

/// The amount added to the nice value of the attackers' threads.
const ATTACKERS_NICE: i32 = 10;

/// Files for the connections that attackers hold, and some more.
const FILES_MIN: u64 = 4_096;

/// Attacks a release server and reports the results
#[derive(Parser)]
struct Flags {
    /// The binary under test [default: the binary of this build]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// An older binary to attack in turns with the one under test
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,

    /// Only attacks whose name contains this; can be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Seconds of each attack; attacks on timeouts take longer
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// List the attacks and exit
    #[arg(long)]
    list: bool,

    /// Also write the tables to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Compare single predictions of both binaries instead of attacking
    #[arg(long)]
    single: bool,

    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Flags {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }

    fn binary(&self) -> Result<PathBuf> {
        ensure!(
            self.binary.is_some() || !cfg!(debug_assertions),
            "this is a debug build; give a release build with --binary"
        );
        Ok(self.binary.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_chainrule").into()))
    }
}

fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    let attacks: Vec<Attack> = attacks::all().into_iter().filter(|attack| flags.wants(attack.name)).collect();
    if flags.list {
        attacks.iter().for_each(|attack| println!("{:<24} {}", attack.name, attack.what));
        println!("{WHO:<24} foreign hosts and sites, ambiguous requests");
        return Ok(ExitCode::SUCCESS);
    }
    let files = more_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| {
            // If the priority can't be set, the attackers compete with the server.
            let _ = rustix::process::nice(ATTACKERS_NICE);
        })
        .build()?;
    let scenes: Vec<Scene> = match flags.single {
        true => Vec::new(),
        false => attacks.iter().map(|attack| attack.scene).collect(),
    };
    let binaries = [("before", flags.before.clone()), ("after", Some(flags.binary()?))];
    let mut sides = Vec::new();
    for (label, binary) in binaries {
        if let Some(binary) = binary {
            println!("{label}: {}, which trains the models", binary.display());
            let preparing = Side::prepare(label, binary, &scenes, &files);
            sides.push(runtime.block_on(preparing)?);
        }
    }
    let failures = if flags.single {
        let is_kept = single::run(&sides, flags.seconds.min(5), &runtime, &files)?;
        if is_kept { Vec::new() } else { vec!["single predictions are slower".to_owned()] }
    } else {
        attack(&flags, &attacks, &sides, &runtime, &files)?
    };
    failures.iter().for_each(|failure| println!("failed: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the attacks and prints the figures. Returns the failed defences of the binary under test, which is
/// the last side.
fn attack(
    flags: &Flags,
    attacks: &[Attack],
    sides: &[Side],
    runtime: &Runtime,
    files: &Rlimit,
) -> Result<Vec<String>> {
    let mut text = setting(flags, files);
    let mut failures = Vec::new();
    let mut rows: Vec<table::Row> = Vec::new();
    let mut is_sampled = false;
    for attack in attacks {
        let mut trials = Vec::new();
        for side in sides {
            let trial = trial::run(attack, side, flags.seconds, runtime, files)
                .with_context(|| format!("{} on {}", attack.name, side.binary.display()))?;
            print!("{}", table::line(attack.name, side.label, &trial));
            is_sampled |= !trial.has_high_water;
            let failed = trial.failures(attack).into_iter().map(|why| format!("{}: {why}", attack.name));
            if std::ptr::eq(side, &sides[sides.len() - 1]) {
                failures.extend(failed);
            } else {
                failed.for_each(|failure| println!("  {}: {failure}", side.label));
            }
            trials.push((side.label, trial));
        }
        rows.push((attack, trials));
    }
    if is_sampled {
        text.push_str(
            "`/proc/PID/clear_refs` can't be written here: the peak is that of `VmRSS` every 10 ms.\n\n",
        );
    }
    text.push_str(&table::of_attacks(&rows));
    if flags.wants(WHO) {
        let mut answers = Vec::new();
        for side in sides {
            answers.push((side.label, runtime.block_on(who::run(side, files))?));
        }
        text.push_str(&table::of_cases(&answers));
        if let Some((_, tested)) = answers.last() {
            let wrong = tested.iter().filter(|(_, came)| !came.is_expected);
            failures.extend(
                wrong.map(|(case, came)| {
                    format!("{}: got {}, not {}", case.what, came.shown, case.expected())
                }),
            );
        }
    }
    println!("\n{text}");
    if let Some(file) = &flags.markdown {
        fs::write(file, text).with_context(|| format!("{} can't be written", file.display()))?;
    }
    Ok(failures)
}

/// Describes the machine and the settings.
fn setting(flags: &Flags, files: &Rlimit) -> String {
    let of = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = of("/proc/sys/kernel/osrelease");
    let load = of("/proc/loadavg");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Measured by `cargo bench --bench hostile` on {cores} cores, Linux {}, load {} at the start, {} s per attack and \
         longer for attacks on timeouts, default limits, {} open files for the server. Memory is the peak minus the memory \
         of the idle server: the larger of `VmHWM`, reset before the attack, and `VmRSS`, read every 10 ms. Latencies \
         (idle → during the attack) are of single predictions by a client that sends a request every 10 ms, measured from \
         the time at which each was due. The newcomer opens a new connection for each request. Requests of either client \
         without a 200 count as refused.\n\n",
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        flags.seconds,
        files.current.map_or_else(|| "any number of".to_owned(), |files| files.to_string()),
    )
}

/// Raises the file limit of this process to the system's maximum. Returns the previous limit, which the
/// servers get.
fn more_files() -> Result<Rlimit> {
    let began = rustix::process::getrlimit(Resource::Nofile);
    let more = Rlimit { current: began.maximum, maximum: began.maximum };
    rustix::process::setrlimit(Resource::Nofile, more)?;
    let enough = began.maximum.is_none_or(|most| most >= FILES_MIN);
    ensure!(enough, "the attackers need {FILES_MIN} open files, the hard limit is {:?}", began.maximum);
    Ok(began)
}
