//! Clients take turns, whatever the order of their requests.

use std::collections::HashMap;

use chainrule::dispatch::Dispatch;
use chainrule::job::JobId;
use chainrule::store::Claim;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use tokio::runtime::Runtime;

use super::{DATABASES, MakeRows, config, failure, insert, new_job};

const SEED: u64 = 1_996;
const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Submit {
        client: usize,
    },
    /// A worker claims a job and ends it.
    Serve,
}

/// A queue of jobs with distinct models, and how many claims each job has waited for.
struct Service {
    dispatch: Dispatch,
    submitted: usize,
    claims: usize,
    /// The client of each job, and the number of the claim that must have returned the job at the latest.
    due: HashMap<JobId, (usize, usize)>,
}

impl Service {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Submit { client } => {
                self.submitted += 1;
                let job = new_job(&format!("m{}", self.submitted), &format!("client {client}"), 0);
                let id = insert(&self.dispatch, job).await.id;
                let before = self.due.values().filter(|(of, _)| *of == client).count();
                self.due.insert(id, (client, self.claims + CLIENTS * (before + 1) + CLIENTS));
                Ok(())
            }
            Step::Serve => {
                let Some(job) = self.dispatch.claim().await.expect("rows") else {
                    return if self.due.is_empty() { Ok(()) } else { Err("nothing was given".to_owned()) };
                };
                self.claims += 1;
                let claim = Claim { id: job.id, attempt: job.attempt };
                self.dispatch.fail(claim, &failure()).await.expect("rows");
                self.due.remove(&job.id);
                let late = self.due.values().find(|(_, due)| *due <= self.claims);
                late.map_or(Ok(()), |(client, due)| {
                    Err(format!("client {client} still waits after claim {due}"))
                })
            }
        }
    }
}

async fn serve(make_rows: MakeRows, steps: &[Step]) -> Result<(), String> {
    let rows = make_rows();
    let dispatch = rows.open().await;
    let mut service = Service { dispatch, submitted: 0, claims: 0, due: HashMap::new() };
    let mut served = Ok(());
    for step in steps {
        served = served.and(service.step(step).await);
    }
    while served.is_ok() && !service.due.is_empty() {
        served = service.step(&Step::Serve).await;
    }
    service.dispatch.close().await;
    served
}

#[test]
fn the_kth_job_of_a_client_waits_for_no_more_than_k_of_every_other_and_one() {
    let step = prop_oneof![(0..CLIENTS).prop_map(|client| Step::Submit { client }), Just(Step::Serve)];
    let steps = prop::collection::vec(step, 1..80);
    let runtime = Runtime::new().expect("a runtime");
    for make_rows in DATABASES {
        let ran = TestRunner::new(config(24, SEED))
            .run(&steps, |steps| runtime.block_on(serve(make_rows, &steps)).map_err(TestCaseError::fail));
        match ran {
            Ok(()) => {}
            Err(TestError::Fail(why, steps)) => panic!("seed {SEED}: {why}\n{steps:?}"),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

#[tokio::test]
async fn a_client_with_few_jobs_does_not_wait_for_all_jobs_of_another() {
    let mut steps = vec![Step::Submit { client: 0 }; 60];
    steps.extend(vec![Step::Submit { client: 1 }; 6]);
    for make_rows in DATABASES {
        assert_eq!(serve(make_rows, &steps).await, Ok(()));
    }
}

/// Two clients send a new job each time their last job has ended, so one of them always has a job in the
/// queue.
#[tokio::test]
async fn a_client_with_two_jobs_does_not_wait_for_clients_who_keep_posting() {
    let mut steps = vec![Step::Submit { client: 0 }, Step::Submit { client: 0 }];
    steps.extend([Step::Submit { client: 1 }, Step::Submit { client: 2 }, Step::Serve]);
    for turn in 0..20 {
        steps.extend([Step::Serve, Step::Submit { client: 1 + turn % 2 }]);
    }
    for make_rows in DATABASES {
        assert_eq!(serve(make_rows, &steps).await, Ok(()));
    }
}
