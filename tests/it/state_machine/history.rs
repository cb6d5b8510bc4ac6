//! Decides whether overlapping calls about one job can have happened one after the other. Uses the search of
//! Wing and Gong ("Testing and Verifying Concurrent Objects", JPDC 1993) with Lowe's cache of visited states
//! ("Testing for linearizability", 2017).

use std::collections::HashSet;

use chainrule::job::JobState;

use super::model::Answer;

/// A call and its result. `attempt` is the attempt that the caller held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Inserted,
    Claimed {
        attempt: u32,
        step: u64,
    },
    Recorded {
        attempt: u32,
        step: u64,
        has_checkpoint: bool,
        is_taken: bool,
    },
    Left {
        attempt: u32,
        state: JobState,
        is_taken: bool,
    },
    Succeeded {
        attempt: u32,
        step: u64,
        version: Option<u32>,
    },
    Held {
        attempt: u32,
        is_held: bool,
    },
    Rescued {
        attempt: u32,
        beat: i64,
        state: Option<JobState>,
    },
    /// The result, and the state that came with it.
    Cancelled(Answer, Option<JobState>),
    Resumed(Answer, Option<JobState>),
    Deleted(Answer, Option<JobState>),
    Seen(Option<(JobState, u32, u64)>),
    /// Attempt and beat, if a worker holds the job.
    Looked(Option<(u32, i64)>),
}

/// A call between two ticks of a clock that all threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub begin: u64,
    pub end: u64,
    pub told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OneJob {
    pub state: JobState,
    pub attempt: u32,
    crashes: u32,
    beat: i64,
    step: u64,
}

pub(super) const CRASHES_MAX: u32 = 3;

/// Returns the job after a call, or `Err` if the result was not possible in this state.
pub(super) fn after(before: Option<OneJob>, told: Told) -> Result<Option<OneJob>, ()> {
    let holds = |attempt: u32| before.filter(|job| job.state == JobState::Running && job.attempt == attempt);
    let unless_taken = |is_taken: bool| if is_taken { Err(()) } else { Ok(before) };
    let only_if = |fits: bool| if fits { Ok(before) } else { Err(()) };
    match told {
        Told::Inserted => match before {
            None => Ok(Some(OneJob { state: JobState::Queued, attempt: 0, crashes: 0, beat: 0, step: 0 })),
            Some(_) => Err(()),
        },
        Told::Claimed { attempt, step } => match before {
            Some(job) if job.state == JobState::Queued && (job.attempt + 1, job.step) == (attempt, step) => {
                Ok(Some(OneJob { state: JobState::Running, attempt, beat: job.beat + 1, ..job }))
            }
            _ => Err(()),
        },
        Told::Recorded { attempt, step, has_checkpoint, is_taken } => match holds(attempt) {
            Some(job) if is_taken => {
                let crashes = if has_checkpoint { 0 } else { job.crashes };
                Ok(Some(OneJob { step, crashes, beat: job.beat + 1, ..job }))
            }
            Some(_) => Err(()),
            None => unless_taken(is_taken),
        },
        Told::Left { attempt, state, is_taken } => match holds(attempt) {
            Some(job) if is_taken => Ok(Some(OneJob { state, ..job })),
            Some(_) => Err(()),
            None => unless_taken(is_taken),
        },
        Told::Succeeded { attempt, step, version } => match holds(attempt) {
            Some(job) if version.is_some() => Ok(Some(OneJob { state: JobState::Succeeded, step, ..job })),
            Some(_) => Err(()),
            None => unless_taken(version.is_some()),
        },
        Told::Held { attempt, is_held } => only_if(holds(attempt).is_some() == is_held),
        Told::Rescued { attempt, beat, state } => match holds(attempt).filter(|job| job.beat == beat) {
            Some(job) => {
                let crashes = job.crashes + 1;
                let left = if crashes >= CRASHES_MAX { JobState::Failed } else { JobState::Queued };
                if state == Some(left) { Ok(Some(OneJob { state: left, crashes, ..job })) } else { Err(()) }
            }
            None => unless_taken(state.is_some()),
        },
        Told::Cancelled(answer, shown) => match (answer, before) {
            (Answer::Done, Some(job)) if !job.state.is_ended() => {
                Ok(Some(OneJob { state: JobState::Cancelled, ..job }))
            }
            (Answer::NotThen, Some(job)) => only_if(job.state.is_ended() && shown == Some(job.state)),
            (Answer::Unknown, None) => Ok(before),
            _ => Err(()),
        },
        Told::Resumed(answer, shown) => match (answer, before) {
            (Answer::Done, Some(job)) if is_stopped(job.state) => {
                Ok(Some(OneJob { state: JobState::Queued, crashes: 0, ..job }))
            }
            (Answer::NotThen, Some(job)) => only_if(!is_stopped(job.state) && shown == Some(job.state)),
            (Answer::Unknown, None) => Ok(before),
            // None of these tests fills the queue.
            _ => Err(()),
        },
        Told::Deleted(answer, shown) => match (answer, before) {
            (Answer::Done, Some(job)) if job.state.is_ended() => Ok(None),
            (Answer::NotThen, Some(job)) => only_if(!job.state.is_ended() && shown == Some(job.state)),
            (Answer::Unknown, None) => Ok(before),
            _ => Err(()),
        },
        Told::Seen(seen) => only_if(before.map(|job| (job.state, job.attempt, job.step)) == seen),
        Told::Looked(looked) => {
            let running = before.filter(|job| job.state == JobState::Running);
            only_if(running.map(|job| (job.attempt, job.beat)) == looked)
        }
    }
}

