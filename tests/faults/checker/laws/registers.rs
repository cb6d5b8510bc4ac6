//! Values that one request sets and another reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Facts, Report};
use crate::checker::{Event, Law, NEVER, What};

/// A request that set an alias, and the version it was set to.
type Write<'a> = (&'a Event, Option<u64>);

/// An alias refers to the version of the last request, or of a request that may have come after it.
pub fn aliases_mean_the_last(facts: &Facts, report: Report) {
    let mut writes: BTreeMap<(String, String), Vec<Write>> = BTreeMap::new();
    for event in &facts.events {
        if let What::Alias { model, alias, version } = &event.what {
            let name = (model.clone(), alias.clone());
            writes.entry(name).or_default().push((event, *version));
        }
    }
    for (name, writes) in writes {
        let is_last = |write: &Event| {
            write.told == NEVER
                || !writes.iter().any(|(other, _)| other.told != NEVER && other.asked > write.told)
        };
        let mut possible: BTreeSet<Option<u64>> =
            writes.iter().filter(|(write, _)| is_last(write)).map(|(_, version)| *version).collect();
        if writes.iter().all(|(write, _)| write.told == NEVER) {
            possible.insert(None);
        }
        let found = facts.seen.aliases.get(&name).copied();
        if !possible.contains(&found) {
            let (model, alias) = name;
            report(Law::Alias, format!("{model}@{alias} is {found:?}, and could be {possible:?}"));
        }
    }
}

/// A version always gives the same prediction for the same image.
pub fn answers_stay(facts: &Facts, report: Report) {
    let mut answers: HashMap<(&str, u64), &str> = HashMap::new();
    let told = facts.events.iter().filter_map(|event| match &event.what {
        What::Predicted { model, version, answer } => Some((model.as_str(), *version, answer.as_str())),
        _ => None,
    });
    let seen = facts.seen.versions.iter().filter_map(|one| {
        one.answer.as_ref().ok().map(|answer| (one.model.as_str(), one.version, answer.as_str()))
    });
    for (model, version, answer) in told.chain(seen) {
        let before = answers.entry((model, version)).or_insert(answer);
        if *before != answer {
            report(Law::Changed, format!("{model}@{version} answers otherwise: {before}, then {answer}"));
        }
    }
}
