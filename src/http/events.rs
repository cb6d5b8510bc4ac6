//! The events of a job as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Problem;
use super::deliver::Streamed;
use super::extract::{JobParam, JobPath, Params};
use crate::api::{self, Code};
use crate::app::App;
use crate::fields::as_printed;
use crate::job::JobId;
use crate::service::{Caller, EventId, JobEvent, JobFollower, OperationError};

/// How often a silent stream sends a comment, to show that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The `retry` time of a stream. A client waits this long before it reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// Query of [`events`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsParams {
    /// The same as `Last-Event-ID`, for clients that can't send the header. The header takes precedence.
    #[serde(rename = "lastEventId")]
    last_event_id: Option<String>,
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
    params(
        JobParam,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the client has received."),
        EventsParams
    ),
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
    Params(params): Params<EventsParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = seen(&headers, params.last_event_id.as_deref())?;
    let Some(follower) = app.service().follow(&caller, id, seen, app.draining()).await? else {
        // 204 tells an EventSource not to reconnect (HTML standard, section 9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let events = stream::unfold(follower, move |mut follower| async move {
        let event = next(&mut follower, id).await?;
        Some((event, follower))
    });
    let events = stream::iter([Event::default().retry(RETRY)]).chain(events).map(Ok::<_, Infallible>);
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], Extension(Streamed), events).into_response())
}

/// Returns the id of the last event that the client has received.
fn seen(headers: &HeaderMap, parameter: Option<&str>) -> Result<EventId, Problem> {
    let (name, id) = match (headers.get("last-event-id"), parameter) {
        (Some(header), _) => ("Last-Event-ID", header.to_str().ok()),
        (None, Some(parameter)) => ("lastEventId", Some(parameter)),
        (None, None) => return Ok(EventId::default()),
    };
    id.and_then(as_printed).ok_or_else(|| {
        Problem::new(Code::InvalidLastEventId, format!("{name} is not the id of an event of this job"))
    })
}

/// Returns the next event, or `None` at the end of the stream.
async fn next(follower: &mut JobFollower, job: JobId) -> Option<Event> {
    loop {
        let (id, event) = match follower.next().await {
            Ok(event) => event?,
            Err(OperationError::Refused(_)) => return None,
            Err(error) => {
                // The client reconnects with its `Last-Event-ID`, so it misses nothing.
                tracing::warn!(%job, %error, "event stream ended early");
                return None;
            }
        };
        let of_type = |kind| Event::default().event(kind).id(id.to_string());
        let written = match event {
            JobEvent::State { state, attempt } => {
                of_type("state").json_data(api::StateEvent { state: state.into(), attempt })
            }
            JobEvent::Epoch(epoch) => of_type("epoch").json_data(api::Epoch::from(epoch)),
            JobEvent::Progress(progress) => of_type("progress").json_data(api::Progress::from(progress)),
            JobEvent::End(job) => of_type("end").json_data(api::Job::from(*job)),
        };
        match written {
            Ok(event) => return Some(event),
            Err(error) => tracing::error!(%error, "an event could not be written"),
        }
    }
}
