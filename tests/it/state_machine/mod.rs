//! Compares the queue with a model of it. Calls come in any order and from any number of threads. Their
//! results must be the results of one queue that handles one call after the other.

mod controls;
mod fairness;
mod history;
mod model;
mod plan;
mod sequential;
mod threads;
mod traffic;

use std::path::Path;
use std::sync::LazyLock;

use chainrule::blobs::Blob;
use chainrule::data;
use chainrule::dispatch::Dispatch;
use chainrule::job::{Job, JobError, JobId, Progress};
use chainrule::store::{Claim, Inserted, NewCheckpoint, NewJob, NewModel, Recorded, Store, StoreError};
use chainrule::train::{Evaluation, SpecLimits, TrainSpec, parse};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use serde_json::json;
use tempfile::TempDir;

/// The evaluation of every model.
const TEST: Evaluation = Evaluation { loss: 1.0, accuracy: 0.5 };

/// More jobs than any test creates.
const NO_LIMIT: u32 = 1_000_000;

static SPEC: LazyLock<TrainSpec> = LazyLock::new(|| {
    let small = json!({ "epochs": 1, "network": { "layers": [{ "type": "dense", "units": 10 }] } });
    parse(&small, &data::shapes(), &SpecLimits::default()).expect("a spec")
});

/// Rows that only one test uses, in one of the supported databases.
enum Rows {
    Sqlite(TempDir),
}

/// Makes [`Rows`] without a job.
type MakeRows = fn() -> Rows;

/// Every database that the tests run on.
const DATABASES: [MakeRows; 1] = [Rows::sqlite];

impl Rows {
    /// Creates the rows in memory if the system has a folder there, because these tests are about order and
    /// not about the disk.
    fn sqlite() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self::Sqlite(folder.expect("a folder"))
    }

    /// Opens a store on these rows, as a separate process would.
    async fn open(&self) -> Dispatch {
        let Self::Sqlite(folder) = self;
        Dispatch::new(Store::open(&folder.path().join("chainrule.db")).await.expect("a store"))
    }
}

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::with_cases(cases)
    }
}

fn new_job(model: &str, client: &str, priority: i32) -> NewJob {
    NewJob {
        spec: TrainSpec { model: model.to_owned(), priority, ..SPEC.clone() },
        progress: Progress::default(),
        owner: client.to_owned(),
        idempotency_key: None,
        request_sha256: String::new(),
    }
}

