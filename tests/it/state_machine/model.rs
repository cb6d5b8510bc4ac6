//! A model of the queue: plain data, one call after the other.

use std::collections::{BTreeMap, BTreeSet};

use chainrule::job::JobState;
use chainrule::store::SetAlias;

/// A defect of the model. The store must differ from every model that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    None,
    RescueIgnoresBeat,
    CrashesOutliveCheckpoints,
    VersionsComeBack,
    ModelsRunTwice,
    ClientsTakeNoTurns,
    ResumedJobsKeepTheirPlace,
}

#[derive(Clone, Debug)]
pub(super) struct ModelJob {
    pub state: JobState,
    pub model: String,
    pub client: String,
    pub priority: i32,
    pub starts_from: Option<String>,
    pub key: Option<String>,
    pub request: String,
    pub attempt: u32,
    pub crashes: u32,
    pub beat: i64,
    pub step: u64,
    pub error: Option<&'static str>,
    pub version: Option<u32>,
    pub checkpoints: BTreeMap<u64, String>,
    pub turn: i64,
    pub sequence: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    NotThen,
    QueueFull,
    InitialModelGone,
    Unknown,
}

/// Jobs are numbered in order of acceptance. Numbers are never reused.
pub(super) struct Queue {
    twist: Twist,
    pub jobs: BTreeMap<usize, ModelJob>,
    accepted: usize,
    sequence: u64,
    /// The current turn of each priority.
    turns: BTreeMap<i32, i64>,
    last_versions: BTreeMap<String, u32>,
    pub versions: BTreeSet<(String, u32)>,
    pub aliases: BTreeMap<(String, String), u32>,
}

impl Queue {
    pub fn new(twist: Twist) -> Self {
        Self {
            twist,
            jobs: BTreeMap::new(),
            accepted: 0,
            sequence: 0,
            turns: BTreeMap::new(),
            last_versions: BTreeMap::new(),
            versions: BTreeSet::new(),
            aliases: BTreeMap::new(),
        }
    }

    pub fn count(&self, state: JobState) -> u64 {
        self.jobs.values().filter(|job| job.state == state).count() as u64
    }

    pub fn by_key(&self, key: &str) -> Option<usize> {
        self.jobs.iter().find(|(_, job)| job.key.as_deref() == Some(key)).map(|(&number, _)| number)
    }

    /// Returns the turn of a client's next job. It is one after the client's last job in the queue. If the
    /// client has none there, it is one after the current turn of the priority.
    fn next_turn(&self, client: &str, priority: i32) -> i64 {
        if self.twist == Twist::ClientsTakeNoTurns {
            return 0;
        }
        let waiting = self
            .jobs
            .values()
            .filter(|job| job.state == JobState::Queued && job.client == client && job.priority == priority);
        let last = waiting.map(|job| job.turn).max();
        last.or_else(|| self.turns.get(&priority).copied()).map_or(0, |turn| turn + 1)
    }

    /// Returns whether the version that a job starts from exists, if there is one.
    fn can_start(&self, job: &ModelJob) -> bool {
        let is_there = |reference: &String| {
            self.versions.iter().any(|(name, version)| format!("{name}@{version}") == *reference)
        };
        job.starts_from.as_ref().is_none_or(is_there)
    }

    /// Returns whether the queue accepts one more job of this client. A client may have half of the queue.
    fn has_room(&self, client: &str, queue_max: u32) -> bool {
        let waiting = self.jobs.values().filter(|job| job.state == JobState::Queued && job.client == client);
        self.count(JobState::Queued) < u64::from(queue_max)
            && waiting.count() < queue_max.div_ceil(2) as usize
    }

    /// Returns the number of the job.
    pub fn insert(&mut self, job: ModelJob, queue_max: u32) -> Result<usize, Answer> {
        if !self.can_start(&job) {
            return Err(Answer::InitialModelGone);
        }
        if !self.has_room(&job.client, queue_max) {
            return Err(Answer::QueueFull);
        }
        let number = self.accepted;
        self.accepted += 1;
        self.sequence += 1;
        let turn = self.next_turn(&job.client, job.priority);
        self.jobs.insert(number, ModelJob { turn, sequence: self.sequence, ..job });
        Ok(number)
    }

    fn is_next_of_its_model(&self, job: &ModelJob) -> bool {
        self.twist == Twist::ModelsRunTwice
            || !self.jobs.values().any(|other| {
                other.model == job.model && !other.state.is_ended() && other.sequence < job.sequence
            })
    }

    /// Returns the number of the claimed job, if there is one.
    pub fn claim(&mut self) -> Option<usize> {
        let waiting = self.jobs.iter().filter(|(_, job)| job.state == JobState::Queued);
        let free = waiting.filter(|(_, job)| self.is_next_of_its_model(job));
        let (&number, _) = free.min_by_key(|(_, job)| (-job.priority, job.turn, job.sequence))?;
        let job = self.jobs.get_mut(&number)?;
        job.state = JobState::Running;
        job.attempt += 1;
        job.beat += 1;
        let come_to = self.turns.entry(job.priority).or_insert(job.turn);
        *come_to = job.turn.max(*come_to);
        Some(number)
    }

    /// Returns the job if this attempt still holds it.
    pub fn held(&mut self, number: usize, attempt: u32) -> Option<&mut ModelJob> {
        let job = self.jobs.get_mut(&number)?;
        (job.state == JobState::Running && job.attempt == attempt).then_some(job)
    }

    pub fn record(&mut self, number: usize, attempt: u32, step: u64, key: Option<String>) -> bool {
        let crashes_stay = self.twist == Twist::CrashesOutliveCheckpoints;
        let Some(job) = self.held(number, attempt) else { return false };
        job.beat += 1;
        job.step = step;
        if let Some(key) = key {
            job.checkpoints.insert(step, key);
            job.crashes = if crashes_stay { job.crashes } else { 0 };
        }
        true
    }

