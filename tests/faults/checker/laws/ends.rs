//! Every job ends, and a final state never changes.

use std::collections::BTreeMap;

use super::{Facts, Report};
use crate::checker::{JobSeen, Law, NEVER, What, is_end};

/// A state in a response: when it was asked for, when the response came, the state, and the version.
type Told<'a> = (u64, u64, &'a str, Option<u64>);

/// Every response after the end of a job has the same final state, unless a client has asked to resume it.
/// After its deletion no response has the job.
pub fn last(facts: &Facts, report: Report) {
    let mut states: BTreeMap<&str, Vec<Told>> = BTreeMap::new();
    for event in facts.events.iter().filter(|event| event.told != NEVER) {
        let (id, state, version) = match &event.what {
            What::State { id, state, version } => (id, state.as_str(), *version),
            What::Cancelled { id } => (id, "cancelled", None),
            _ => continue,
        };
        states.entry(id).or_default().push((event.asked, event.told, state, version));
    }
    for JobSeen { id, state, version, .. } in &facts.seen.jobs {
        states.entry(id).or_default().push((NEVER - 1, NEVER, state, *version));
    }
    for (id, mut states) in states {
        states.sort_by_key(|(_, told, ..)| *told);
        if let Some((_, deleted)) = facts.deleted.get(id)
            && states.iter().any(|(asked, ..)| asked > deleted)
        {
            report(Law::Changed, format!("job {id} was deleted and is there again"));
        }
        for (at, (asked, told, state, version)) in states.iter().enumerate() {
            let is_other = |later: &&Told| later.0 > *told && (later.2, later.3) != (*state, *version);
            let Some(later) = states[at + 1..].iter().find(is_other) else { continue };
            if is_end(state) && !is_resumed_between(facts, id, *asked, later.1) {
                let (before, after) = (words(state, *version), words(later.2, later.3));
                report(Law::Changed, format!("job {id} was told to be {before}, and later {after}"));
                break;
            }
        }
    }
}

fn words(state: &str, version: Option<u64>) -> String {
    version.map_or_else(|| state.to_owned(), |version| format!("{state} as version {version}"))
}

fn is_resumed_between(facts: &Facts, job: &str, after: u64, before: u64) -> bool {
    facts.resumed.contains(job)
        && facts.events.iter().any(|event| {
            matches!(&event.what, What::Resumed { id } if id == job)
                && event.asked < before
                && event.told > after
        })
}

/// Every job has ended, and if it failed, the scenario allows that failure.
pub fn are_reached(facts: &Facts, report: Report) {
    for JobSeen { id, state, error, .. } in &facts.seen.jobs {
        match (state.as_str(), error) {
            ("succeeded" | "cancelled", _) => {}
            ("failed", Some(code)) if facts.rules.may_fail.contains(code) => {}
            ("failed", code) => {
                let code = code.as_deref().unwrap_or("no code");
                report(Law::Unended, format!("job {id} has failed: {code}"));
            }
            (state, _) => report(Law::Unended, format!("job {id} is still {state}")),
        }
    }
}
