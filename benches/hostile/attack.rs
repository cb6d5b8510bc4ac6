//! The description of an attack, and common ways to attack: repeat requests, hold connections, leave
//! responses unread.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::outcome::{Outcome, Tally};
use crate::slow::Verdict;
use crate::wire::{Connection, loopback};

/// The goal of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To exhaust the server's memory.
    Memory,
    /// To starve others. The good client's p95 may grow to 10 times its idle value.
    Starvation,
}

/// What the server holds before an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Some models.
    Models,
    /// The models and a job that runs all the time.
    RunningJob,
    /// The models and 20,000 ended jobs.
    ManyJobs,
    /// The models and an ended job of 3,000 epochs and 63 layers.
    LongJob,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Attack {
    pub name: &'static str,
    /// What the attackers do.
    pub what: &'static str,
    /// The defence that should hold.
    pub defence: &'static str,
    pub kind: Kind,
    pub scene: Scene,
    /// Statuses that an attacker may get. Getting no response is always allowed.
    pub expected: &'static [u16],
    /// The least duration of the attack in seconds, if its defence is a timeout.
    pub seconds_min: u64,
    pub run: fn(Target) -> Running,
}

/// The worst figures that count as a defence that holds.
pub mod promise {
    /// Bytes of memory above idle.
    pub const PEAK_BYTES: u64 = 512_000_000;
    /// The good client's p95 during an attack divided by its p95 when idle.
    pub const SLOWER: f64 = 10.0;
}

/// The address that is attacked, and the time that is left.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// The id of the scene's running or long job.
    pub job: Option<Arc<str>>,
    time: Duration,
    until: Arc<OnceLock<Instant>>,
    got: Arc<Mutex<Got>>,
}

/// What the attackers have received.
#[derive(Clone, Debug, Default)]
pub struct Got {
    pub answers: Tally,
    /// The report of an external program that attacked.
    pub verdict: Option<Verdict>,
}

/// The pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections are opened in parallel: fewer than the kernel queues.
const OPEN_AT_ONCE: usize = 64;

impl Target {
    pub fn new(address: SocketAddr, time: Duration, job: Option<Arc<str>>) -> Self {
        Self { address, job, time, until: Arc::default(), got: Arc::default() }
    }

    /// Returns the end of the attack. Its time starts at the first call, after the messages have been
    /// prepared.
    pub fn until(&self) -> Instant {
        *self.until.get_or_init(|| Instant::now() + self.time)
    }

    /// Returns the same target with a fraction of the remaining time.
    pub fn part(&self, parts: u32) -> Self {
        let left = self.until().saturating_duration_since(Instant::now());
        Self { time: left / parts, until: Arc::default(), ..self.clone() }
    }

    pub fn got(&self) -> Got {
        self.locked().clone()
    }

    pub fn count(&self, outcome: Outcome) {
        self.locked().answers.add(outcome);
    }

    pub fn judge(&self, verdict: Verdict) {
        self.locked().verdict = Some(verdict);
    }

    fn locked(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until()
    }

    /// Returns the result of `work` if it completes before the end of the attack.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.until(), work).await.ok()
    }

    /// Sends `message` once on a new connection.
    pub async fn ask_once(&self, from: u8, message: &[u8]) -> Outcome {
        let asked = self.within(async {
            match Connection::open(loopback(from), self.address).await {
                Ok(mut connection) => connection.outcome(message).await.0,
                Err(_) => Outcome::Refused,
            }
        });
        asked.await.unwrap_or(Outcome::Open)
    }
}

/// Returns the last byte of an attacker's address. The good client has another address.
pub fn attacker(index: usize, addresses: usize) -> u8 {
    // Attackers use 127.0.0.10 and up.
    10 + (index % addresses) as u8
}

/// Runs clients with distinct addresses. Each sends its next request as soon as it has the response to the
/// last one.
pub async fn hammer(target: Target, clients: usize, messages: Vec<Vec<u8>>) {
    hammer_from(target, clients, clients, messages).await;
}

