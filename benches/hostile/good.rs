//! The good clients: predictions of one image at a steady pace, whatever the responses are.
//!
//! One client keeps its connection and sends a request every 10 ms. The other opens a new connection every
//! 100 ms. A latency is measured from the time at which the request was due, so that a stalled server does
//! not get fewer requests and better figures.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::outcome::Outcome;
use crate::wire::{Connection, request};

/// The address of the good clients.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const EVERY: Duration = Duration::from_millis(10);
const NEWCOMER_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// The results of a good client.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Milliseconds from due time to response, for requests that got a 200.
    milliseconds: Vec<f64>,
    /// How often each other result occurred.
    pub refusals: BTreeMap<String, u64>,
}

impl Figures {
    fn answered(&mut self, due: Instant) {
        self.milliseconds.push(due.elapsed().as_secs_f64() * 1e3);
    }

    fn refused(&mut self, why: String) {
        *self.refusals.entry(why).or_default() += 1;
    }

    pub fn refused_count(&self) -> u64 {
        self.refusals.values().sum()
    }

    pub fn asked_count(&self) -> u64 {
        self.milliseconds.len() as u64 + self.refused_count()
    }

    /// Returns the latency in milliseconds within which this fraction of all requests got a 200. Returns
    /// infinity if so many never did.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.milliseconds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (self.asked_count().saturating_sub(1) as f64 * share).round() as usize;
        sorted.get(rank).copied().unwrap_or(f64::INFINITY)
    }

    fn add(&mut self, other: Self) {
        self.milliseconds.extend(other.milliseconds);
        for (why, count) in other.refusals {
            *self.refusals.entry(why).or_default() += count;
        }
    }
}

/// The results of both clients.
#[derive(Clone, Debug, Default)]
pub struct Good {
    pub steady: Figures,
    pub newcomer: Figures,
}

/// The good clients. They have their own thread, so that the attackers can't delay them.
pub struct Clients {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Good>>,
}

impl Clients {
    pub fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async {
                let (steady, newcomer) = tokio::join!(steady(address, &seen), newcomers(address, &seen));
                Good { steady, newcomer }
            }))
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Result<Good> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the good client panicked"))?
    }
}

/// Measures good clients without any attack.
pub fn alone(address: SocketAddr, time: Duration) -> Result<Good> {
    let clients = Clients::begin(address);
    thread::sleep(time);
    clients.end()
}

/// Returns a request for a prediction of one image.
pub fn prediction() -> Vec<u8> {
    // The image is a vertical stroke; any image would do.
    let image: Vec<u8> =
        (0..784).map(|pixel| if (12..16).contains(&(pixel % 28)) { 255 } else { 0 }).collect();
    request("POST", "/v1/models/digits/predict", &[("Content-Type", "application/octet-stream")], &image)
}

async fn steady(address: SocketAddr, stop: &AtomicBool) -> Figures {
    let message = prediction();
    let mut figures = Figures::default();
    let mut connection = None;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // The timer may be up to a millisecond late, which does not count against the server.
        let asked = if due > Instant::now() {
            sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        ask(&mut connection, address, &message, asked, &mut figures).await;
        due += EVERY;
    }
    // Skips the requests that became due while one was slow.
    while due < Instant::now() {
        figures.answered(due);
        due += EVERY;
    }
    figures
}

async fn newcomers(address: SocketAddr, stop: &AtomicBool) -> Figures {
    let message: Arc<[u8]> = prediction().into();
    let mut under_way = JoinSet::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due).await;
        let (message, asked) = (Arc::clone(&message), Instant::now());
        under_way.spawn(async move {
            let mut figures = Figures::default();
            ask(&mut None, address, &message, asked, &mut figures).await;
            figures
        });
        due += NEWCOMER_EVERY;
    }
    let mut figures = Figures::default();
    while let Some(one) = under_way.join_next().await {
        figures.add(one.unwrap_or_default());
    }
    figures
}

/// Sends a request on the kept connection, or on a new one.
async fn ask(
    kept: &mut Option<Connection>,
    address: SocketAddr,
    message: &[u8],
    due: Instant,
    figures: &mut Figures,
) {
    let asking = async {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(ADDRESS, address).await.map_err(|_| Outcome::Refused)?,
        };
        let (outcome, is_usable) = connection.outcome(message).await;
        if is_usable {
            *kept = Some(connection);
        }
        Ok::<Outcome, Outcome>(outcome)
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(Outcome::Status(200))) => figures.answered(due),
        Ok(Ok(other) | Err(other)) => figures.refused(other.to_string()),
        Err(_) => figures.refused(format!("no answer in {} s", PATIENCE.as_secs())),
    }
}
