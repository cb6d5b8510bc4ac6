//! Servers on one folder, and the thread that kills them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::clients::{Clerk, Shared};
use crate::checker::{Law, Rules, Seen, Violation, What, check, check_command, count, settled};
use crate::folders::{copy_into, copy_of};
use crate::process::{Serve, Server, chainrule};
use crate::workload::{self, THREADS};

/// How many clients send requests in parallel.
const CLIENTS: u64 = 3;

/// The longest life of a server during the storm, in seconds.
const LIFE_MAX: f64 = 1.5;

/// The time limit for a server to end on SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The time limit for all jobs to end after the storm.
const CALM_WITHIN: Duration = Duration::from_secs(300);

/// A storm on one folder.
pub struct Storm {
    pub kills: u32,
    /// Number of servers on the folder. One is killed at a time.
    pub servers: usize,
    /// The mean life of a server, in seconds.
    pub mean_life: f64,
    /// Whether clients use a new key for each try.
    pub forgets_keys: bool,
    /// Whether the folder is replaced by an older copy half-way.
    pub goes_back: bool,
}

impl Default for Storm {
    fn default() -> Self {
        Self { kills: 15, servers: 1, mean_life: 0.6, forgets_keys: false, goes_back: false }
    }
}

/// On drop, stops the clients even if the killing thread has panicked.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.is_abandoned.store(true, Ordering::SeqCst);
    }
}

/// The result of a storm.
pub struct Told {
    pub tally: BTreeMap<&'static str, u64>,
    pub violations: Vec<Violation>,
    pub strange: Vec<String>,
    /// The folder, which is kept if there were violations.
    pub kept: PathBuf,
}

impl Storm {
    pub fn run(&self, seed: u64) -> Told {
        let weights = workload::weights();
        let folder = tempfile::tempdir().expect("a folder");
        let shared = Shared { forgets_keys: self.forgets_keys, ..Shared::default() };
        let servers = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let clerk = Clerk::new(&shared, seed, number);
                    scope.spawn(|| clerk.run())
                })
                .collect();
            // Without this, the clients would retry for ever if no server starts.
            let abandoned = Abandon(&shared);
            let servers = self.kill(folder.path(), &shared, seed);
            std::mem::forget(abandoned);
            shared.stop.store(true, Ordering::SeqCst);
            for client in clients {
                client.join().expect("a client");
            }
            servers
        });
        let mut violations = Vec::new();
        let rules = Rules { weights: weights.clone(), ..Rules::default() };
        look(servers, folder.path(), &shared, &rules, &mut violations);
        self.told(folder, shared, violations)
    }

    /// Kills and starts servers. Returns those that are alive at the end.
    fn kill(&self, folder: &Path, shared: &Shared, seed: u64) -> Vec<Server> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut copy = None;
        let mut servers: Vec<Server> = (0..self.servers).map(|_| start(folder)).collect();
        for kill in 0..self.kills {
            announce(shared, &servers);
            // Lives are distributed exponentially, because faults have no memory.
            let life = -self.mean_life * (1.0 - rng.random::<f64>()).ln();
            thread::sleep(Duration::from_secs_f64(life.min(LIFE_MAX)));
            let at = rng.random_range(0..servers.len());
            servers[at].kill();
            drop(servers.swap_remove(at));
            shared.count("kills");
            if rng.random_bool(0.2) {
                kill_while_it_starts(folder, Duration::from_millis(rng.random_range(0..100)));
                shared.count("kills");
            }
            if self.goes_back && kill == self.kills / 3 {
                copy = Some(copy_of(folder));
            }
            if kill + 1 == self.kills
                && let Some(copy) = copy.take()
            {
                std::fs::remove_dir_all(folder).expect("an old folder");
                copy_into(copy.path(), folder).expect("a copy");
            }
            servers.push(start(folder));
        }
        announce(shared, &servers);
        servers
    }

    fn told(&self, folder: tempfile::TempDir, shared: Shared, violations: Vec<Violation>) -> Told {
        for (name, law) in [("lost", Law::Lost), ("doubled", Law::Doubled), ("differing", Law::Weights)] {
            let found = count(&violations, law) as u64;
            shared.tally.lock().unwrap_or_else(PoisonError::into_inner).insert(name, found);
        }
        let strange = shared.strange.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_a_twin = self.forgets_keys || self.goes_back;
        let kept = match violations.is_empty() && strange.is_empty() || is_a_twin {
            true => folder.path().to_owned(),
            false => folder.keep(),
        };
        Told {
            tally: shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner),
            violations,
            strange,
            kept,
        }
    }
}

/// Waits until all jobs have ended, and checks. Then checks again on a new server that runs alone.
fn look(
    servers: Vec<Server>,
    folder: &Path,
    shared: &Shared,
    rules: &Rules,
    violations: &mut Vec<Violation>,
) {
    let specs = workload::specs();
    let mut servers = servers;
    let calm = crate::checker::all_ended(&servers[0].client(), CALM_WITHIN);
    violations.extend(calm.err().map(|words| Violation { law: Law::Unended, words }));
    for server in &mut servers {
        let status = server.terminate(ENDS_WITHIN);
        if status.code() != Some(0) {
            let words = format!("a server ended with {status} on SIGTERM: {}", server.errors());
            violations.push(Violation { law: Law::Unended, words });
        }
    }
    drop(servers);
    let mut server = start(folder);
    match settled(&server.client(), folder, &shared.history, specs, CALM_WITHIN) {
        Ok(seen) => {
            count_successes(&seen, shared);
            violations.extend(check(&shared.history, &seen, rules));
        }
        Err(words) => violations.push(Violation { law: Law::Unended, words }),
    }
    server.terminate(ENDS_WITHIN);
    violations.extend(check_command(folder).err().map(|words| Violation { law: Law::Files, words }));
}

/// Counts the jobs that succeeded, including deleted jobs. Of the succeeded jobs that still exist, also counts
/// those that took more than one attempt.
fn count_successes(seen: &Seen, shared: &Shared) {
    let told = shared.history.events().into_iter().filter_map(|event| match event.what {
        What::State { id, state, .. } if state == "succeeded" => Some(id),
        _ => None,
    });
    let succeeded = seen.jobs.iter().filter(|job| job.state == "succeeded");
    let again = succeeded.clone().filter(|job| job.attempt > 1).count();
    let all: BTreeSet<String> = told.chain(succeeded.map(|job| job.id.clone())).collect();
    all.iter().for_each(|_| shared.count("succeeded"));
    (0..again).for_each(|_| shared.count("succeeded_after_a_kill"));
}

fn announce(shared: &Shared, servers: &[Server]) {
    *shared.addresses.lock().unwrap_or_else(PoisonError::into_inner) =
        servers.iter().map(|server| server.address).collect();
}

fn serve(folder: &Path) -> Serve {
    Serve::new(folder).args(&THREADS).args(&flags())
}

fn flags() -> [&'static str; 8] {
    ["--lease-seconds", "1", "--crashes-max", "1000000", "--checkpoint-seconds", "0.05", "--keep-jobs", "all"]
}

fn start(folder: &Path) -> Server {
    serve(folder).start()
}

/// Starts a server and kills it, perhaps before it listens.
fn kill_while_it_starts(folder: &Path, life: Duration) {
    let mut command = chainrule(&["serve", "--listen", "127.0.0.1:0", "--log", "off"]);
    command.args(THREADS).args(flags()).arg("--data-dir").arg(folder);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    thread::sleep(life);
    // The process may have ended already.
    let _ = child.kill();
    child.wait().expect("a process");
}
