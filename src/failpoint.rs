//! Fail points: places where a test can make the process die or stop, or a thread panic or hang. Builds
//! without debug assertions have none.
//!
//! There is a point before or after each step that must survive a crash. Tests arm one by name, start the
//! server again and check that nothing is lost. The idea comes from <https://docs.rs/fail>.

use std::str::FromStr;

/// A place where a fault can be injected. "Before" and "after" refer to the moment at which the step becomes
/// durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A job is not in the queue yet.
    BeforeInsert,
    /// A job is in the queue, but its client has no response yet.
    AfterInsert,
    /// A worker has claimed a job and has not begun it.
    AfterClaim,
    /// The file of a checkpoint is not written yet.
    BeforeCheckpointBlob,
    /// The file of a checkpoint is written, its row is not.
    AfterCheckpointBlob,
    /// The rows of an epoch or a checkpoint are written.
    AfterRecord,
    /// The rows of old checkpoints are deleted, their files are not.
    AfterForget,
    /// A network is trained, its file is not written.
    BeforeModelBlob,
    /// The file of a model is written, its row is not.
    AfterModelBlob,
    /// The row of a model is written, but the registry does not serve the model yet.
    AfterPublish,
    /// A job is released back to the queue.
    AfterRelease,
    /// A job is cancelled.
    AfterCancel,
    /// A job is resumed.
    AfterResume,
    /// The rows of a job are deleted, the files of its checkpoints are not.
    AfterDelete,
    /// The row of a version is deleted, its file is not.
    AfterDeleteVersion,
    /// An alias is moved.
    AfterAlias,
    /// The jobs of a server that died are back in the queue.
    AfterRescue,
    /// One orphaned file is deleted.
    AfterSweepOne,
    /// A training step is done.
    Step,
}

impl Point {
    /// All points, in the order of their declaration.
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

    /// Returns the name of the point on the command line.
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
    /// The process dies, as with `kill -9`.
    Kill,
    /// The thread panics.
    Panic,
    /// The thread blocks forever.
    Hang,
    /// The process stops, as with `kill -STOP`.
    Stop,
}

impl Action {
    const ALL: [(&str, Self); 4] =
        [("kill", Self::Kill), ("panic", Self::Panic), ("hang", Self::Hang), ("stop", Self::Stop)];
}

/// A fault that a test injects: `kill@POINT`, `kill@POINT:N` (only the Nth time), the same with `panic`,
/// `hang` and `stop`, or one of `no-fencing`, `no-digests` and `wall-clock`. The last three are known-bad
/// twins: they switch off a protection, so that its test must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// An action at a point, the Nth time that any thread reaches it.
    At(Action, Point, u32),
    /// A worker's writes don't check their attempt.
    NoFencing,
    /// Blobs are read without verifying their digest.
    NoDigests,
    /// Leases expire by the wall clock instead of by counted observations.
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
        let times = times.parse().map_err(|_| format!("{times:?} is not a number"))?;
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

    /// Arms these faults for the whole process. Only the first call has an effect.
    pub fn arm(faults: &[InjectedFault]) {
        // Servers that tests start in their own process share this setting and inject nothing.
        let _ = FAULTS.set(faults.iter().map(|&fault| (fault, AtomicU32::new(0))).collect());
    }

    /// Carries out the fault that is armed for this point, if there is one.
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
                // Reached only if the process may not signal itself.
                std::process::abort()
            }
            Action::Panic => panic!("the fault panic@{}:{times} was asked for", here.name()),
            Action::Hang => loop {
                std::thread::park();
            },
            Action::Stop => signal(Signal::STOP),
        }
    }

    /// Returns whether a twin is armed.
    pub fn has(wanted: InjectedFault) -> bool {
        FAULTS.get().into_iter().flatten().any(|(fault, _)| *fault == wanted)
    }

    fn signal(signal: Signal) {
        // If the process may not signal itself it continues, and its test fails.
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, has, point};

/// Does nothing in builds without debug assertions.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_here: Point) {}

/// Returns `false`: builds without debug assertions have no twins.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn has(_wanted: InjectedFault) -> bool {
    false
}
