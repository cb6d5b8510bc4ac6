use super::Lane;

/// What a piece of work needs. It is known before the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The lane that the work runs in.
    pub lane: Lane,
    /// Bytes held while the work runs, including its result.
    pub memory_bytes: usize,
    /// Whether the work takes less time than handing it to another thread would.
    pub is_instant: bool,
}

impl Price {
    /// A price for work in `lane` that holds at most `memory_bytes`.
    pub fn new(lane: Lane, memory_bytes: usize) -> Self {
        Self { lane, memory_bytes, is_instant: false }
    }

    /// Sets whether the work is instant: a few tens of microseconds.
    #[must_use]
    pub fn instant(self, is_instant: bool) -> Self {
        Self { is_instant, ..self }
    }
}
