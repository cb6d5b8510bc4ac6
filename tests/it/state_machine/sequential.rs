//! Makes one call after the other, through two handles on the same rows, like two processes. Each result must
//! be the model's.

use std::collections::{BTreeMap, BTreeSet};

use chainrule::dispatch::Dispatch;
use chainrule::job::{Job, JobId, JobState};
use chainrule::store::{
    Cancelled, Claim, Deleted, DeletedVersion, Held, Inserted, JobFilter, NewJob, Resumed,
};
use chainrule::train::TrainSpec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use tokio::runtime::Runtime;

use super::model::{Answer, ModelJob, Queue, Twist};
use super::{DATABASES, MakeRows, Rows, WorkerSide, checkpoint, config, new_job};

const SEED: u64 = 20_261_126;
const MODELS: [&str; 3] = ["a", "b", "c"];
const CLIENTS: [&str; 3] = ["x", "y", "z"];
const QUEUE_MAX: u32 = 6;
const CRASHES_MAX: u32 = 2;
const ALIASES: [&str; 2] = ["best", "default"];
const ALIASES_MAX: u32 = 1;
const CALLS_MAX: usize = 60;

/// A call. It chooses its subject among the existing ones, counted from the newest. So a sequence stays valid
/// if calls are removed.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Insert { model: usize, client: usize, priority: i32 },
    InsertFrom { model: usize, version: u32 },
    InsertWithKey { key: usize, request: usize },
    Claim,
    Renew { claim: usize },
    Record { claim: usize },
    Checkpoint { claim: usize },
    Forget { claim: usize, keep: u32 },
    Release { claim: usize },
    Fail { claim: usize },
    Succeed { claim: usize },
    Look,
    Rescue { seen: usize },
    Cancel { job: usize },
    Resume { job: usize },
    Delete { job: usize },
    SetAlias { model: usize, alias: usize, version: u32 },
    DeleteAlias { model: usize, alias: usize },
    DeleteVersion { model: usize, version: u32 },
}

fn call() -> impl Strategy<Value = Call> {
    let (model, client, place) = (0..MODELS.len(), 0..CLIENTS.len(), 0..4_usize);
    let version = 1..4_u32;
    prop_oneof![
        6 => (model.clone(), client, 0..2_i32)
            .prop_map(|(model, client, priority)| Call::Insert { model, client, priority }),
        1 => (model.clone(), version.clone()).prop_map(|(model, version)| Call::InsertFrom { model, version }),
        1 => (0..2_usize, 0..2_usize).prop_map(|(key, request)| Call::InsertWithKey { key, request }),
        7 => Just(Call::Claim),
        1 => place.clone().prop_map(|claim| Call::Renew { claim }),
        1 => place.clone().prop_map(|claim| Call::Record { claim }),
        2 => place.clone().prop_map(|claim| Call::Checkpoint { claim }),
        1 => (place.clone(), 0..2_u32).prop_map(|(claim, keep)| Call::Forget { claim, keep }),
        2 => place.clone().prop_map(|claim| Call::Release { claim }),
        1 => place.clone().prop_map(|claim| Call::Fail { claim }),
        4 => place.clone().prop_map(|claim| Call::Succeed { claim }),
        2 => Just(Call::Look),
        3 => place.clone().prop_map(|seen| Call::Rescue { seen }),
        2 => place.clone().prop_map(|job| Call::Cancel { job }),
        3 => place.clone().prop_map(|job| Call::Resume { job }),
        1 => place.prop_map(|job| Call::Delete { job }),
        1 => (model.clone(), 0..2_usize, version.clone())
            .prop_map(|(model, alias, version)| Call::SetAlias { model, alias, version }),
        1 => (model.clone(), 0..2_usize).prop_map(|(model, alias)| Call::DeleteAlias { model, alias }),
        2 => (model, version).prop_map(|(model, version)| Call::DeleteVersion { model, version }),
    ]
}

/// Returns an error if the found value differs from the expected one.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// The state of store and model during a sequence.
struct Course {
    processes: [Dispatch; 2],
    workers: [WorkerSide; 2],
    calls: usize,
    queue: Queue,
    ids: Vec<JobId>,
    claims: Vec<(usize, u32)>,
    seen: Vec<(usize, Held)>,
    states: BTreeMap<usize, JobState>,
    revision: i64,
    /// The versions known to a server that only reads changes.
    versions: BTreeSet<(String, u32)>,
    aliases: BTreeMap<(String, String), u32>,
    _rows: Rows,
}

