//! Random calls from many threads at once, recorded with the order in which they began and ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chainrule::dispatch::Dispatch;
use chainrule::job::{Job, JobId, JobState};
use chainrule::store::{Cancelled, Claim, Deleted, Held, Resumed};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::history::{CRASHES_MAX, Event, Told};
use super::model::Answer;
use super::{NO_LIMIT, WorkerSide, checkpoint, insert, new_job};

const MODELS: [&str; 3] = ["a", "b", "c"];
const JOBS_AT_FIRST: usize = 4;
const JOBS_MAX: usize = 9;

/// The calls and their results.
#[derive(Default)]
pub(super) struct Record {
    pub models: BTreeMap<JobId, String>,
    calls: Vec<(JobId, Event)>,
    pub looks: Vec<(u64, u64, Vec<Held>)>,
}

impl Record {
    /// Returns the calls about each job. A list of jobs counts for every job.
    pub fn histories(&self) -> BTreeMap<JobId, Vec<Event>> {
        let mut histories: BTreeMap<JobId, Vec<Event>> = BTreeMap::new();
        for (id, event) in &self.calls {
            histories.entry(*id).or_default().push(*event);
        }
        for (id, history) in &mut histories {
            history.extend(self.looks.iter().map(|(begin, end, held)| {
                let held = held.iter().find(|held| held.claim.id == *id);
                let told = Told::Looked(held.map(|held| (held.claim.attempt, held.beat)));
                Event { begin: *begin, end: *end, told }
            }));
        }
        histories
    }
}

/// What the threads share: ids, claims and observed beats. All threads use them repeatedly.
#[derive(Default)]
struct Known {
    record: Record,
    ids: Vec<JobId>,
    claims: Vec<Claim>,
    seen: Vec<Held>,
}

struct Caller {
    worker: WorkerSide,
    known: Arc<Mutex<Known>>,
    clock: Arc<AtomicU64>,
    rng: ChaCha8Rng,
}

/// Makes `calls` calls from one thread per handle, and ends with a read of every job.
pub(super) async fn traffic(processes: &[Dispatch], calls: usize, seed: u64, is_fenced: bool) -> Record {
    let known: Arc<Mutex<Known>> = Arc::default();
    let clock: Arc<AtomicU64> = Arc::default();
    let callers = processes.iter().enumerate().map(|(thread, dispatch)| Caller {
        worker: WorkerSide { dispatch: dispatch.clone(), is_fenced },
        known: Arc::clone(&known),
        clock: Arc::clone(&clock),
        rng: ChaCha8Rng::seed_from_u64(seed << 8 | thread as u64),
    });
    let mut callers: Vec<Caller> = callers.collect();
    for _ in 0..JOBS_AT_FIRST {
        callers[0].insert().await;
    }
    let running = callers.into_iter().map(|mut caller| {
        tokio::spawn(async move {
            for _ in 0..calls {
                caller.call().await;
            }
            caller
        })
    });
    let mut callers: Vec<Caller> = Vec::new();
    for caller in running.collect::<Vec<_>>() {
        callers.push(caller.await.expect("a thread that ends well"));
    }
    let ids = callers[0].known().ids.clone();
    for id in ids {
        callers[0].see(id).await;
    }
    std::mem::take(&mut callers[0].known().record)
}

impl Caller {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    /// Picks one of the newest items.
    fn pick<T: Copy>(&mut self, of: impl Fn(&Known) -> &Vec<T>) -> Option<T> {
        let place = self.below(4);
        let known = self.known();
        let of = of(&known);
        (!of.is_empty()).then(|| of[of.len() - 1 - place % of.len()])
    }

    fn told(&self, id: JobId, begin: u64, told: Told) {
        let event = Event { begin, end: self.tick(), told };
        self.known().record.calls.push((id, event));
    }

    async fn call(&mut self) {
        match self.below(20) {
            0 => {
                if self.known().ids.len() < JOBS_MAX {
                    self.insert().await;
                }
            }
            1..=4 => self.claim().await,
            5 | 6 => self.look().await,
            7 | 8 => self.rescue().await,
            9..=14 => {
                let claim = self.pick(|known| &known.claims);
                if let Some(claim) = claim {
                    self.write(claim).await;
                }
            }
            choice => {
                let place = self.below(JOBS_MAX);
                let id = self.known().ids.get(place).copied();
                if let Some(id) = id {
                    self.wish(choice, id).await;
                }
            }
        }
    }