    /// Returns the keys of the deleted checkpoints.
    pub fn forget(&mut self, number: usize, attempt: u32, keep: usize) -> Vec<String> {
        let Some(job) = self.held(number, attempt) else { return Vec::new() };
        let beyond = job.checkpoints.len().saturating_sub(keep);
        let steps: Vec<u64> = job.checkpoints.keys().copied().take(beyond).collect();
        steps.iter().filter_map(|step| job.checkpoints.remove(step)).collect()
    }

    pub fn leave(&mut self, number: usize, attempt: u32, state: JobState) -> bool {
        let Some(job) = self.held(number, attempt) else { return false };
        job.state = state;
        job.error = (state == JobState::Failed).then_some("diverged");
        true
    }

    /// Returns the published version.
    pub fn succeed(&mut self, number: usize, attempt: u32, step: u64) -> Option<u32> {
        let job = self.held(number, attempt)?;
        job.state = JobState::Succeeded;
        job.step = step;
        let name = job.model.clone();
        let newest = self.versions.iter().filter(|(of, _)| *of == name).map(|(_, version)| *version).max();
        let last = match self.twist {
            Twist::VersionsComeBack => newest.unwrap_or_default(),
            _ => self.last_versions.get(&name).copied().unwrap_or_default(),
        };
        self.last_versions.insert(name.clone(), last + 1);
        self.versions.insert((name, last + 1));
        self.jobs.entry(number).and_modify(|job| job.version = Some(last + 1));
        Some(last + 1)
    }

    pub fn rescue(&mut self, number: usize, attempt: u32, beat: i64, crashes_max: u32) -> Option<JobState> {
        let beat_stands = self.twist == Twist::RescueIgnoresBeat;
        let job = self.held(number, attempt).filter(|job| beat_stands || job.beat == beat)?;
        job.crashes += 1;
        let is_over = job.crashes >= crashes_max;
        job.state = if is_over { JobState::Failed } else { JobState::Queued };
        job.error = is_over.then_some("crash_loop");
        Some(job.state)
    }

    pub fn cancel(&mut self, number: usize) -> Answer {
        match self.jobs.get_mut(&number) {
            None => Answer::Unknown,
            Some(job) if job.state.is_ended() => Answer::NotThen,
            Some(job) => {
                job.state = JobState::Cancelled;
                Answer::Done
            }
        }
    }

    pub fn resume(&mut self, number: usize, queue_max: u32) -> Answer {
        let keeps_place = self.twist == Twist::ResumedJobsKeepTheirPlace;
        let Some(job) = self.jobs.get(&number) else { return Answer::Unknown };
        if !matches!(job.state, JobState::Failed | JobState::Cancelled) {
            return Answer::NotThen;
        }
        if !self.can_start(job) {
            return Answer::InitialModelGone;
        }
        if !self.has_room(&job.client, queue_max) {
            return Answer::QueueFull;
        }
        let turn = self.next_turn(&job.client, job.priority);
        self.sequence += 1;
        let sequence = if keeps_place { job.sequence } else { self.sequence };
        let back =
            ModelJob { state: JobState::Queued, crashes: 0, error: None, turn, sequence, ..job.clone() };
        self.jobs.insert(number, back);
        Answer::Done
    }

    /// Also returns the keys of the job's checkpoints if it was deleted.
    pub fn delete(&mut self, number: usize) -> (Answer, Vec<String>) {
        match self.jobs.get(&number) {
            None => (Answer::Unknown, Vec::new()),
            Some(job) if !job.state.is_ended() => (Answer::NotThen, Vec::new()),
            Some(job) => {
                let keys = job.checkpoints.values().cloned().collect();
                self.jobs.remove(&number);
                (Answer::Done, keys)
            }
        }
    }

    pub fn set_alias(&mut self, model: &str, alias: &str, version: u32, aliases_max: usize) -> SetAlias {
        if !self.versions.contains(&(model.to_owned(), version)) {
            return SetAlias::Unknown;
        }
        let alias = (model.to_owned(), alias.to_owned());
        let aliases = self.aliases.keys().filter(|(name, _)| name == model).count();
        if aliases >= aliases_max && !self.aliases.contains_key(&alias) {
            return SetAlias::TooMany;
        }
        self.aliases.insert(alias, version);
        SetAlias::Set
    }

    /// Returns the aliases of a version.
    pub fn aliases_of(&self, model: &str, version: u32) -> Vec<&str> {
        let of = self.aliases.iter().filter(|((name, _), meant)| name == model && **meant == version);
        of.map(|((_, alias), _)| alias.as_str()).collect()
    }

    /// Returns the jobs that start from a version and have not ended.
    pub fn dependants(&self, model: &str, version: u32) -> Vec<usize> {
        let reference = format!("{model}@{version}");
        let needs = |job: &ModelJob| !job.state.is_ended() && job.starts_from.as_ref() == Some(&reference);
        self.jobs.iter().filter(|(_, job)| needs(job)).map(|(&number, _)| number).collect()
    }
}

impl ModelJob {
    pub fn new(model: &str, client: &str, priority: i32) -> Self {
        Self {
            state: JobState::Queued,
            model: model.to_owned(),
            client: client.to_owned(),
            priority,
            starts_from: None,
            key: None,
            request: String::new(),
            attempt: 0,
            crashes: 0,
            beat: 0,
            step: 0,
            error: None,
            version: None,
            checkpoints: BTreeMap::new(),
            turn: 0,
            sequence: 0,
        }
    }
}
