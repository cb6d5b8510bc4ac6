use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends that are remembered.
const ENDS: usize = 32;

/// How fast the queue moves, from when jobs left it.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// A job has left the queue or its worker.
    pub fn ended(&self) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() == ENDS {
            ends.pop_front();
        }
        ends.push_back(Instant::now());
    }

    /// The mean time between two ends, the time since the last one included; `None` where none is known.
    pub fn interval(&self) -> Option<Duration> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ends.front()?.elapsed() / ends.len() as u32)
    }
}
