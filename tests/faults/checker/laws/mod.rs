//! The laws. Each is a function of the history and the final state.

mod ends;
mod registers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Event, History, Law, NEVER, Rules, Seen, VersionSeen, Violation, What};

/// Returns all contradictions between `history` and `seen`.
pub fn check(history: &History, seen: &Seen, rules: &Rules) -> Vec<Violation> {
    let facts = Facts::new(history.events(), seen, rules);
    let mut violations = Vec::new();
    for law in [
        jobs_are_there,
        one_job_for_a_request,
        one_version_for_a_job,
        versions_are_there,
        weights_are_right,
        metrics_are_whole,
        versions_serve,
        files_are_owned,
        versions_in_order,
        keys_answer,
        ends::last,
        ends::are_reached,
        registers::aliases_mean_the_last,
        registers::answers_stay,
    ] {
        law(&facts, &mut |law, words| violations.push(Violation { law, words }));
    }
    violations.sort_by(|a, b| (a.law, &a.words).cmp(&(b.law, &b.words)));
    violations.dedup();
    violations
}

type Report<'a> = &'a mut dyn FnMut(Law, String);

/// A job that clients posted.
struct Posted {
    key: String,
    spec: String,
    /// When it was first posted.
    asked: u64,
    /// When it was first acknowledged.
    told: u64,
}

struct Facts<'a> {
    events: Vec<Event>,
    seen: &'a Seen,
    rules: &'a Rules,
    /// The acknowledged jobs, by id.
    posted: HashMap<String, Posted>,
    /// The keys that were posted and never acknowledged.
    unanswered: BTreeSet<String>,
    /// The jobs that clients asked to delete: when it was first asked, and when it was first acknowledged (or
    /// never).
    deleted: HashMap<String, (u64, u64)>,
    /// The jobs that clients asked to resume.
    resumed: BTreeSet<String>,
    versions_deleted: BTreeSet<(String, u64)>,
}

impl<'a> Facts<'a> {
    fn new(events: Vec<Event>, seen: &'a Seen, rules: &'a Rules) -> Self {
        let mut first_asked: HashMap<&str, u64> = HashMap::new();
        let mut facts = Self {
            events: Vec::new(),
            seen,
            rules,
            posted: HashMap::new(),
            unanswered: BTreeSet::new(),
            deleted: HashMap::new(),
            resumed: BTreeSet::new(),
            versions_deleted: BTreeSet::new(),
        };
        for event in &events {
            match &event.what {
                What::Posted { key, .. } => {
                    let first = first_asked.entry(key).or_insert(event.asked);
                    *first = event.asked.min(*first);
                }
                What::Deleted { id } => {
                    let (asked, told) = facts.deleted.entry(id.clone()).or_insert((NEVER, NEVER));
                    (*asked, *told) = (event.asked.min(*asked), event.told.min(*told));
                }
                What::Resumed { id } => drop(facts.resumed.insert(id.clone())),
                What::VersionDeleted { model, version } => {
                    facts.versions_deleted.insert((model.clone(), *version));
                }
                _ => {}
            }
        }
        let mut answered = BTreeSet::new();
        for event in &events {
            let What::Posted { key, spec, id: Some(id) } = &event.what else { continue };
            answered.insert(key);
            let asked = first_asked[key.as_str()];
            let posted = facts.posted.entry(id.clone()).or_insert_with(|| Posted {
                key: key.clone(),
                spec: spec.clone(),
                asked,
                told: event.told,
            });
            posted.told = posted.told.min(event.told);
        }
        for event in &events {
            if let What::Posted { key, .. } = &event.what
                && !answered.contains(key)
            {
                facts.unanswered.insert(key.clone());
            }
        }
        facts.events = events;
        facts
    }

    fn is_listed(&self, id: &str) -> bool {
        self.seen.jobs.iter().any(|job| job.id == id)
    }

    /// Returns whether retention may have deleted jobs.
    fn jobs_may_be_removed(&self) -> bool {
        let ended = self.seen.jobs.iter().filter(|job| job.has_ended()).count();
        self.rules.keep_jobs.is_some_and(|keep| ended >= keep)
    }

    /// Returns whether retention may have deleted this version.
    fn version_may_be_removed(&self, model: &str, version: u64) -> bool {
        let newer = self.seen.versions.iter().filter(|one| one.model == model && one.version > version);
        self.rules.keep_versions.is_some_and(|keep| newer.count() >= keep)
    }
}

fn jobs_are_there(facts: &Facts, report: Report) {
    let listed: BTreeSet<&str> = facts.seen.jobs.iter().map(|job| job.id.as_str()).collect();
    let may_be_removed = facts.jobs_may_be_removed();
    for (id, Posted { key, .. }) in &facts.posted {
        if !listed.contains(id.as_str()) && !facts.deleted.contains_key(id) && !may_be_removed {
            report(Law::Lost, format!("job {id} of {key} was acknowledged and is not there"));
        }
    }
    for event in &facts.events {
        let What::Missing { id } = &event.what else { continue };
        let was_told = facts.posted.get(id).is_some_and(|posted| posted.told < event.asked);
        let deletable = facts.deleted.get(id).is_some_and(|(asked, _)| *asked < event.told);
        if was_told && !deletable && facts.rules.keep_jobs.is_none() {
            report(Law::Lost, format!("job {id} was acknowledged and then answered 404"));
        }
    }
}