/// Like [`hammer`], for connections that share a smaller number of addresses.
pub async fn hammer_from(target: Target, connections: usize, addresses: usize, messages: Vec<Vec<u8>>) {
    let messages: Arc<[Vec<u8>]> = messages.into();
    let mut attackers = JoinSet::new();
    for index in 0..connections {
        let (target, messages) = (target.clone(), Arc::clone(&messages));
        attackers.spawn(async move {
            let mut connection = None;
            let mut messages = messages.iter().cycle().skip(index);
            while !target.is_over() {
                let Some(message) = messages.next() else { return };
                let asked =
                    target.within(ask_again(&target, &mut connection, attacker(index, addresses), message));
                let outcome = asked.await.unwrap_or(Outcome::Open);
                target.count(outcome);
                if outcome == Outcome::Refused {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    attackers.join_all().await;
}

/// Sends `message` on the kept connection, or on a new one.
pub async fn ask_again(target: &Target, kept: &mut Option<Connection>, from: u8, message: &[u8]) -> Outcome {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => match Connection::open(loopback(from), target.address).await {
            Ok(connection) => connection,
            Err(_) => return Outcome::Refused,
        },
    };
    let (outcome, is_usable) = connection.outcome(message).await;
    if is_usable {
        *kept = Some(connection);
    }
    outcome
}

/// Connections that send some bytes and then stay open until the end of the attack.
pub struct Hold {
    pub connections: usize,
    /// How many addresses the connections come from.
    pub addresses: usize,
    pub says: Vec<u8>,
    /// A byte to send each second.
    pub drips: Option<u8>,
}

impl Hold {
    /// Counts the responses and the connections that the server closes. The others count as open at the end.
    pub async fn run(self, target: Target) {
        let says: Arc<[u8]> = self.says.into();
        let gate = Arc::new(tokio::sync::Semaphore::new(OPEN_AT_ONCE));
        let mut attackers = JoinSet::new();
        for index in 0..self.connections {
            let (target, says, gate) = (target.clone(), Arc::clone(&says), Arc::clone(&gate));
            let from = attacker(index, self.addresses);
            attackers.spawn(async move {
                let opening = async {
                    let _permit = gate.acquire().await.ok();
                    Connection::open(loopback(from), target.address).await
                };
                let Some(Ok(mut connection)) = target.within(opening).await else {
                    target.count(Outcome::Refused);
                    return;
                };
                let holding = async {
                    // A connection that the server has closed is noticed below.
                    let _ = connection.send(&says).await;
                    match self.drips {
                        Some(byte) => connection.drip(byte).await,
                        None => connection.stirred().await,
                    }
                };
                let held = target.within(holding).await;
                let outcome = held.unwrap_or_else(|| connection.state());
                target.count(outcome);
            });
        }
        attackers.join_all().await;
    }
}

/// Connections that send requests and never read the responses.
pub struct Unread {
    pub connections: usize,
    pub addresses: usize,
    pub message: Vec<u8>,
    /// Whether the request is repeated for as long as the server accepts it.
    pub again: bool,
}

/// The kernel's receive buffer for an unread response.
const UNREAD_BUFFER_BYTES: u32 = 4096;

impl Unread {
    /// The state of each connection is examined at the end.
    pub async fn run(self, target: Target) {
        let message: Arc<[u8]> = self.message.into();
        let mut attackers = JoinSet::new();
        for index in 0..self.connections {
            let (target, message) = (target.clone(), Arc::clone(&message));
            let from = loopback(attacker(index, self.addresses));
            attackers.spawn(async move {
                let opened =
                    target.within(Connection::open_with(from, target.address, Some(UNREAD_BUFFER_BYTES)));
                let Some(Ok(mut connection)) = opened.await else {
                    target.count(Outcome::Refused);
                    return;
                };
                let sending = async { while connection.send(&message).await.is_ok() && self.again {} };
                target.within(sending).await;
                tokio::time::sleep_until(target.until()).await;
                let state = connection.state();
                target.count(state);
            });
        }
        attackers.join_all().await;
    }
}