async fn insert(dispatch: &Dispatch, job: NewJob) -> Job {
    match dispatch.insert_job(job, NO_LIMIT).await.expect("rows") {
        Inserted::Accepted(job) => job,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_starts_from_a_version_that_is_there_or_is_not_accepted() {
    for make_rows in DATABASES {
        let rows = make_rows();
        let dispatch = rows.open().await;
        let mut job = new_job("b", "x", 0);
        job.spec.initial_model = Some("a@1".to_owned());
        let gone = dispatch.insert_job(job.clone(), NO_LIMIT).await.expect("rows");
        assert_eq!(gone, Inserted::InitialModelGone);
        job.idempotency_key = Some("key".to_owned());
        assert_eq!(dispatch.insert_job(job, NO_LIMIT).await.expect("rows"), Inserted::InitialModelGone);
        insert(&dispatch, new_job("b", "x", 0)).await;
        dispatch.close().await;
    }
}

#[tokio::test]
async fn a_model_is_published_under_the_version_of_its_bytes_or_not_at_all() {
    for make_rows in DATABASES {
        let rows = make_rows();
        let dispatch = rows.open().await;
        insert(&dispatch, new_job("a", "x", 0)).await;
        let job = dispatch.claim().await.expect("rows").expect("a job");
        let claim = Claim { id: job.id, attempt: job.attempt };
        assert_eq!(dispatch.store().next_version("a").await.expect("rows"), 1);
        let other =
            dispatch.succeed(claim, &new_model("a", 2, job.id), TEST, &at_step(1)).await.expect("rows");
        assert_eq!(other, None);
        assert!(dispatch.store().is_held(claim).await.expect("rows"), "the job has not ended");
        let published =
            dispatch.succeed(claim, &new_model("a", 1, job.id), TEST, &at_step(1)).await.expect("rows");
        let published = published.expect("a version");
        assert_eq!(
            (published.row.version, published.row.job_id, published.owner.as_str()),
            (1, Some(job.id), "x")
        );
        assert_eq!(dispatch.store().next_version("a").await.expect("rows"), 2);
        dispatch.close().await;
    }
}

/// Inserts that arrive together share one statement.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_come_together_keep_their_keys_and_the_limit() {
    for make_rows in DATABASES {
        let rows = make_rows();
        let dispatch = rows.open().await;
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..300 {
            let dispatch = dispatch.clone();
            let idempotency_key = Some(format!("key {}", number % 50));
            let client = ["x", "y"][number % 2];
            let job = NewJob { idempotency_key, ..new_job("a", client, 0) };
            waiting.spawn(async move { dispatch.insert_job(job, 40).await.expect("rows") });
        }
        let (mut accepted, mut repeated, mut full) = (0, 0, 0);
        while let Some(inserted) = waiting.join_next().await {
            match inserted.expect("no panic") {
                Inserted::Accepted(_) => accepted += 1,
                Inserted::Repeated(_) => repeated += 1,
                Inserted::QueueFull => full += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((accepted, repeated + full), (40, 260), "{repeated} repeated, {full} refused");
        assert!(repeated > 0 && full > 0, "{repeated} repeated, {full} refused");
        dispatch.close().await;
    }
}

fn at_step(step: u64) -> Progress {
    Progress { step, ..Progress::default() }
}

fn checkpoint(step: u64, key: String) -> NewCheckpoint {
    let blob = Blob { key, size_bytes: 1, sha256: String::new() };
    NewCheckpoint { epoch: 1, step, validation_accuracy: None, blob }
}

fn failure() -> JobError {
    JobError { code: "diverged".to_owned(), detail: "as the test wants it".to_owned() }
}

/// The calls of workers, with any claim that they once got.
struct WorkerSide {
    dispatch: Dispatch,
    /// If false, every write carries the attempt that the row has now. This is the known-bad twin of a queue
    /// with fencing.
    is_fenced: bool,
}

impl WorkerSide {
    async fn current(&self, claim: Claim) -> Claim {
        if self.is_fenced {
            return claim;
        }
        let job = self.dispatch.job(claim.id).await.expect("rows");
        job.map_or(claim, |job| Claim { attempt: job.attempt, ..claim })
    }

    async fn renew(&self, claim: Claim, step: u64) -> bool {
        is_taken(self.dispatch.store().renew(self.current(claim).await, &at_step(step)).await)
    }

    async fn record(&self, claim: Claim, step: u64, checkpoints: Vec<NewCheckpoint>) -> bool {
        let recorded = Recorded { checkpoints, progress: at_step(step), ..Recorded::default() };
        is_taken(self.dispatch.record(self.current(claim).await, &recorded).await)
    }

    async fn release(&self, claim: Claim) -> bool {
        is_taken(self.dispatch.release(self.current(claim).await).await)
    }

    async fn fail(&self, claim: Claim) -> bool {
        is_taken(self.dispatch.fail(self.current(claim).await, &failure()).await)
    }

    /// Returns the published version.
    async fn succeed(&self, claim: Claim, model: &str, step: u64) -> Option<u32> {
        let version = self.dispatch.store().next_version(model).await.expect("rows");
        let model = new_model(model, version, claim.id);
        let published = self.dispatch.succeed(self.current(claim).await, &model, TEST, &at_step(step)).await;
        let version = published.as_ref().ok().map(|published| {
            // Jobs of one model run one after the other.
            published.as_ref().expect("the version is still free").row.version
        });
        is_taken(published.map(|_| ())).then_some(version).flatten()
    }

    async fn is_held(&self, claim: Claim) -> bool {
        self.dispatch.store().is_held(self.current(claim).await).await.expect("rows")
    }
}

fn new_model(name: &str, version: u32, job: JobId) -> NewModel {
    NewModel {
        name: name.to_owned(),
        version,
        parameters: 1,
        layers: SPEC.network.layers.clone(),
        classes: Vec::new(),
        blob: Blob { key: format!("models/{name}/{version}-{job}"), size_bytes: 1, sha256: String::new() },
    }
}

/// Returns whether a worker's write was accepted. Only fencing may refuse it.
fn is_taken(written: Result<(), StoreError>) -> bool {
    match written {
        Ok(()) => true,
        Err(StoreError::Fenced { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}
