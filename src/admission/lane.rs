use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Charge, Peer, Refusal, Share};

/// A kind of work, with places of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Predictions of one image or few.
    Predict,
    /// Predictions of many images.
    Batch,
    /// Pictures of more than a few pixels, decoded and brought to the form of MNIST.
    Pictures,
    /// The lab: gradient checks, traces, layers by hand.
    Lab,
    /// Long JSON: requests that are parsed, pages of rows that are written.
    Text,
    /// Everything else: rows, lists, changes.
    Other,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Predict, Self::Batch, Self::Pictures, Self::Lab, Self::Text, Self::Other];

    /// Its name in metrics and messages.
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

    /// Whether its work takes so long that it is done by threads of a lower priority.
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

/// The places of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Requests that are worked on at the same time.
    pub running: usize,
    /// Of them those of one peer.
    pub running_per_peer: usize,
    /// Requests that wait for that; half of them may be of one peer.
    pub waiting: usize,
    /// How long one waits at most.
    pub wait: Duration,
}

/// How busy a lane is.
#[derive(Clone, Copy, Debug)]
pub struct LaneUse {
    /// The lane.
    pub lane: Lane,
    /// Requests that are worked on.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// A place in a lane, free for the next when dropped.
#[derive(Debug)]
pub struct Place {
    queue: Queue,
    peer: Peer,
}

impl Place {
    /// The lane.
    pub fn lane(&self) -> Lane {
        self.queue.0.lane
    }

    /// Whether another peer waits for it.
    pub fn is_wanted(&self) -> bool {
        self.queue.lock().turns.iter().any(|&peer| peer != self.peer)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((peer, waiter)) = self.queue.lock().leave(self.peer, self.queue.0.limits) else { return };
        // A waiter that has gone leaves the place to the next: it is dropped here.
        let _ = waiter.send(Self { queue: self.queue.clone(), peer });
    }
}

/// A lane: who works in it, and who waits. Peers take turns (round robin); the requests of one peer are let in as they
/// came.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lane: Lane,
    limits: LaneLimits,
    waiting: Arc<Share>,
    state: Mutex<State>,
}

/// Nobody waits who could be let in: a place that becomes free is handed on at once.
#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Of them those of each peer.
    of_peer: HashMap<Peer, usize>,
    waiting: HashMap<Peer, VecDeque<(u64, oneshot::Sender<Place>)>>,
    /// The peers that wait, whose turn it is first.
    turns: VecDeque<Peer>,
    /// Number of the next that waits.
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

    /// Takes a place back; returns who has it next.
    fn leave(&mut self, peer: Peer, limits: LaneLimits) -> Option<(Peer, oneshot::Sender<Place>)> {
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

    fn wait(&mut self, peer: Peer) -> (u64, oneshot::Receiver<Place>) {
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

/// A request that waits in a lane; it waits no longer when this is dropped.
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

    /// A place, if there is one.
    pub fn place(&self, peer: Peer) -> Option<Place> {
        self.place_in(&mut self.lock(), peer)
    }

    /// A seat among those who wait.
    pub fn seat(&self, peer: Peer) -> Result<Charge, Refusal> {
        self.0.waiting.take(peer, 1).ok_or(Refusal::LaneFull(self.0.lane))
    }

    fn place_in(&self, state: &mut State, peer: Peer) -> Option<Place> {
        state.may_begin(peer, self.0.limits).then(|| {
            state.begin(peer);
            Place { queue: self.clone(), peer }
        })
    }

    /// A place, once it is the peer's turn.
    pub async fn wait(&self, peer: Peer) -> Place {
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
            // Its sender goes with the waiter alone.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether whoever comes now is refused.
    pub fn is_full(&self) -> bool {
        self.lock().running >= self.0.limits.running && !self.0.waiting.has_room()
    }

    pub fn usage(&self) -> LaneUse {
        let running = self.lock().running;
        LaneUse { lane: self.0.lane, running, waiting: self.0.waiting.taken() }
    }
}
