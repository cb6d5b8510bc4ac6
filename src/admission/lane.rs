use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Peer, Refusal, Share};

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
    /// Everything else: rows, lists, changes.
    Other,
}

impl Lane {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Predict, Self::Batch, Self::Pictures, Self::Lab, Self::Other];

    /// Its name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Batch => "batch",
            Self::Pictures => "pictures",
            Self::Lab => "lab",
            Self::Other => "other",
        }
    }

    /// Whether its work takes so long that it is done by threads of a lower priority.
    pub fn is_long(self) -> bool {
        match self {
            Self::Batch | Self::Pictures | Self::Lab => true,
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
    lane: Lane,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// The lane.
    pub fn lane(&self) -> Lane {
        self.lane
    }
}

/// A lane: who is in it, and who waits, first come, first served.
#[derive(Debug)]
pub(super) struct Queue {
    lane: Lane,
    limits: LaneLimits,
    running: Arc<Semaphore>,
    waiting: Arc<Share>,
}

impl Queue {
    pub fn new(lane: Lane, limits: LaneLimits) -> Self {
        let running = Arc::new(Semaphore::new(limits.running));
        Self { lane, limits, running, waiting: Share::of_places(limits.waiting) }
    }

    pub fn limits(&self) -> LaneLimits {
        self.limits
    }

    pub async fn enter(&self, peer: Peer) -> Result<Place, Refusal> {
        // Whoever waits is let in first: the semaphore gives no permit past them.
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Place { lane: self.lane, _permit: permit });
        }
        let _waiting = self.waiting.take(peer, 1).ok_or(Refusal::LaneFull(self.lane))?;
        let acquired =
            tokio::time::timeout(self.limits.wait, Arc::clone(&self.running).acquire_owned()).await;
        match acquired {
            Ok(Ok(permit)) => Ok(Place { lane: self.lane, _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Refusal::LaneSlow(self.lane)),
        }
    }

    /// Whether whoever comes now is refused.
    pub fn is_full(&self) -> bool {
        self.running.available_permits() == 0 && !self.waiting.has_room()
    }

    pub fn usage(&self) -> LaneUse {
        LaneUse {
            lane: self.lane,
            running: self.limits.running.saturating_sub(self.running.available_permits()),
            waiting: self.waiting.taken(),
        }
    }
}
