//! The events of a job. They are derived from its rows, so nothing is lost if a follower or a server dies.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use tokio_util::sync::CancellationToken;

use super::jobs::record_bytes;
use super::waiting::JobChanges;
use super::{Caller, OperationError, Service};
use crate::admission::{Charge, Lane};
use crate::job::{EpochRecord, Job, JobId, JobState, Progress};

/// Bytes that a follower uses. It reads as many epochs at a time as fit, and reads more when its caller has
/// taken them.
const FOLLOWER_BYTES: usize = 64 << 10;

/// An event of a job.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// The job has reached a state.
    State {
        /// The state that it has reached.
        state: JobState,
        /// The attempt at that time.
        attempt: u32,
    },
    /// An epoch has ended.
    Epoch(EpochRecord),
    /// The job has taken steps.
    Progress(Progress),
    /// The job has ended. This is its last event.
    End(Box<Job>),
}

/// The id of an event: the attempt, phase, epochs and steps that a caller has seen with it. The next event follows from
/// the id and the rows. The default is the id of a caller that has seen nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventId {
    attempt: u32,
    phase: u8,
    epoch: u32,
    step: u64,
}

/// Phases of an [`EventId`] after 0, in the order of a job's life.
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const ENDED: u8 = 3;
const CLOSED: u8 = 4;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.attempt, self.phase, self.epoch, self.step)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let id = Self {
            attempt: next()?.parse().map_err(|_| ())?,
            phase: next()?.parse().map_err(|_| ())?,
            epoch: next()?.parse().map_err(|_| ())?,
            step: next()?.parse().map_err(|_| ())?,
        };
        if parts.next().is_none() && id.phase <= CLOSED { Ok(id) } else { Err(()) }
    }
}

/// Yields the events of a job in order.
pub struct JobFollower {
    service: Service,
    caller: Caller,
    id: JobId,
    seen: EventId,
    changes: JobChanges,
    waiting: VecDeque<(EventId, JobEvent)>,
    epochs_at_a_time: u32,
    stop: CancellationToken,
    _held: [Charge; 2],
}

impl Service {
    /// Follows a job from the event after `seen`, until the job ends or `stop` is cancelled. Returns `None` if `seen`
    /// is the last event.
    ///
    /// # Errors
    /// Returns an error if there is no such job, if too many callers follow jobs, if there is no memory, or if the
    /// database can't be read.
    pub async fn follow(
        &self,
        caller: &Caller,
        id: JobId,
        seen: EventId,
        stop: &CancellationToken,
    ) -> Result<Option<JobFollower>, OperationError> {
        let job = self.job(caller, id).await?;
        if seen.phase == CLOSED {
            return Ok(None);
        }
        let streams_max = self.limits.streams_max;
        let seat = self.admission.stream(caller.peer());
        let seat = seat.ok_or(OperationError::TooManyStreams { streams_max })?;
        let memory = self.admission.charge(caller.peer(), FOLLOWER_BYTES)?;
        Ok(Some(JobFollower {
            service: self.clone(),
            // A follower takes a place only while it reads rows.
            caller: Caller { client: caller.client, _held: None },
            id,
            seen,
            changes: self.changes(),
            waiting: VecDeque::new(),
            epochs_at_a_time: (FOLLOWER_BYTES / record_bytes(&job)).max(1) as u32,
            stop: stop.clone(),
            _held: [seat, memory],
        }))
    }
}

impl JobFollower {
    /// Waits for the next event. Returns `None` after the last event, or if the follower is stopped.
    ///
    /// # Errors
    /// Returns an error if there is no room to read rows, or if the database can't be read. Another follower can
    /// continue after the last event, and misses nothing.
    pub async fn next(&mut self) -> Result<Option<(EventId, JobEvent)>, OperationError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            if self.seen.phase == CLOSED {
                return Ok(None);
            }
            let place = self.service.admission.enter(Lane::Other, self.caller.peer()).await?;
            self.look().await?;
            drop(place);
            if self.waiting.is_empty() && self.seen.phase != CLOSED {
                tokio::select! {
                    () = self.changes.of(self.id) => {}
                    () = self.stop.cancelled() => return Ok(None),
                }
            }
        }
    }

    /// Queues an event for everything in the rows that the caller has not seen.
    async fn look(&mut self) -> Result<(), OperationError> {
        let job = match self.service.job(&self.caller, self.id).await {
            Err(OperationError::UnknownJob(_)) => {
                self.seen.phase = CLOSED;
                return Ok(());
            }
            job => job?,
        };
        let limit = self.epochs_at_a_time;
        let epochs = self.service.epochs(&self.caller, self.id, self.seen.epoch, limit).await?;
        let has_more = epochs.len() >= limit as usize;
        if self.seen.phase < QUEUED {
            let state = JobEvent::State { state: JobState::Queued, attempt: 0 };
            self.queue(EventId { phase: QUEUED, ..self.seen }, state);
        }
        let has_run = job.started_at.is_some();
        let is_new_attempt = self.seen.phase < RUNNING || self.seen.attempt < job.attempt;
        if has_run && self.seen.phase < ENDED && is_new_attempt {
            let state = JobEvent::State { state: JobState::Running, attempt: job.attempt };
            self.queue(EventId { phase: RUNNING, attempt: job.attempt, step: 0, ..self.seen }, state);
        }
        for epoch in epochs {
            self.queue(EventId { epoch: epoch.metrics.epoch, ..self.seen }, JobEvent::Epoch(epoch));
        }
        if has_more {
            return Ok(());
        }
        if has_run && job.progress.step > self.seen.step {
            self.queue(EventId { step: job.progress.step, ..self.seen }, JobEvent::Progress(job.progress));
        }
        if job.state.is_ended() {
            if self.seen.phase < ENDED {
                let state = JobEvent::State { state: job.state, attempt: job.attempt };
                self.queue(EventId { phase: ENDED, ..self.seen }, state);
            }
            self.queue(EventId { phase: CLOSED, ..self.seen }, JobEvent::End(Box::new(job)));
        }
        Ok(())
    }

    fn queue(&mut self, id: EventId, event: JobEvent) {
        self.seen = id;
        self.waiting.push_back((id, event));
    }
}
