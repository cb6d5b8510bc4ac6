use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Charge, Peer, Refusal, Share};

/// A kind of work. Each lane has its own places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Predictions of one or a few images.
    Predict,
    /// Predictions of many images.
    Batch,
    /// Pictures of more than a few pixels, to be decoded and converted to the form of MNIST.
    Pictures,
    /// The lab: gradient checks, traces, single layers.
    Lab,
    /// Long JSON: parsing requests, writing pages of rows.
    Text,
    /// Everything else: single rows, lists, changes.
    Other,
}

impl Lane {
    /// All lanes, in the order of `Lane as usize`.
    pub const ALL: [Self; 6] =
        [Self::Predict, Self::Batch, Self::Pictures, Self::Lab, Self::Text, Self::Other];

    /// Returns the name of the lane in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Batch => "batch",
            Self::Pictures => "pictures",
            Self::Lab => "lab",
            Self::Text => "text",
            Self::Other => "other",
        }
    }

    /// Returns whether this lane's work takes so long that it runs on threads of lower priority.
    pub fn is_long(self) -> bool {
        match self {
            Self::Batch | Self::Pictures | Self::Lab | Self::Text => true,
            Self::Predict | Self::Other => false,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The limits of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Requests that may run at the same time.
    pub running: usize,
    /// Requests of one peer that may run at the same time.
    pub running_per_peer: usize,
    /// Requests that may wait for a place. One peer can have half of these seats.
    pub waiting: usize,
    /// How long a request waits before it is refused.
    pub wait: Duration,
}

/// How busy a lane is, in requests.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of the fields say it")]
pub struct LaneUse {
    pub lane: Lane,
    pub running: usize,
    pub waiting: usize,
}

/// A place in a lane. On drop it goes to the next request that waits.
#[derive(Debug)]
pub struct LanePlace {
    queue: Queue,
    peer: Peer,
}

impl LanePlace {
    /// Returns the lane that this place belongs to.
    pub fn lane(&self) -> Lane {
        self.queue.0.lane
    }

    /// Returns whether another peer waits in this lane.
    pub fn is_wanted(&self) -> bool {
        self.queue.lock().turns.iter().any(|&peer| peer != self.peer)
    }
}

impl Drop for LanePlace {
    fn drop(&mut self) {
        let Some((peer, waiter)) = self.queue.lock().leave(self.peer, self.queue.0.limits) else { return };
        // If the waiting request is gone, the place inside the failed send is dropped, which passes it on.
        let _ = waiter.send(Self { queue: self.queue.clone(), peer });
    }
}

/// The queue of a lane. Peers take turns (round robin); the requests of one peer are served in order of
/// arrival.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lane: Lane,
    limits: LaneLimits,
    waiting: Arc<Share>,
    state: Mutex<State>,
}

/// Invariant: no request that could run is left waiting. A place that becomes free is passed on at once.
#[derive(Debug, Default)]
struct State {
    running: usize,
    /// How many requests of each peer run.
    of_peer: HashMap<Peer, usize>,
    waiting: HashMap<Peer, VecDeque<(u64, oneshot::Sender<LanePlace>)>>,
    /// The peers that wait. The front has the next turn.
    turns: VecDeque<Peer>,
    /// The number of the next request that waits.
    next: u64,
}

impl State {
    fn may_begin(&self, peer: Peer, limits: LaneLimits) -> bool {
        self.running < limits.running
            && self.of_peer.get(&peer).is_none_or(|&running| running < limits.running_per_peer)
    }

    fn begin(&mut self, peer: Peer) {
        self.running += 1;
        *self.of_peer.entry(peer).or_default() += 1;
    }

    /// Gives back a place. Returns the request that takes it next, already counted as running.
    fn leave(&mut self, peer: Peer, limits: LaneLimits) -> Option<(Peer, oneshot::Sender<LanePlace>)> {
        self.running -= 1;
        match self.of_peer.get_mut(&peer) {
            Some(running) if *running > 1 => *running -= 1,
            _ => drop(self.of_peer.remove(&peer)),
        }
        let turn = self.turns.iter().position(|&peer| self.may_begin(peer, limits))?;
        let next = self.turns.remove(turn)?;
        let waiting = self.waiting.get_mut(&next)?;
        let (_, waiter) = waiting.pop_front()?;
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&next)),
            false => self.turns.push_back(next),
        }
        self.begin(next);
        Some((next, waiter))
    }

    fn wait(&mut self, peer: Peer) -> (u64, oneshot::Receiver<LanePlace>) {
        let (sender, receiver) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.is_empty() {
            self.turns.push_back(peer);
        }
        waiting.push_back((number, sender));
        (number, receiver)
    }

    fn give_up(&mut self, peer: Peer, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        waiting.retain(|&(other, _)| other != number);
        if waiting.is_empty() {
            self.waiting.remove(&peer);
            self.turns.retain(|&other| other != peer);
        }
    }
}

/// A request that waits in a lane. It leaves the queue on drop.
struct Waiter<'a> {
    queue: &'a Queue,
    peer: Peer,
    number: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.queue.lock().give_up(self.peer, self.number);
    }
}

impl Queue {
    pub fn new(lane: Lane, limits: LaneLimits) -> Self {
        let waiting = Share::of_places(limits.waiting);
        Self(Arc::new(Inner { lane, limits, waiting, state: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn limits(&self) -> LaneLimits {
        self.0.limits
    }

    /// Takes a place, or returns `None` if none is free.
    pub fn place(&self, peer: Peer) -> Option<LanePlace> {
        self.place_in(&mut self.lock(), peer)
    }

    /// Takes a seat in the queue.
    pub fn seat(&self, peer: Peer) -> Result<Charge, Refusal> {
        self.0.waiting.take(peer, 1).ok_or(Refusal::LaneFull(self.0.lane))
    }

    fn place_in(&self, state: &mut State, peer: Peer) -> Option<LanePlace> {
        state.may_begin(peer, self.0.limits).then(|| {
            state.begin(peer);
            LanePlace { queue: self.clone(), peer }
        })
    }

    /// Waits for a place.
    pub async fn wait(&self, peer: Peer) -> LanePlace {
        let (waiter, place) = {
            let mut state = self.lock();
            if let Some(place) = self.place_in(&mut state, peer) {
                return place;
            }
            let (number, place) = state.wait(peer);
            (Waiter { queue: self, peer, number }, place)
        };
        let place = place.await;
        drop(waiter);
        match place {
            Ok(place) => place,
            // Only `Waiter::drop` discards the sender, and `waiter` was alive until here.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns whether a new request would be refused.
    pub fn is_full(&self) -> bool {
        self.lock().running >= self.0.limits.running && !self.0.waiting.has_room()
    }

    pub fn usage(&self) -> LaneUse {
        let running = self.lock().running;
        LaneUse { lane: self.0.lane, running, waiting: self.0.waiting.taken() }
    }
}
