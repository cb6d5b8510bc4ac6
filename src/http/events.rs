//! The progress of a job as server-sent events. They are derived from its rows, so nothing is lost if a
//! connection or a server dies.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;

use super::Problem;
use super::deliver::Streamed;
use super::extract::{JobParam, JobPath, NoParams, Params};
use super::jobs::record_bytes;
use crate::admission::{Charge, Lane};
use crate::api::{self, Code};
use crate::app::App;
use crate::fields::as_printed;
use crate::job::{Job, JobId, JobState};
use crate::service::{Caller, JobChanges, OperationError};

/// How often a silent stream sends a comment, to show that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The `retry` time of a stream. A client waits this long before it reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes that a stream uses in addition to its connection. It reads as many epochs at a time as fit, and
/// reads more when the client has received them.
const STREAM_BYTES: usize = 64 << 10;

/// What a client has seen: attempt, phase, epochs and steps. This is the id of the last event that the client
/// received. The next event follows from it and the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    attempt: u32,
    phase: u8,
    epoch: u32,
    step: u64,
}

/// Phases of [`Seen`] after 0, in the order of a job's life.
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const ENDED: u8 = 3;
const CLOSED: u8 = 4;

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}-{}", self.attempt, self.phase, self.epoch, self.step)
    }
}

impl FromStr for Seen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let seen = Self {
            attempt: next()?.parse().map_err(|_| ())?,
            phase: next()?.parse().map_err(|_| ())?,
            epoch: next()?.parse().map_err(|_| ())?,
            step: next()?.parse().map_err(|_| ())?,
        };
        if parts.next().is_none() && seen.phase <= CLOSED { Ok(seen) } else { Err(()) }
    }
}

/// Streams the progress of a job as server-sent events.
///
/// The data of an event depends on its type: a `StateEvent` for `state`, an `Epoch` for `epoch`, and a
/// `Progress` for `progress`. The last event is `end`; its data is the `Job`. With the header `Last-Event-ID`
/// the stream continues after that event without a gap.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    operation_id = "job_events",
    tag = "jobs",
    params(JobParam, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the client has received.")),
    responses(
        (status = 200, description = "The events, until the job has ended.", content((String = "text/event-stream"))),
        (status = 204, description = "The client has received the last event; there are no more.")
    ),
    extensions(("x-codes" = json!([Code::JOB, Code::InvalidLastEventId, Code::TooManyStreams, Code::ROWS])))
)]
pub async fn events(
    State(app): State<App>,
    caller: Caller,
    JobPath(id): JobPath,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = match headers.get("last-event-id") {
        None => Seen::default(),
        Some(value) => value.to_str().ok().and_then(as_printed).ok_or_else(|| {
            Problem::new(Code::InvalidLastEventId, "Last-Event-ID is not the id of an event of this job")
        })?,
    };
    let job = app.service().job(&caller, id).await?;
    if seen.phase == CLOSED {
        // 204 tells an EventSource not to reconnect (HTML standard, section 9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let permit = app.admission().stream(caller.peer()).ok_or_else(|| {
        let streams = app.config().limits.streams_max;
        let detail =
            format!("this client has too many open event streams, or all clients together have {streams}");
        Problem::new(Code::TooManyStreams, detail)
    })?;
    let memory = app.admission().charge(caller.peer(), STREAM_BYTES)?;
    let epochs_at_a_time = (STREAM_BYTES / record_bytes(&job)).max(1) as u32;
    let changes = app.service().changes(&caller);
    let follower = Follower {
        app,
        id,
        seen,
        changes,
        waiting: VecDeque::from([Event::default().retry(RETRY)]),
        epochs_at_a_time,
        // This caller holds no place, since a stream has none.
        caller: Caller::client(caller.peer()),
        _held: [permit, memory],
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], Extension(Streamed), events).into_response())
}

/// A client that follows a job.
struct Follower {
    app: App,
    id: JobId,
    seen: Seen,
    changes: JobChanges,
    waiting: VecDeque<Event>,
    epochs_at_a_time: u32,
    caller: Caller,
    _held: [Charge; 2],
}

impl Follower {
    /// Returns the next event, or `None` at the end of the job or if the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.seen.phase == CLOSED {
                return None;
            }
            // A stream waits for a place, like every request that reads rows.
            let Ok(place) = self.app.admission().enter(Lane::Other, self.caller.peer()).await else {
                return None;
            };
            let looked = self.look().await;
            drop(place);
            if let Err(error) = looked {
                // The client reconnects with its `Last-Event-ID`, so it misses nothing.
                tracing::warn!(job = %self.id, %error, "event stream ended early");
                return None;
            }
            if self.waiting.is_empty() && self.seen.phase != CLOSED {
                tokio::select! {
                    () = self.changes.of(self.id) => {}
                    () = self.app.draining().cancelled() => return None,
                }
            }
        }
    }

    /// Queues an event for everything in the rows that the client has not seen.
    async fn look(&mut self) -> Result<(), OperationError> {
        let job = match self.app.service().job(&self.caller, self.id).await {
            Err(OperationError::UnknownJob(_)) => {
                self.seen.phase = CLOSED;
                return Ok(());
            }
            job => job?,
        };
        let epochs =
            self.app.service().epochs(&self.caller, self.id, self.seen.epoch, self.epochs_at_a_time).await?;
        let has_more = epochs.len() >= self.epochs_at_a_time as usize;
        if self.seen.phase < QUEUED {
            self.send("state", Seen { phase: QUEUED, ..self.seen }, &state(JobState::Queued, 0));
        }
        let has_run = job.started_at.is_some();
        if has_run
            && self.seen.phase < ENDED
            && (self.seen.phase < RUNNING || self.seen.attempt < job.attempt)
        {
            let seen = Seen { phase: RUNNING, attempt: job.attempt, step: 0, ..self.seen };
            self.send("state", seen, &state(JobState::Running, job.attempt));
        }
        for epoch in epochs {
            let seen = Seen { epoch: epoch.metrics.epoch, ..self.seen };
            self.send("epoch", seen, &api::Epoch::from(epoch));
        }
        if has_more {
            return Ok(());
        }
        if job.progress.step > self.seen.step && has_run {
            self.send(
                "progress",
                Seen { step: job.progress.step, ..self.seen },
                &api::Progress::from(job.progress),
            );
        }
        if job.state.is_ended() {
            if self.seen.phase < ENDED {
                self.send("state", Seen { phase: ENDED, ..self.seen }, &state(job.state, job.attempt));
            }
            self.send_end(job);
        }
        Ok(())
    }

    fn send_end(&mut self, job: Job) {
        self.send("end", Seen { phase: CLOSED, ..self.seen }, &api::Job::from(job));
    }

    fn send(&mut self, kind: &str, seen: Seen, data: &impl Serialize) {
        self.seen = seen;
        match Event::default().event(kind).id(seen.to_string()).json_data(data) {
            Ok(event) => self.waiting.push_back(event),
            Err(error) => tracing::error!(%error, "an event could not be written"),
        }
    }
}

fn state(state: JobState, attempt: u32) -> api::StateEvent {
    api::StateEvent { state: state.into(), attempt }
}
