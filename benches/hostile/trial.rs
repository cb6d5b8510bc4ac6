//! One measured attack on one server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Rlimit;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::attack::{Attack, Got, Kind, Target, promise};
use crate::good::{self, Clients, Good};
use crate::memory::{self, Watch};
use crate::outcome::Outcome;
use crate::scene::Side;
use crate::slow::Verdict;

/// Warm-up of the good client, and the duration of its measurement without an attack.
const WARM_UP: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(3);

/// The least duration of the good client's measurement, even if the attack ends earlier.
const BESIDE_MIN: Duration = Duration::from_secs(3);

/// The time after an attack in which the server should free its memory.
const AFTER: Duration = Duration::from_secs(5);

/// The time in which attackers must end after the trial stops them.
const GRACE: Duration = Duration::from_secs(5);

/// The effects of an attack.
pub struct Trial {
    pub got: Got,
    /// How the server ended, if it did.
    pub died: Option<Death>,
    /// The peak memory above idle, in bytes.
    pub peak: u64,
    /// The memory above idle after [`AFTER`], in bytes.
    pub after: Option<i64>,
    pub idle: Good,
    pub beside: Good,
    /// Whether the peak is the kernel's, and not only sampled.
    pub has_high_water: bool,
}

/// The end of a server under attack.
pub struct Death {
    /// The exit status and the last line of the log.
    how: String,
    /// Time since the beginning of the attack.
    pub after: Duration,
    /// The bytes at which the server was killed to protect the machine.
    pub killed_at: Option<u64>,
}

/// Attacks a server of `side` and measures the effects.
pub fn run(attack: &Attack, side: &Side, seconds: u64, attackers: &Runtime, files: &Rlimit) -> Result<Trial> {
    let mut set = attackers.block_on(side.set(attack.scene, files))?;
    let address = set.server.address;
    good::alone(address, WARM_UP)?;
    let idle = good::alone(address, IDLE)?;
    let idle_bytes = memory::held(set.server.pid()).context("the server ended before the attack")?;

    let time = Duration::from_secs(seconds.max(attack.seconds_min));
    let target = Target::new(address, time, set.job.clone());
    let assault = (attack.run)(target.clone());
    let watch = Watch::begin(set.server.pid());
    let clients = Clients::begin(address);
    let begun = Instant::now();
    // Attackers that do not end in time are dropped with all they hold.
    let assault = attackers.spawn(async move { timeout(time + GRACE, assault).await.is_ok() });
    attackers.block_on(assault)?;
    thread::sleep(BESIDE_MIN.saturating_sub(begun.elapsed()));
    let over = Instant::now();
    let beside = clients.end()?;
    thread::sleep(AFTER.saturating_sub(over.elapsed()));

    let after = memory::held(set.server.pid());
    let seen = watch.end();
    let died = set.server.end().map(|how| Death {
        how,
        after: seen.end.after.unwrap_or_default(),
        killed_at: seen.end.killed_at,
    });
    Ok(Trial {
        got: target.got(),
        died,
        peak: seen.peak.saturating_sub(idle_bytes),
        after: after.map(|bytes| bytes as i64 - idle_bytes as i64),
        idle,
        beside,
        has_high_water: seen.has_high_water,
    })
}

impl Death {
    pub fn shown(&self) -> String {
        let seconds = self.after.as_secs_f64();
        match self.killed_at {
            Some(bytes) => format!("killed after {seconds:.1} s, at {:.1} GB", bytes as f64 / 1e9),
            None => format!("died after {seconds:.1} s"),
        }
    }
}

impl Trial {
    /// Returns each defence that did not hold.
    pub fn failures(&self, attack: &Attack) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(death) = &self.died {
            failures.push(format!("{}: {}", death.shown(), death.how));
        }
        if self.peak > promise::PEAK_BYTES {
            let (peak, most) = (self.peak as f64 / 1e6, promise::PEAK_BYTES as f64 / 1e6);
            failures.push(format!("memory went {peak:.0} MB above idle, {most:.0} MB are promised"));
        }
        let is_unexpected =
            |outcome: &Outcome| outcome.status().is_some_and(|status| !attack.expected.contains(&status));
        let unexpected = self.got.answers.0.iter().filter(|(outcome, _)| is_unexpected(outcome));
        failures.extend(unexpected.map(|(outcome, count)| format!("unexpected: {outcome} ×{count}")));
        failures.extend(self.got.verdict.as_ref().and_then(Verdict::failure));
        if attack.kind == Kind::Starvation {
            let clients = [
                ("good client", &self.idle.steady, &self.beside.steady),
                ("newcomer", &self.idle.newcomer, &self.beside.newcomer),
            ];
            for (who, idle, beside) in clients {
                let (idle, beside) = (idle.quantile(0.95), beside.quantile(0.95));
                if beside.is_infinite() {
                    failures.push(format!("more than 5 % of the requests of the {who} were refused"));
                } else if beside > promise::SLOWER * idle {
                    failures.push(format!(
                        "p95 of the {who} went from {idle:.2} to {beside:.2} ms; at most {} times is promised",
                        promise::SLOWER
                    ));
                }
            }
        }
        failures
    }
}