fn is_stopped(state: JobState) -> bool {
    matches!(state, JobState::Failed | JobState::Cancelled)
}

/// Returns an order of the events that explains every result. If there is none, the error is the longest
/// explainable prefix.
pub(super) fn linearize(events: &[Event]) -> Result<Vec<usize>, Vec<usize>> {
    let mut by_begin: Vec<usize> = (0..events.len()).collect();
    by_begin.sort_unstable_by_key(|&place| events[place].begin);
    let mut search = Search {
        events,
        by_begin,
        is_done: vec![0; events.len().div_ceil(64)],
        order: Vec::new(),
        longest: Vec::new(),
        tried: HashSet::new(),
    };
    if search.goes_on(None) { Ok(search.order) } else { Err(search.longest) }
}

struct Search<'a> {
    events: &'a [Event],
    by_begin: Vec<usize>,
    is_done: Vec<u64>,
    order: Vec<usize>,
    longest: Vec<usize>,
    tried: HashSet<(Vec<u64>, Option<OneJob>)>,
}

impl Search<'_> {
    fn goes_on(&mut self, job: Option<OneJob>) -> bool {
        if self.order.len() == self.events.len() {
            return true;
        }
        if !self.tried.insert((self.is_done.clone(), job)) {
            return false;
        }
        for place in self.candidates() {
            let Ok(next) = after(job, self.events[place].told) else { continue };
            self.is_done[place / 64] ^= 1 << (place % 64);
            self.order.push(place);
            if self.goes_on(next) {
                return true;
            }
            if self.order.len() > self.longest.len() {
                self.longest.clone_from(&self.order);
            }
            self.order.pop();
            self.is_done[place / 64] ^= 1 << (place % 64);
        }
        false
    }

    /// Returns the events that began before the end of every remaining event.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = u64::MAX;
        let mut found = Vec::new();
        for &place in &self.by_begin {
            if self.is_done[place / 64] >> (place % 64) & 1 == 1 {
                continue;
            }
            if self.events[place].begin > first_end {
                break;
            }
            first_end = first_end.min(self.events[place].end);
            found.push(place);
        }
        found.retain(|&place| self.events[place].begin < first_end);
        found
    }
}

/// Describes why no order explains these events.
pub(super) fn explain(events: &[Event], longest: &[usize]) -> String {
    let mut job = None;
    for &place in longest {
        job = after(job, events[place].told).unwrap_or(job);
    }
    let rest = (0..events.len()).filter(|place| !longest.contains(place));
    let mut rest: Vec<&Event> = rest.map(|place| &events[place]).collect();
    rest.sort_unstable_by_key(|event| event.begin);
    rest.truncate(6);
    format!("after {} calls the job can be {job:?}, which does not explain {rest:#?}", longest.len())
}
