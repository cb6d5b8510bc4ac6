//! Priorities of threads: serving comes first, then long work, then training.

/// The priority of a thread that does not serve requests. The number is added to its nice value:
/// <https://man7.org/linux/man-pages/man7/sched.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Long work for requests.
    LongWork = 5,
    /// Training, which yields to all requests.
    Training = 10,
}

impl Priority {
    /// Lowers the priority of this thread and of the threads that it starts. Does nothing on systems other
    /// than Linux, where it would lower the whole process.
    pub fn lower(self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(self as i32) {
            tracing::debug!(%error, "the priority of a thread was not lowered");
        }
    }
}
