use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many job ends are remembered.
const ENDS: usize = 32;

/// The rate at which jobs end.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// Records that a job has ended.
    pub fn ended(&self) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() == ENDS {
            ends.pop_front();
        }
        ends.push_back(Instant::now());
    }

    /// Returns the mean time between two ends, including the time since the last one. Returns `None` before
    /// the first end.
    pub fn interval(&self) -> Option<Duration> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ends.front()?.elapsed() / ends.len() as u32)
    }
}
