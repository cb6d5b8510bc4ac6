//! Power cuts at any moment. The disk keeps what was synced, and any part of the rest.

mod disk;
mod load;
mod promises;

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use self::disk::{Disk, Kept, Syncs, Variant};
use crate::checker::{self, Law, Rules, Violation};
use crate::jobs::{ENDED_WITHIN, by_text, undisturbed};
use crate::log::{self, Operation};
use crate::process::Serve;
use crate::random::Random;
use crate::shim::scratch;

/// How many cuts are tried in parallel.
const AT_ONCE: usize = 2;

const VARIANTS: [(Kept, Kept); 6] = [
    (Kept::Nothing, Kept::Nothing),
    (Kept::Some, Kept::Some),
    (Kept::All, Kept::Nothing),
    (Kept::Nothing, Kept::All),
    (Kept::Some, Kept::Nothing),
    (Kept::Some, Kept::All),
];

/// A power cut before the operation number `prefix`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    prefix: usize,
    variant: Variant,
    /// Whether the jobs run until they end after the cut.
    to_the_end: bool,
}

/// A cut after which violations were found.
struct Broken {
    cut: Cut,
    last: String,
    violations: Vec<Violation>,
}

struct Recording {
    seed: u64,
    log: Vec<u8>,
    operations: Vec<Operation>,
    rules: Rules,
}

/// Returns the recording that most tests share.
fn recorded() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| record(1))
}

/// Records a new log of the load. To repeat a failure, `POWER_CUT_LOG` names an existing log.
fn record(seed: u64) -> Recording {
    let log = match std::env::var_os("POWER_CUT_LOG") {
        Some(path) => std::fs::read(path).expect("a log"),
        None => {
            let day = load::run(seed);
            assert_tells_all(&day);
            day.log
        }
    };
    let rules = Rules { weights: undisturbed(&load::specs()), ..Rules::default() };
    Recording { seed, operations: log::operations(&log), log, rules }
}

/// Asserts that the log leads to the same folder as the real run. If it does not, the shim missed an
/// operation.
fn assert_tells_all(day: &load::Day) {
    let mut disk = Disk::new(all);
    for operation in log::operations(&day.log) {
        disk.apply(&operation);
    }
    let folder = scratch();
    disk.lay(folder.path(), Variant { bytes: Kept::All, names: Kept::All, seed: 0 });
    let told = load::files_in(folder.path());
    let different = |name: &&String| told.get(*name) != day.files.get(*name);
    let different: Vec<&String> = told.keys().chain(day.files.keys()).filter(different).collect();
    assert!(different.is_empty() && !told.is_empty(), "changed past the shim: {different:?}");
}

impl Recording {
    /// Returns `count` cuts in order. Half of them come right after a response or right before a sync, the
    /// others anywhere.
    fn cuts(&self, count: usize, ended_one_in: usize) -> Vec<Cut> {
        let mut random = Random::new(self.seed);
        let sharp = |at: &usize| {
            let before = at.checked_sub(1).map(|at| &self.operations[at]);
            matches!(before, Some(Operation::Answer { .. }))
                || matches!(self.operations.get(*at), Some(Operation::Sync { .. }))
        };
        let sharp: Vec<usize> = (0..=self.operations.len()).filter(sharp).collect();
        let mut cuts: Vec<Cut> = (0..count)
            .map(|number| {
                let anywhere = random.below(self.operations.len() + 1);
                let prefix = if number % 2 == 0 { sharp[random.below(sharp.len())] } else { anywhere };
                let (bytes, names) = VARIANTS[random.below(VARIANTS.len())];
                let variant = Variant { bytes, names, seed: random.next() };
                Cut { prefix, variant, to_the_end: random.one_in(ended_one_in) }
            })
            .collect();
        cuts.sort_by_key(|cut| cut.prefix);
        cuts
    }