fn newest<T: Copy>(of: &[T], place: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[of.len() - 1 - place % of.len()])
}

impl Course {
    async fn begin(rows: Rows, twist: Twist, is_fenced: bool) -> Self {
        let processes = [rows.open().await, rows.open().await];
        let workers = processes.clone().map(|dispatch| WorkerSide { dispatch, is_fenced });
        Self {
            processes,
            workers,
            calls: 0,
            queue: Queue::new(twist),
            ids: Vec::new(),
            claims: Vec::new(),
            seen: Vec::new(),
            states: BTreeMap::new(),
            revision: -1,
            versions: BTreeSet::new(),
            aliases: BTreeMap::new(),
            _rows: rows,
        }
    }

    async fn run(mut self, calls: &[Call]) -> Result<(), String> {
        let mut ran = Ok(());
        for (place, call) in calls.iter().enumerate() {
            ran = self.call(call).await;
            if ran.is_ok() {
                ran = self.compare().await;
            }
            if let Err(difference) = ran {
                ran = Err(format!("call {place}, {call:?}: {difference}"));
                break;
            }
        }
        for dispatch in &self.processes {
            dispatch.close().await;
        }
        ran
    }

    fn number(&self, id: JobId) -> usize {
        self.ids.iter().position(|known| *known == id).expect("a job of this test")
    }

    async fn call(&mut self, call: &Call) -> Result<(), String> {
        self.calls += 1;
        let step = self.calls as u64;
        let dispatch = self.processes[self.calls % 2].clone();
        match *call {
            Call::Insert { model, client, priority } => {
                let job = ModelJob::new(MODELS[model], CLIENTS[client], priority);
                self.insert(&dispatch, job).await
            }
            Call::InsertFrom { model, version } => {
                let starts_from = Some(format!("{}@{version}", MODELS[model]));
                self.insert(&dispatch, ModelJob { starts_from, ..ModelJob::new("d", "x", 0) }).await
            }
            Call::InsertWithKey { key, request } => {
                let (key, request) = (Some(format!("key {key}")), format!("request {request}"));
                self.insert(&dispatch, ModelJob { key, request, ..ModelJob::new("a", "x", 0) }).await
            }
            Call::Claim => {
                let given = dispatch.claim().await.expect("rows");
                let expected = self.queue.claim();
                let found = given.as_ref().map(|job| self.number(job.id));
                expect("the job that was given", found, expected)?;
                if let Some((number, job)) = expected.zip(given) {
                    let claim = (number, self.queue.jobs[&number].attempt);
                    expect("its attempt", (job.state, job.attempt), (JobState::Running, claim.1))?;
                    self.claims.push(claim);
                }
                Ok(())
            }
            Call::Look => self.look(&dispatch).await,
            Call::Rescue { seen } => {
                let Some((number, held)) = newest(&self.seen, seen) else { return Ok(()) };
                let found = dispatch.rescue(held, CRASHES_MAX).await.expect("rows");
                let expected = self.queue.rescue(number, held.claim.attempt, held.beat, CRASHES_MAX);
                expect("rescued", found, expected)
            }
            Call::Cancel { job } => self.cancel(&dispatch, job).await,
            Call::Resume { job } => self.resume(&dispatch, job).await,
            Call::Delete { job } => self.delete(&dispatch, job).await,
            Call::SetAlias { model, alias, version } => {
                let (model, alias) = (MODELS[model], ALIASES[alias]);
                let found =
                    dispatch.store().set_alias(model, alias, version, ALIASES_MAX).await.expect("rows");
                expect("set", found, self.queue.set_alias(model, alias, version, ALIASES_MAX as usize))
            }
            Call::DeleteAlias { model, alias } => {
                let (model, alias) = (MODELS[model], ALIASES[alias]);
                let found = dispatch.store().delete_alias(model, alias).await.expect("rows");
                let expected = self.queue.aliases.remove(&(model.to_owned(), alias.to_owned()));
                expect("deleted", found, expected.is_some())
            }
            Call::DeleteVersion { model, version } => {
                self.delete_version(&dispatch, MODELS[model], version).await
            }
            Call::Renew { claim }
            | Call::Record { claim }
            | Call::Checkpoint { claim }
            | Call::Forget { claim, .. }
            | Call::Release { claim }
            | Call::Fail { claim }
            | Call::Succeed { claim } => {
                let Some((number, attempt)) = newest(&self.claims, claim) else { return Ok(()) };
                self.write(call, number, attempt, step).await
            }
        }
    }

