use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Lease;
use crate::data;
use crate::dispatch::Dispatch;
use crate::job::Progress;
use crate::store::{Claim, NewJob, Store};
use crate::train::{SpecLimits, parse};

/// Far longer than any step of these tests takes.
const SOON: Duration = Duration::from_secs(30);

/// Claims a job and returns the claim. The lease of a job that is not held would end by itself.
async fn claimed(dispatch: &Dispatch) -> Claim {
    let spec = parse(&serde_json::json!({}), &data::shapes(), &SpecLimits::default()).expect("a spec");
    let (owner, progress) = ("x".to_owned(), Progress::default());
    let job = NewJob { spec, progress, owner, idempotency_key: None, request_sha256: String::new() };
    dispatch.insert_job(job, 1).await.expect("rows");
    let job = dispatch.claim().await.expect("rows").expect("a job");
    Claim { id: job.id, attempt: job.attempt }
}

/// While this process publishes the progress of a job, it does not rescue the job. So if the
/// progress of a dead worker's job stayed published, the job would never run again.
#[tokio::test]
async fn nothing_is_told_of_a_job_whose_worker_has_panicked() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("a store");
    let dispatch = Dispatch::new(store);
    let claim = claimed(&dispatch).await;
    let (stop, length) = (CancellationToken::new(), Duration::from_secs(600));
    let lease = Lease::start(dispatch.clone(), claim, Progress::default(), length, &stop, &Handle::current());
    let until = async |told: bool| {
        while dispatch.is_told(claim) != told {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, until(true)).await.expect("it tells how far the job is");
    let worker = move || {
        let _lease = lease;
        panic!("outside the training");
    };
    assert!(catch_unwind(AssertUnwindSafe(worker)).is_err());
    tokio::time::timeout(SOON, until(false)).await.expect("it is forgotten");
}