    /// Tries the cuts, which must be in order, on disks that honour only the syncs in `syncs`.
    fn try_all(&self, cuts: &[Cut], syncs: Syncs) -> Vec<Broken> {
        let broken = Mutex::new(Vec::new());
        let disk = Mutex::new((0, Disk::new(syncs)));
        let next = Mutex::new(cuts.iter());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let folder = scratch();
                        // The cuts are in order, so one disk applies the operations up to each of them in
                        // turn.
                        let cut = {
                            let mut next = next.lock().expect("a lock");
                            let Some(cut) = next.next() else { return };
                            let (applied, disk) = &mut *disk.lock().expect("a lock");
                            for operation in &self.operations[*applied..cut.prefix] {
                                disk.apply(operation);
                            }
                            *applied = cut.prefix;
                            disk.lay(folder.path(), cut.variant);
                            *cut
                        };
                        let violations = self.violations(folder.path(), cut);
                        if !violations.is_empty() {
                            let last = format!(
                                "{:?}",
                                cut.prefix.checked_sub(1).map(|at| Short(&self.operations[at]))
                            );
                            broken.lock().expect("a lock").push(Broken { cut, last, violations });
                        }
                    }
                });
            }
        });
        broken.into_inner().expect("a lock")
    }

    /// Starts a server on the folder that the cut has left, and returns the broken promises.
    fn violations(&self, folder: &Path, cut: Cut) -> Vec<Violation> {
        let lost = |words: String| vec![Violation { law: Law::Lost, words }];
        let history = promises::history(&self.operations[..cut.prefix]);
        let specs = by_text(&load::specs());
        let data = folder.join("data");
        let mut server = match Serve::new(&data).args(&["--threads", "1"]).try_start() {
            Ok(server) => server,
            Err(why) => return lost(format!("no server: {why}")),
        };
        let client = server.client();
        let seen = if cut.to_the_end {
            checker::settled(&client, &data, &history, &specs, ENDED_WITHIN)
        } else {
            checker::observe(&client, &data, &history, &specs).map_err(|error| error.to_string())
        };
        let mut seen = match seen {
            Ok(seen) => seen,
            Err(why) => return lost(format!("{why}; {}", server.errors())),
        };
        if !cut.to_the_end {
            // Jobs still run during the observation.
            let succeeded: Vec<&str> =
                seen.jobs.iter().filter(|job| job.state == "succeeded").map(|job| job.id.as_str()).collect();
            seen.versions.retain(|version| succeeded.contains(&version.job_id.as_str()));
            seen.stray_files.clear();
        }
        let mut violations = checker::check(&history, &seen, &self.rules);
        if !cut.to_the_end {
            violations.retain(|violation| !violation.words.contains(" is still "));
        }
        let status = server.terminate(Duration::from_secs(20));
        if !status.success() {
            violations.extend(lost(format!("SIGTERM: {status}: {}", server.errors())));
        }
        if let Err(words) = checker::check_command(&data) {
            violations.push(Violation { law: Law::Files, words });
        }
        violations
    }

    fn assert_none(&self, broken: &[Broken]) {
        if broken.is_empty() {
            return;
        }
        let path = std::env::temp_dir().join(format!("power-cut-{}-{}.log", self.seed, std::process::id()));
        std::fs::write(&path, &self.log).expect("a log");
        let words: String = broken.iter().take(5).map(ToString::to_string).collect();
        let (seed, count) = (self.seed, broken.len());
        panic!("{count} cuts are bad; again: seed {seed}, POWER_CUT_LOG={}{words}", path.display());
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:?} after {}:{}", self.cut, self.last, checker::in_words(&self.violations))
    }
}

/// An operation without its data, for messages.
struct Short<'a>(&'a Operation);

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::Write { path, offset, data, .. } => write!(f, "Write {path} {offset}+{}", data.len()),
            Operation::Answer { data, .. } | Operation::Request { data, .. } => {
                write!(f, "{}", String::from_utf8_lossy(&data[..data.len().min(100)]).escape_debug())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn all(_: &str, _: bool) -> bool {
    true
}

/// A server that never syncs files.
fn no_files(_: &str, is_folder: bool) -> bool {
    is_folder
}

/// A server that never syncs folders.
fn no_folders(_: &str, is_folder: bool) -> bool {
    !is_folder
}

/// A server that never syncs the folders of its blobs.
fn no_blob_folders(path: &str, is_folder: bool) -> bool {
    !(is_folder && path.starts_with("data/blobs"))
}

/// A server whose database never syncs, as with `PRAGMA synchronous = OFF`.
fn no_database(path: &str, _: bool) -> bool {
    !path.contains("chainrule.db")
}

#[test]
fn after_a_power_cut_everything_promised_is_there() {
    let recording = recorded();
    let cuts = recording.cuts(24, 4);
    recording.assert_none(&recording.try_all(&cuts, all));
}

/// The known-bad twins: servers that omit a sync, on a disk that loses everything unsynced.
#[test]
fn the_checks_find_a_server_that_does_not_sync() {
    let recording = recorded();
    let twins: [(&str, Syncs); 4] = [
        ("files", no_files),
        ("folders", no_folders),
        ("folders of blobs", no_blob_folders),
        ("the database", no_database),
    ];
    for (name, syncs) in twins {
        let cuts: Vec<Cut> = recording
            .cuts(400, 400)
            .into_iter()
            .filter(|cut| cut.variant.bytes == Kept::Nothing || cut.variant.names == Kept::Nothing)
            .filter(|cut| cut.prefix > recording.operations.len() / 3)
            .step_by(40)
            .collect();
        let broken = recording.try_all(&cuts, syncs);
        println!("without syncs of {name}: {} of {} cuts are bad", broken.len(), cuts.len());
        assert!(!broken.is_empty(), "a server that never syncs {name} passes");
    }
}

#[test]
#[ignore = "replays power cuts of four recorded servers"]
fn after_each_of_many_power_cuts_everything_promised_is_there() {
    let (mut operations, mut cuts_tried, mut to_the_end, mut syncs) = (0, 0, 0, 0);
    for seed in 10..14 {
        let recording = record(seed);
        let cuts = recording.cuts(300, 5);
        recording.assert_none(&recording.try_all(&cuts, all));
        operations += recording.operations.len();
        syncs += recording.operations.iter().filter(|one| matches!(one, Operation::Sync { .. })).count();
        cuts_tried += cuts.len();
        to_the_end += cuts.iter().filter(|cut| cut.to_the_end).count();
    }
    println!(
        "figures: power_cut operations={operations} syncs={syncs} cuts={cuts_tried} to_the_end={to_the_end} bad=0"
    );
}