    /// Makes a write with a claim that a worker was once given.
    async fn write(&mut self, call: &Call, number: usize, attempt: u32, step: u64) -> Result<(), String> {
        let worker = &self.workers[self.calls % 2];
        let claim = Claim { id: self.ids[number], attempt };
        let held = self.queue.held(number, attempt).is_some();
        expect("held", worker.is_held(claim).await, held)?;
        match *call {
            Call::Renew { .. } => expect(
                "taken",
                worker.renew(claim, step).await,
                self.queue.record(number, attempt, step, None),
            ),
            Call::Record { .. } => {
                let found = worker.record(claim, step, Vec::new()).await;
                expect("taken", found, self.queue.record(number, attempt, step, None))
            }
            Call::Checkpoint { .. } => {
                let key = format!("jobs/{number}/{attempt}-{step}");
                let found = worker.record(claim, step, vec![checkpoint(step, key.clone())]).await;
                expect("taken", found, self.queue.record(number, attempt, step, Some(key)))
            }
            Call::Forget { keep, .. } => {
                let mut found = worker.dispatch.store().forget_checkpoints(claim, keep).await.expect("rows");
                found.sort_unstable();
                let mut expected = self.queue.forget(number, attempt, keep as usize);
                expected.sort_unstable();
                expect("forgotten", found, expected)
            }
            Call::Release { .. } => {
                let found = worker.release(claim).await;
                expect("taken", found, self.queue.leave(number, attempt, JobState::Queued))
            }
            Call::Fail { .. } => {
                let found = worker.fail(claim).await;
                expect("taken", found, self.queue.leave(number, attempt, JobState::Failed))
            }
            _ => {
                let model = self.queue.jobs.get(&number).map_or(String::new(), |job| job.model.clone());
                let found = worker.succeed(claim, &model, step).await;
                expect("the version", found, self.queue.succeed(number, attempt, step))
            }
        }
    }

    async fn insert(&mut self, dispatch: &Dispatch, job: ModelJob) -> Result<(), String> {
        let new = new_job(&job.model, &job.client, job.priority);
        let new = NewJob {
            spec: TrainSpec { initial_model: job.starts_from.clone(), ..new.spec },
            idempotency_key: job.key.clone(),
            request_sha256: job.request.clone(),
            ..new
        };
        let earlier = job.key.as_deref().and_then(|key| self.queue.by_key(key));
        let inserted = dispatch.insert_job(new, QUEUE_MAX).await.expect("rows");
        if let Some(number) = earlier {
            let is_same = self.queue.jobs[&number].request == job.request;
            return match inserted {
                Inserted::Repeated(job) if is_same => expect("repeated", self.number(job.id), number),
                Inserted::OtherRequest if !is_same => Ok(()),
                other => Err(format!("{other:?} for a key that came before, the same request: {is_same}")),
            };
        }
        match (inserted, self.queue.insert(job, QUEUE_MAX)) {
            (Inserted::Accepted(job), Ok(number)) => {
                self.ids.push(job.id);
                expect("the number of jobs", self.ids.len(), number + 1)
            }
            (Inserted::QueueFull, Err(Answer::QueueFull))
            | (Inserted::InitialModelGone, Err(Answer::InitialModelGone)) => Ok(()),
            (inserted, expected) => Err(format!("found {inserted:?}, expected {expected:?}")),
        }
    }

    async fn look(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let held = dispatch.store().held().await.expect("rows");
        let found: BTreeSet<_> =
            held.iter().map(|held| (self.number(held.claim.id), held.claim.attempt, held.beat)).collect();
        let running = self.queue.jobs.iter().filter(|(_, job)| job.state == JobState::Running);
        let expected = running.map(|(&number, job)| (number, job.attempt, job.beat)).collect();
        expect("held", found, expected)?;
        let mut seen: Vec<_> = held.into_iter().map(|held| (self.number(held.claim.id), held)).collect();
        seen.sort_unstable_by_key(|(number, _)| *number);
        self.seen.extend(seen);
        Ok(())
    }

