use super::Lane;

/// What a piece of work takes, known before it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The kind of work.
    pub lane: Lane,
    /// Bytes held while it is done, its answer included.
    pub memory_bytes: usize,
    /// Whether it is so short that handing it to another thread would take longer.
    pub is_instant: bool,
}

impl Price {
    /// Work in `lane` that holds `memory_bytes` at most.
    pub fn new(lane: Lane, memory_bytes: usize) -> Self {
        Self { lane, memory_bytes, is_instant: false }
    }

    /// The same for work of some ten microseconds, if `is_instant`.
    #[must_use]
    pub fn instant(self, is_instant: bool) -> Self {
        Self { is_instant, ..self }
    }
}
