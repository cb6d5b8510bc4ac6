use super::Lane;

/// What a piece of work takes, known before it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The kind of work.
    pub lane: Lane,
    /// Bytes held while it is done, its answer included.
    pub memory_bytes: usize,
}

impl Price {
    /// Work in `lane` that holds `memory_bytes` at most.
    pub fn new(lane: Lane, memory_bytes: usize) -> Self {
        Self { lane, memory_bytes }
    }
}
