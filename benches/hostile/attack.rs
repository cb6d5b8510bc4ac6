//! What an attack is, and the ways in which most of them go: hammering, holding, not reading.

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

/// What the attackers want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More memory than there is.
    Memory,
    /// That no one else is answered: the good client's p95 may be 10 times its idle one.
    Starvation,
}

/// What there must be before an attack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The models.
    Models,
    /// The models, and a job that runs all the time.
    RunningJob,
    /// The models, and 20,000 jobs that have ended.
    ManyJobs,
    /// The models, and a job of 3,000 epochs and 63 layers that has ended.
    LongJob,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What should stop it.
    pub defence: &'static str,
    pub kind: Kind,
    pub scene: Scene,
    /// Statuses that an attacker may get; it may also get none.
    pub expected: &'static [u16],
    /// Seconds it takes at least, if its defence is a matter of time.
    pub seconds_min: u64,
    pub run: fn(Target) -> Running,
}

/// How bad it is at most, if the defences hold.
pub mod promise {
    /// Bytes above idle.
    pub const PEAK_BYTES: u64 = 512_000_000;
    /// The p95 of a good client beside an attack over its p95 when idle.
    pub const SLOWER: f64 = 10.0;
}

/// Whom the attackers attack, and for how long.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// The id of the job that runs, or is long.
    pub job: Option<Arc<str>>,
    time: Duration,
    until: Arc<OnceLock<Instant>>,
    got: Arc<Mutex<Got>>,
}

/// What attackers got.
#[derive(Clone, Debug, Default)]
pub struct Got {
    pub answers: Tally,
    /// What a program says that attacked.
    pub verdict: Option<Verdict>,
}

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections that are opened at the same time, fewer than the kernel queues.
const OPEN_AT_ONCE: usize = 64;

impl Target {
    pub fn new(address: SocketAddr, time: Duration, job: Option<Arc<str>>) -> Self {
        Self { address, job, time, until: Arc::default(), got: Arc::default() }
    }

    /// When the attack is over; its time begins when this is first asked, after what is to be sent was made.
    pub fn until(&self) -> Instant {
        *self.until.get_or_init(|| Instant::now() + self.time)
    }

    /// The same for one part of so many of the time that is left.
    pub fn part(&self, parts: u32) -> Self {
        let left = self.until().saturating_duration_since(Instant::now());
        Self { time: left / parts, until: Arc::default(), ..self.clone() }
    }

    /// What the attackers got so far.
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

    /// `work`, if it is done before the attack is over.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.until(), work).await.ok()
    }

    /// Sends `message` once, on a connection of its own.
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

/// Addresses of attackers; the good client has another one.
pub fn attacker(index: usize, addresses: usize) -> u8 {
    // 127.0.0.10 and up.
    10 + (index % addresses) as u8
}

/// So many clients, each from an address of its own, that send one request after the other as fast as they are answered.
pub async fn hammer(target: Target, clients: usize, messages: Vec<Vec<u8>>) {
    hammer_from(target, clients, clients, messages).await;
}

/// The same over so many connections from fewer addresses.
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

/// Sends `message` on the connection that is kept, or on a new one.
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

/// Connections that are opened, say something and are held until the attack is over.
pub struct Hold {
    pub connections: usize,
    /// From so many addresses.
    pub addresses: usize,
    pub says: Vec<u8>,
    /// A byte of this is sent each second.
    pub drips: Option<u8>,
}

impl Hold {
    /// Whatever the server answers, or that it ends the connection, is counted; else that it is open at the end.
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
                    // A server that ends the connection is heard below.
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

/// Connections that ask and read nothing of the answer.
pub struct Unread {
    pub connections: usize,
    pub addresses: usize,
    pub message: Vec<u8>,
    /// Whether it is sent again and again on each, for as long as the server takes it.
    pub again: bool,
}

/// What the kernel holds of an answer that is not read.
const UNREAD_BUFFER_BYTES: u32 = 4096;

impl Unread {
    /// What became of each connection is looked up at the end.
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