    async fn cancel(&mut self, dispatch: &Dispatch, job: usize) -> Result<(), String> {
        let Some(id) = newest(&self.ids, job) else { return Ok(()) };
        let found = match dispatch.cancel(id).await.expect("rows") {
            Cancelled::Accepted(job) if job.state == JobState::Cancelled => Answer::Done,
            Cancelled::Ended(job) if job.state.is_ended() => Answer::NotThen,
            Cancelled::Unknown => Answer::Unknown,
            other => return Err(format!("{other:?}")),
        };
        expect("cancelled", found, self.queue.cancel(self.number(id)))
    }

    async fn resume(&mut self, dispatch: &Dispatch, job: usize) -> Result<(), String> {
        let Some(id) = newest(&self.ids, job) else { return Ok(()) };
        let found = match dispatch.resume(id, QUEUE_MAX).await.expect("rows") {
            Resumed::Accepted(job) if job.state == JobState::Queued => Answer::Done,
            Resumed::NotStopped(_) => Answer::NotThen,
            Resumed::QueueFull => Answer::QueueFull,
            Resumed::InitialModelGone => Answer::InitialModelGone,
            Resumed::Unknown => Answer::Unknown,
            other @ Resumed::Accepted(_) => return Err(format!("{other:?}")),
        };
        expect("resumed", found, self.queue.resume(self.number(id), QUEUE_MAX))
    }

    async fn delete(&mut self, dispatch: &Dispatch, job: usize) -> Result<(), String> {
        let Some(id) = newest(&self.ids, job) else { return Ok(()) };
        let (found, mut keys) = match dispatch.delete_job(id).await.expect("rows") {
            Deleted::Gone(keys) => (Answer::Done, keys),
            Deleted::NotEnded(_) => (Answer::NotThen, Vec::new()),
            Deleted::Unknown => (Answer::Unknown, Vec::new()),
        };
        let (answer, mut expected) = self.queue.delete(self.number(id));
        keys.sort_unstable();
        expected.sort_unstable();
        expect("deleted", (found, keys), (answer, expected))
    }

    async fn delete_version(&mut self, dispatch: &Dispatch, model: &str, version: u32) -> Result<(), String> {
        let aliases = self.queue.aliases_of(model, version);
        let dependants = self.queue.dependants(model, version);
        let exists = self.queue.versions.contains(&(model.to_owned(), version));
        let is_right = match dispatch.store().delete_version(model, version).await.expect("rows") {
            DeletedVersion::Aliased(alias) => aliases.contains(&alias.as_str()),
            DeletedVersion::Needed(job) => aliases.is_empty() && dependants.contains(&self.number(job)),
            DeletedVersion::Gone(_) => aliases.is_empty() && dependants.is_empty() && exists,
            DeletedVersion::Unknown => aliases.is_empty() && dependants.is_empty() && !exists,
        };
        if aliases.is_empty() && dependants.is_empty() {
            self.queue.versions.remove(&(model.to_owned(), version));
        }
        expect("a right answer", is_right, true)
    }

    /// Compares everything that can be read from the store with the model.
    async fn compare(&mut self) -> Result<(), String> {
        let dispatch = self.processes[(self.calls + 1) % 2].clone();
        for (state, count) in dispatch.store().counts().await.expect("rows") {
            expect(&format!("the count of {state}"), count, self.queue.count(state))?;
        }
        let (jobs, _) = dispatch.jobs(&JobFilter::default(), u32::MAX).await.expect("rows");
        let mut found = BTreeMap::new();
        for job in &jobs {
            let number = self.number(job.id);
            let before = self.states.insert(number, job.state).unwrap_or(JobState::Queued);
            if before != job.state && !followers(before).contains(&job.state) {
                return Err(format!("{} follows {before}", job.state));
            }
            expect("whether it has begun", job.started_at.is_some(), job.attempt > 0)?;
            expect("whether it is over", job.finished_at.is_some(), job.state.is_ended())?;
            found.insert(number, shown(job));
        }
        let expected = self.queue.jobs.iter().map(|(&number, job)| {
            let error = job.error.map(str::to_owned);
            (number, (job.state, job.attempt, job.step, error, job.version))
        });
        expect("the jobs", found, expected.collect())?;
        let models = dispatch.store().models().await.expect("rows");
        let versions = models.versions.iter().map(|model| (model.name.clone(), model.row.version)).collect();
        let aliases = models.aliases.iter();
        let aliases = aliases.map(|(name, alias, of)| ((name.clone(), alias.clone()), *of)).collect();
        expect("the versions", versions, self.queue.versions.clone())?;
        expect("the aliases", aliases, self.queue.aliases.clone())?;
        expect("a revision that never falls", models.revision >= self.revision, true)?;
        self.follow(&dispatch).await
    }