fn one_job_for_a_request(facts: &Facts, report: Report) {
    let mut jobs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in &facts.events {
        if let What::Posted { key, id: Some(id), .. } = &event.what {
            jobs.entry(key).or_default().insert(id);
        }
    }
    for (key, ids) in jobs.iter().filter(|(_, ids)| ids.len() > 1) {
        report(Law::Key, format!("{key} was answered with {} jobs: {ids:?}", ids.len()));
    }
    let unknown = facts.seen.jobs.iter().filter(|job| !facts.posted.contains_key(&job.id));
    let unknown: Vec<&str> = unknown.map(|job| job.id.as_str()).collect();
    // Each post without a response may have created one job.
    for id in unknown.iter().skip(facts.unanswered.len()) {
        report(Law::Doubled, format!("nobody was told of job {id}: it is another's double"));
    }
}

fn one_version_for_a_job(facts: &Facts, report: Report) {
    let mut jobs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    for version in &facts.seen.versions {
        let name = format!("{}@{}", version.model, version.version);
        if !numbers.insert(name.clone()) {
            report(Law::Doubled, format!("{name} is listed twice"));
        }
        jobs.entry(&version.job_id).or_default().push(name);
    }
    for (job, names) in jobs.iter().filter(|(_, names)| names.len() > 1) {
        report(Law::Doubled, format!("job {job} has {} versions: {}", names.len(), names.join(", ")));
    }
    let states: HashMap<&str, &str> =
        facts.seen.jobs.iter().map(|job| (job.id.as_str(), job.state.as_str())).collect();
    for (job, names) in jobs {
        if let Some(state) = states.get(job).filter(|state| **state != "succeeded") {
            report(Law::Changed, format!("job {job} is {state} and has a version: {}", names.join(", ")));
        }
    }
}

fn versions_are_there(facts: &Facts, report: Report) {
    let listed: HashMap<(&str, u64), &VersionSeen> =
        facts.seen.versions.iter().map(|one| ((one.model.as_str(), one.version), one)).collect();
    for job in facts.seen.jobs.iter().filter(|job| job.state == "succeeded") {
        let Some(version) = job.version else {
            report(Law::Lost, format!("job {} has succeeded without a version", job.id));
            continue;
        };
        let name = format!("{}@{version} of job {}", job.model, job.id);
        match listed.get(&(job.model.as_str(), version)) {
            Some(one) if one.job_id == job.id => {}
            Some(one) => report(Law::Changed, format!("{name} is listed as of job {}", one.job_id)),
            None if facts.versions_deleted.contains(&(job.model.clone(), version)) => {}
            None if facts.version_may_be_removed(&job.model, version) => {}
            None => report(Law::Lost, format!("{name} is not listed")),
        }
    }
}

fn weights_are_right(facts: &Facts, report: Report) {
    for version in &facts.seen.versions {
        let Some(posted) = facts.posted.get(&version.job_id) else { continue };
        if let Some(expected) = facts.rules.weights.get(&posted.spec)
            && *expected != version.sha256
        {
            let VersionSeen { model, version, job_id, sha256, .. } = version;
            let spec = &posted.spec;
            report(
                Law::Weights,
                format!("{model}@{version} of job {job_id} ({spec}) is {sha256}, undisturbed {expected}"),
            );
        }
    }
}

fn metrics_are_whole(facts: &Facts, report: Report) {
    for job in &facts.seen.jobs {
        let Some(epochs) = facts.seen.epochs.get(&job.id) else { continue };
        if !epochs.iter().copied().eq(1..=job.epoch) {
            report(
                Law::Metrics,
                format!("job {} has run {} epochs and tells of {epochs:?}", job.id, job.epoch),
            );
        }
    }
}

fn versions_serve(facts: &Facts, report: Report) {
    for VersionSeen { model, version, sha256, answer, files, .. } in &facts.seen.versions {
        if let Err(error) = answer {
            report(Law::Serving, format!("{model}@{version} does not predict: {error}"));
        }
        match files.iter().filter(|digest| *digest == sha256).count() {
            1 if files.len() == 1 => {}
            0 => report(Law::Serving, format!("{model}@{version} has no file with its digest {sha256}")),
            _ => report(Law::Files, format!("the job of {model}@{version} has {} model files", files.len())),
        }
    }
}

fn files_are_owned(facts: &Facts, report: Report) {
    for words in &facts.seen.stray_files {
        report(Law::Files, words.clone());
    }
}

fn versions_in_order(facts: &Facts, report: Report) {
    let mut models: BTreeMap<&str, Vec<(u64, &str, &Posted)>> = BTreeMap::new();
    for version in &facts.seen.versions {
        // A resumed job comes after the jobs that were posted before the resumption.
        if let Some(posted) = facts.posted.get(&version.job_id)
            && !facts.resumed.contains(&version.job_id)
        {
            let versions = models.entry(&version.model).or_default();
            versions.push((version.version, &version.job_id, posted));
        }
    }
    for (model, mut versions) in models {
        versions.sort_by_key(|(version, ..)| *version);
        for (at, (version, job, posted)) in versions.iter().enumerate() {
            let earlier = versions[at + 1..].iter().find(|(.., later)| later.told < posted.asked);
            if let Some((other, other_job, _)) = earlier {
                report(
                    Law::Order,
                    format!(
                        "{model}@{version} (job {job}) stands before @{other} (job {other_job}), which was there before it was posted"
                    ),
                );
            }
        }
    }
}

fn keys_answer(facts: &Facts, report: Report) {
    for (key, answer) in &facts.seen.keys {
        let before = facts.posted.iter().find(|(id, posted)| posted.key == *key && facts.is_listed(id));
        let Some((before, _)) = before else { continue };
        match answer {
            Ok(id) if id == before => {}
            Ok(id) => report(Law::Key, format!("{key} answered with job {before}, and now with {id}")),
            Err(error) => report(Law::Key, format!("{key} answered with job {before}, and now {error}")),
        }
    }
}
