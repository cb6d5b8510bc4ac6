//! Which threads yield to which: those that serve come first, then long work, then training.

/// The priority of a thread that does not serve, as its niceness above that of serving:
/// <https://man7.org/linux/man-pages/man7/sched.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Work for requests that takes long.
    LongWork = 5,
    /// Training.
    Training = 10,
}

impl Priority {
    /// Lowers this thread, and those that it starts, from the priority of serving to this one. On systems other than Linux it would
    /// lower the whole process, and does nothing.
    pub fn lower(self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(self as i32) {
            tracing::debug!(%error, "a thread keeps the priority of serving");
        }
    }
}
