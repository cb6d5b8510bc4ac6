use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Charge, Crew, LanePlace};

/// Permission to do a piece of work. Its place and memory are held until the work ends, even if the client
/// disconnects earlier.
#[derive(Debug)]
pub struct Ticket {
    place: LanePlace,
    charge: Charge,
    crew: Arc<Crew>,
    is_instant: bool,
}

/// Lets running work check whether it should stop or make way.
#[derive(Debug)]
pub struct Stop<'a> {
    /// Cancelled when nobody waits for the result any more. `None` for instant work, which is never
    /// abandoned.
    gone: Option<&'a CancellationToken>,
    place: &'a LanePlace,
}

/// Why work gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The work panicked, or the server is stopping.
    #[error("the work panicked, or the server is stopping")]
    Lost,
}

impl Stop<'_> {
    /// Returns whether the work should stop for good, because nobody waits for its result.
    pub fn is_set(&self) -> bool {
        self.gone.is_some_and(CancellationToken::is_cancelled)
    }

    /// Completes when nobody waits for the result any more.
    pub async fn set(&self) {
        match self.gone {
            Some(gone) => gone.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Returns whether another peer waits for this place. Work that can continue later then makes way, and
    /// resumes with [`Admission::again`](super::Admission::again).
    pub fn is_place_wanted(&self) -> bool {
        self.place.is_wanted()
    }
}

impl Ticket {
    pub(super) fn new(place: LanePlace, charge: Charge, crew: Arc<Crew>, is_instant: bool) -> Self {
        Self { place, charge, crew, is_instant }
    }

    /// Runs the work: instant work on this thread, long work on the crew, the rest on a blocking thread.
    /// Returns its result and the charge for the memory. If the future is dropped, the work is asked to stop.
    ///
    /// # Errors
    /// Returns an error if the work panics or the crew has been dismissed.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<(T, Charge), WorkError> {
        let Self { place, charge, crew, is_instant } = self;
        if is_instant {
            let done = catch_unwind(AssertUnwindSafe(|| work(&Stop { gone: None, place: &place })));
            return done.map(|done| (done, charge)).map_err(|_| WorkError::Lost);
        }
        let gone = CancellationToken::new();
        let _waits = gone.clone().drop_guard();
        let (sender, receiver) = oneshot::channel();
        let span = tracing::Span::current();
        let is_long = place.lane().is_long();
        let task = move || {
            if gone.is_cancelled() {
                return;
            }
            let done = span.in_scope(|| work(&Stop { gone: Some(&gone), place: &place }));
            drop(place);
            // The client may be gone.
            let _ = sender.send((done, charge));
        };
        if is_long {
            crew.run(task);
        } else {
            // The lane bounds the number of these tasks, so they never exhaust the pool of blocking threads.
            drop(tokio::task::spawn_blocking(task));
        }
        receiver.await.map_err(|_| WorkError::Lost)
    }
}
