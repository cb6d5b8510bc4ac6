use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Charge, Crew, Place};

/// Leave to do a piece of work: its place and its memory are held for as long as the work takes, whether its client stays or
/// not.
#[derive(Debug)]
pub struct Ticket {
    place: Place,
    charge: Charge,
    crew: Arc<Crew>,
    is_instant: bool,
}

/// Whether a piece of work shall stop.
#[derive(Debug)]
pub struct Stop<'a> {
    /// Cancelled when nobody waits for the work; instant work is always waited for.
    gone: Option<&'a CancellationToken>,
    place: &'a Place,
}

/// Work that came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// It panicked, or the server stops.
    #[error("the work panicked, or the server stops")]
    Lost,
}

impl Stop<'_> {
    /// Whether it shall stop for good, because nobody waits for it.
    pub fn is_set(&self) -> bool {
        self.gone.is_some_and(CancellationToken::is_cancelled)
    }

    /// Comes to its end when nobody waits for the work any more.
    pub async fn set(&self) {
        match self.gone {
            Some(gone) => gone.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whether another peer waits for its place: work that can go on later
    /// ([`Admission::again`](super::Admission::again)) makes way.
    pub fn is_place_wanted(&self) -> bool {
        self.place.is_wanted()
    }
}

impl Ticket {
    pub(super) fn new(place: Place, charge: Charge, crew: Arc<Crew>, is_instant: bool) -> Self {
        Self { place, charge, crew, is_instant }
    }

    /// Does the work where it holds up nobody, which for instant work is here; returns what it comes to, with the memory that is charged for it. If the future is
    /// dropped the work is told to stop.
    ///
    /// # Errors
    /// If the work panics.
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
        let job = move || {
            if gone.is_cancelled() {
                return;
            }
            let done = span.in_scope(|| work(&Stop { gone: Some(&gone), place: &place }));
            drop(place);
            // The client may have gone.
            let _ = sender.send((done, charge));
        };
        if is_long {
            crew.run(job);
        } else {
            // Its place bounds how many there are, so none of them waits for a thread.
            drop(tokio::task::spawn_blocking(job));
        }
        receiver.await.map_err(|_| WorkError::Lost)
    }
}