    async fn insert(&mut self) {
        let model = MODELS[self.below(MODELS.len())];
        let begin = self.tick();
        let job = insert(&self.worker.dispatch, new_job(model, "x", 0)).await;
        self.told(job.id, begin, Told::Inserted);
        let mut known = self.known();
        known.ids.push(job.id);
        known.record.models.insert(job.id, model.to_owned());
    }

    async fn claim(&mut self) {
        let begin = self.tick();
        if let Some(job) = self.worker.dispatch.claim().await.expect("rows") {
            self.told(job.id, begin, Told::Claimed { attempt: job.attempt, step: job.progress.step });
            self.known().claims.push(Claim { id: job.id, attempt: job.attempt });
        }
    }

    async fn look(&mut self) {
        let begin = self.tick();
        let held = self.worker.dispatch.store().held().await.expect("rows");
        let end = self.tick();
        let mut known = self.known();
        known.seen.extend(&held);
        known.record.looks.push((begin, end, held));
    }

    async fn rescue(&mut self) {
        let Some(held) = self.pick(|known| &known.seen) else { return };
        let begin = self.tick();
        let state = self.worker.dispatch.rescue(held, CRASHES_MAX).await.expect("rows");
        self.told(
            held.claim.id,
            begin,
            Told::Rescued { attempt: held.claim.attempt, beat: held.beat, state },
        );
    }

    async fn write(&mut self, claim: Claim) {
        let (choice, attempt) = (self.below(10), claim.attempt);
        let model = self.known().record.models.get(&claim.id).cloned();
        let begin = self.tick();
        // The values of all writes differ.
        let step = begin + 1;
        let told = match choice {
            0..=2 => {
                let is_taken = self.worker.renew(claim, step).await;
                Told::Recorded { attempt, step, has_checkpoint: false, is_taken }
            }
            3 | 4 => {
                let checkpoint = checkpoint(step, format!("jobs/{}/{step}", claim.id));
                let is_taken = self.worker.record(claim, step, vec![checkpoint]).await;
                Told::Recorded { attempt, step, has_checkpoint: true, is_taken }
            }
            5 | 6 => {
                let is_taken = self.worker.release(claim).await;
                Told::Left { attempt, state: JobState::Queued, is_taken }
            }
            7 => {
                let is_taken = self.worker.fail(claim).await;
                Told::Left { attempt, state: JobState::Failed, is_taken }
            }
            8 => Told::Held { attempt, is_held: self.worker.is_held(claim).await },
            _ => {
                // Another thread may know the claim before this thread has the result of the insertion.
                let Some(model) = model else { return };
                Told::Succeeded { attempt, step, version: self.worker.succeed(claim, &model, step).await }
            }
        };
        self.told(claim.id, begin, told);
    }

    /// Makes a request of a client.
    async fn wish(&mut self, choice: usize, id: JobId) {
        let state = |job: Job| Some(job.state);
        let dispatch = self.worker.dispatch.clone();
        let begin = self.tick();
        let told = match choice {
            15 => match dispatch.cancel(id).await.expect("rows") {
                Cancelled::Accepted(job) => Told::Cancelled(Answer::Done, state(job)),
                Cancelled::Ended(job) => Told::Cancelled(Answer::NotThen, state(job)),
                Cancelled::Unknown => Told::Cancelled(Answer::Unknown, None),
            },
            16 | 17 => match dispatch.resume(id, NO_LIMIT).await.expect("rows") {
                Resumed::Accepted(job) => Told::Resumed(Answer::Done, state(job)),
                Resumed::NotStopped(job) => Told::Resumed(Answer::NotThen, state(job)),
                Resumed::QueueFull => Told::Resumed(Answer::QueueFull, None),
                Resumed::Unknown => Told::Resumed(Answer::Unknown, None),
                Resumed::InitialModelGone => panic!("no job here starts from a model"),
            },
            18 if self.below(3) == 0 => match dispatch.delete_job(id).await.expect("rows") {
                Deleted::Gone(_) => Told::Deleted(Answer::Done, None),
                Deleted::NotEnded(state) => Told::Deleted(Answer::NotThen, Some(state)),
                Deleted::Unknown => Told::Deleted(Answer::Unknown, None),
            },
            _ => return self.see(id).await,
        };
        self.told(id, begin, told);
    }

    async fn see(&self, id: JobId) {
        let begin = self.tick();
        let job = self.worker.dispatch.job(id).await.expect("rows");
        self.told(id, begin, Told::Seen(job.map(|job| (job.state, job.attempt, job.progress.step))));
    }
}
