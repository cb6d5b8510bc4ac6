//! Fail points: where a test lets the process die or stand still, or a thread panic or hang. In builds without debug assertions there are none.
//!
//! A point stands before or behind each step that has to survive a crash. Tests arm one by name and check, after
//! another start, that nothing is lost (the manner of <https://docs.rs/fail>).

use std::str::FromStr;

/// Where something can be told to go wrong. "Before" and "after" are meant as of the moment from which on the step survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A job is not yet in the queue.
    BeforeInsert,
    /// A job is in the queue, and its client has not heard of it.
    AfterInsert,
    /// A job belongs to a worker that has not begun.
    AfterClaim,
    /// The bytes of a checkpoint are not yet written.
    BeforeCheckpointBlob,
    /// The bytes of a checkpoint are written, its row is not.
    AfterCheckpointBlob,
    /// The rows of an epoch or a checkpoint are written.
    AfterRecord,
    /// Old checkpoints have no rows any more, their bytes are there.
    AfterForget,
    /// A network is trained, its bytes are not written.
    BeforeModelBlob,
    /// The bytes of a model are written, its row is not.
    AfterModelBlob,
    /// A model is published in the rows, and not in memory.
    AfterPublish,
    /// A job is back in the queue.
    AfterRelease,
    /// A job is cancelled.
    AfterCancel,
    /// A job is in the queue again.
    AfterResume,
    /// A job is deleted, the bytes of its checkpoints are there.
    AfterDelete,
    /// A version is deleted, its bytes are there.
    AfterDeleteVersion,
    /// An alias is moved.
    AfterAlias,
    /// Jobs of a server that died are back in the queue.
    AfterRescue,
    /// The bytes of one orphan are gone.
    AfterSweepOne,
    /// A step of training is done.
    Step,
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 19] = [
        Self::BeforeInsert,
        Self::AfterInsert,
        Self::AfterClaim,
        Self::BeforeCheckpointBlob,
        Self::AfterCheckpointBlob,
        Self::AfterRecord,
        Self::AfterForget,
        Self::BeforeModelBlob,
        Self::AfterModelBlob,
        Self::AfterPublish,
        Self::AfterRelease,
        Self::AfterCancel,
        Self::AfterResume,
        Self::AfterDelete,
        Self::AfterDeleteVersion,
        Self::AfterAlias,
        Self::AfterRescue,
        Self::AfterSweepOne,
        Self::Step,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeInsert => "before-insert",
            Self::AfterInsert => "after-insert",
            Self::AfterClaim => "after-claim",
            Self::BeforeCheckpointBlob => "before-checkpoint-blob",
            Self::AfterCheckpointBlob => "after-checkpoint-blob",
            Self::AfterRecord => "after-record",
            Self::AfterForget => "after-forget",
            Self::BeforeModelBlob => "before-model-blob",
            Self::AfterModelBlob => "after-model-blob",
            Self::AfterPublish => "after-publish",
            Self::AfterRelease => "after-release",
            Self::AfterCancel => "after-cancel",
            Self::AfterResume => "after-resume",
            Self::AfterDelete => "after-delete",
            Self::AfterDeleteVersion => "after-delete-version",
            Self::AfterAlias => "after-alias",
            Self::AfterRescue => "after-rescue",
            Self::AfterSweepOne => "after-sweep-one",
            Self::Step => "step",
        }
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process dies as by `kill -9`.
    Kill,
    /// The thread panics.
    Panic,
    /// The thread never goes on.
    Hang,
    /// The process stands still as by `kill -STOP`.
    Stop,
}

impl Action {
    const ALL: [(&str, Self); 4] =
        [("kill", Self::Kill), ("panic", Self::Panic), ("hang", Self::Hang), ("stop", Self::Stop)];
}

/// What a test wants to go wrong: `kill@POINT`, `kill@POINT:N` (the Nth time), the same with `panic`, `hang` and `stop`,
/// or `no-fencing`, `no-digests`, `wall-clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// At a point, the Nth time that a thread comes there.
    At(Action, Point, u32),
    /// A worker's writes don't carry their attempt: the known-bad twin of a fenced server.
    NoFencing,
    /// Bytes are read without a look at their digest: the known-bad twin of a server that notices damage.
    NoDigests,
    /// Leases run out by the wall clock: the known-bad twin of a server that counts its looks.
    WallClock,
}

impl InjectedFault {
    const TWINS: [(&str, Self); 3] =
        [("no-fencing", Self::NoFencing), ("no-digests", Self::NoDigests), ("wall-clock", Self::WallClock)];
}

impl FromStr for InjectedFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, twin)) = Self::TWINS.into_iter().find(|(name, _)| *name == text) {
            return Ok(twin);
        }
        let (what, place) = text.split_once('@').ok_or("must be ACTION@POINT or the name of a twin")?;
        let (name, times) = place.split_once(':').unwrap_or((place, "1"));
        let times = times.parse().map_err(|_| format!("{times:?} is no number"))?;
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        let point = point.ok_or_else(|| format!("there is no point {name:?}"))?;
        let action = Action::ALL.into_iter().find(|(name, _)| *name == what);
        let (_, action) = action.ok_or_else(|| format!("there is no action {what:?}"))?;
        Ok(Self::At(action, point, times))
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::Signal;

    use super::{Action, InjectedFault, Point};

    static FAULTS: OnceLock<Vec<(InjectedFault, AtomicU32)>> = OnceLock::new();

    /// Lets these faults happen in this process; only the first call does.
    pub fn arm(faults: &[InjectedFault]) {
        // Servers of one test process share its faults, and have none.
        let _ = FAULTS.set(faults.iter().map(|&fault| (fault, AtomicU32::new(0))).collect());
    }

    /// Comes to a point.
    pub fn point(here: Point) {
        for (fault, reached) in FAULTS.get().into_iter().flatten() {
            if let InjectedFault::At(action, point, times) = *fault
                && point == here
                && reached.fetch_add(1, Ordering::Relaxed) + 1 == times
            {
                act(action, here, times);
            }
        }
    }

    fn act(action: Action, here: Point, times: u32) {
        match action {
            Action::Kill => {
                signal(Signal::KILL);
                // Only a process that may not signal itself comes here.
                std::process::abort()
            }
            Action::Panic => panic!("the fault panic@{}:{times} was asked for", here.name()),
            Action::Hang => loop {
                std::thread::park();
            },
            Action::Stop => signal(Signal::STOP),
        }
    }

    /// Whether the process is to have this fault all the time.
    pub fn has(wanted: InjectedFault) -> bool {
        FAULTS.get().into_iter().flatten().any(|(fault, _)| *fault == wanted)
    }

    fn signal(signal: Signal) {
        // A process that may not signal itself goes on, and its test fails.
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, has, point};

/// Comes to a point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_here: Point) {}

/// Whether the process is to have this fault all the time.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn has(_wanted: InjectedFault) -> bool {
    false
}
