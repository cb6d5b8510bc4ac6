use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Limits how many log lines are written in a second. Those left out are counted in the next line.
#[derive(Debug)]
pub struct LineLimit {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The start of the present second, and the lines written in it.
    second: Option<(Instant, u32)>,
    omitted: u64,
}

impl LineLimit {
    /// Admits at most this many lines in a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::default() }
    }

    /// Returns `None` if a line must be left out at `now`, or else the number of lines that were left out before it.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let present = state.second.filter(|(began, _)| now.saturating_duration_since(*began) < SECOND);
        let (began, lines) = present.unwrap_or((now, 0));
        if lines >= self.per_second {
            state.omitted += 1;
            return None;
        }
        state.second = Some((began, lines + 1));
        Some(std::mem::take(&mut state.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_in_the_next_one() {
        let (limit, start) = (LineLimit::new(2), Instant::now());
        let at = |millis| limit.admit(start + Duration::from_millis(millis));
        assert_eq!([at(0), at(10), at(20), at(999)], [Some(0), Some(0), None, None]);
        assert_eq!([at(1_000), at(1_001), at(1_002)], [Some(2), Some(0), None]);
        assert_eq!(at(9_000), Some(1));
    }

    #[test]
    fn a_limit_of_0_admits_nothing() {
        let limit = LineLimit::new(0);
        assert_eq!(limit.admit(Instant::now()), None);
    }
}