    /// Reads the changes of the models since the last time.
    async fn follow(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let changes = dispatch.store().model_changes(self.revision).await.expect("rows");
        self.revision = changes.revision;
        for (name, change) in changes.models {
            self.versions.retain(|(of, number)| *of != name || change.numbers.contains(number));
            let published = change.published.iter().map(|model| (name.clone(), model.row.version));
            self.versions.extend(published);
            self.aliases.retain(|(of, _), _| *of != name);
            let aliases = change.aliases.into_iter();
            self.aliases.extend(aliases.map(|(alias, version)| ((name.clone(), alias), version)));
        }
        expect("the versions by their changes", self.versions.clone(), self.queue.versions.clone())?;
        expect("the aliases by their changes", self.aliases.clone(), self.queue.aliases.clone())?;
        let again = dispatch.store().model_changes(self.revision).await.expect("rows");
        expect("changes that are read twice", again.models.len(), 0)
    }
}

/// Returns the states that may follow a state.
fn followers(state: JobState) -> &'static [JobState] {
    match state {
        JobState::Queued => &[JobState::Running, JobState::Cancelled],
        JobState::Running => &[JobState::Queued, JobState::Succeeded, JobState::Failed, JobState::Cancelled],
        JobState::Failed | JobState::Cancelled => &[JobState::Queued],
        JobState::Succeeded => &[],
    }
}

fn shown(job: &Job) -> (JobState, u32, u64, Option<String>, Option<u32>) {
    let error = job.error.as_ref().map(|error| error.code.clone());
    (job.state, job.attempt, job.progress.step, error, job.result.as_ref().map(|result| result.version))
}

/// Returns a shrunk sequence of calls whose results differ from the model's, and the difference. Returns `None`
/// if there is none.
pub(super) fn difference(
    make_rows: MakeRows,
    cases: u32,
    twist: Twist,
    is_fenced: bool,
) -> Option<(String, Vec<Call>)> {
    let runtime = Runtime::new().expect("a runtime");
    let sequences = prop::collection::vec(call(), 1..CALLS_MAX);
    // For a queue without fencing, the sequence need not be shortened.
    let shrinks = if is_fenced { config(cases, SEED).max_shrink_iters } else { 0 };
    let config = ProptestConfig { max_shrink_iters: shrinks, ..config(cases, SEED) };
    let ran = TestRunner::new(config).run(&sequences, |calls| {
        runtime.block_on(run(make_rows, &calls, twist, is_fenced)).map_err(TestCaseError::fail)
    });
    match ran {
        Ok(()) => None,
        Err(TestError::Fail(why, calls)) => Some((why.to_string(), calls)),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

pub(super) async fn run(
    make_rows: MakeRows,
    calls: &[Call],
    twist: Twist,
    is_fenced: bool,
) -> Result<(), String> {
    Course::begin(make_rows(), twist, is_fenced).await.run(calls).await
}

/// Returns the sequence without the calls that it does not need. proptest may leave some, because it simplifies
/// calls after it has removed others.
pub(super) fn shortest(make_rows: MakeRows, calls: Vec<Call>, twist: Twist, is_fenced: bool) -> Vec<Call> {
    let runtime = Runtime::new().expect("a runtime");
    let (mut calls, mut place) = (calls, 0);
    while place < calls.len() {
        let mut fewer = calls.clone();
        fewer.remove(place);
        match runtime.block_on(run(make_rows, &fewer, twist, is_fenced)) {
            Ok(()) => place += 1,
            Err(_) => (calls, place) = (fewer, 0),
        }
    }
    calls
}

#[test]
fn every_answer_in_every_order_is_that_of_the_model() {
    for make_rows in DATABASES {
        if let Some((why, calls)) = difference(make_rows, 40, Twist::None, true) {
            let calls = shortest(make_rows, calls, Twist::None, true);
            panic!("seed {SEED}: {why}\n{calls:#?}");
        }
    }
}
