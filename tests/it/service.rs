//! Operations without HTTP. The promises hold for every adapter.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use chainrule::admission::Peer;
use chainrule::api;
use chainrule::job::{JobId, JobState};
use chainrule::model::{ModelRef, Selector};
use chainrule::service::{
    Caller, EventId, IdempotencyKey, JobEvent, OperationError, Service, UnreadImages, Wanted,
};
use futures_util::poll;
use ndarray::Array2;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio_util::sync::CancellationToken;

use crate::server::{TestServer, endless, quick};

/// Starts an operation and drops it at its first await.
async fn begun<T>(operation: impl Future<Output = T>) {
    let mut operation = Box::pin(operation);
    assert!(poll!(&mut operation).is_pending(), "it was over at once, and nothing was dropped");
}

/// Waits until the started operations have ended.
async fn carried(server: &TestServer) {
    let tasks = server.app().tasks();
    tasks.close();
    tasks.wait().await;
    tasks.reopen();
}

fn caller() -> Caller {
    Caller::client(Peer::new(Ipv4Addr::LOCALHOST.into()))
}

/// Images as an adapter of any protocol passes them.
struct Given(Array2<f32>);

impl UnreadImages for Given {
    type Error = OperationError;

    fn images_max(&self) -> usize {
        self.0.nrows()
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }

    fn parsed_bytes(&self, _: usize) -> usize {
        0
    }

    fn read(self, _: usize) -> Result<Array2<f32>, OperationError> {
        Ok(self.0)
    }
}

/// Returns the version that an alias of `digits` refers to.
fn served(service: &Service, alias: &str) -> Option<u32> {
    let selector = Selector::Alias(alias.to_owned());
    let page = service.model(&caller(), &ModelRef { name: "digits".to_owned(), selector }, None, 1);
    page.ok().map(|(model, _)| model.versions[0].version)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_change_is_completed_although_nobody_waits_for_it() {
    let server = TestServer::start(&[]).await;
    let job: JobId = server.with_model().await["id"].as_str().expect("an id").parse().expect("an id");
    server.with_model().await;
    let (service, caller) = (server.app().service().clone(), caller());

    begun(service.set_alias(&caller, "digits", "champion", 1)).await;
    carried(&server).await;
    assert_eq!(served(&service, "champion"), Some(1));

    begun(service.delete_alias(&caller, "digits", "champion")).await;
    carried(&server).await;
    assert_eq!(served(&service, "champion"), None);

    begun(service.delete_version(&caller, "digits", 1)).await;
    carried(&server).await;
    assert_eq!(server.get("/v1/models/digits@1").await.status(), 404);

    begun(service.delete_job(&caller, job)).await;
    carried(&server).await;
    assert!(matches!(service.job(&caller, job).await, Err(OperationError::UnknownJob(_))));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_was_never_polled_changes_nothing() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let service = server.app().service().clone();
    let caller = caller();
    drop(service.set_alias(&caller, "digits", "champion", 1));
    carried(&server).await;
    assert_eq!(served(&service, "champion"), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_caller_is_dropped_after_the_change_that_it_left_running() {
    let server = TestServer::start(&["--workers", "1"]).await;
    let job = server.create(json!({ "epochs": 10_000, "train_samples": 2_000 })).await;
    let id: JobId = job["id"].as_str().expect("an id").parse().expect("an id");
    let held = std::sync::Arc::new(());
    let caller = caller().holding(held.clone());
    begun(server.app().service().cancel_job(&caller, id)).await;
    drop(caller);
    carried(&server).await;
    assert_eq!(std::sync::Arc::strong_count(&held), 1, "nothing is held any more");
    assert_eq!(
        server.app().service().job(&self::caller(), id).await.expect("a job").state,
        JobState::Cancelled
    );
    server.create(quick()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_is_the_same_through_any_adapter_and_returns_its_charge() {
    let server = TestServer::start(&["--predict-flops-max", "1e9"]).await;
    server.with_model().await;
    let answer =
        server.post("/v1/models/digits/predict", "application/octet-stream", vec![51; 784 * 3]).await;
    let expected: api::Predictions = answer.json().await.expect("predictions");

    let (app, caller) = (server.app(), caller());
    let service = app.service();
    let digits = ModelRef { name: "digits".to_owned(), selector: Selector::Default };
    let wanted = Wanted::new(&service.loaded(&caller, &digits).await.expect("a model"));
    let images = |count| Given(Array2::from_elem((count, 784), 0.2));
    let before = app.admission().memory_bytes();
    let predicted = service.predict(&caller, &wanted, images(3), None, |predictions| predictions);
    let (predictions, charge) = predicted.await.expect("predictions");
    assert_eq!(json!(api::Predictions::from(predictions)), json!(expected));
    assert!(app.admission().memory_bytes() > before, "the answer is charged until it is taken");
    drop(charge);
    assert_eq!(app.admission().memory_bytes(), before);

    let refused = service.predict(&caller, &wanted, images(10_000), None, |_| ()).await;
    assert!(matches!(refused, Err(OperationError::PredictionTooLarge { images: 10_000, .. })));
    assert_eq!(app.admission().memory_bytes(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_that_a_model_does_not_have_are_refused_without_http() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let (service, caller) = (server.app().service(), caller());
    let digits = ModelRef { name: "digits".to_owned(), selector: Selector::Default };
    let image = || Given(Array2::from_elem((1, 784), 0.2));
    let wanted = Wanted::new(&service.loaded(&caller, &digits).await.expect("a model"));
    for (top, is_valid) in [(0, false), (1, true), (10, true), (11, false)] {
        let answer = service.predict(&caller, &wanted, image(), Some(top), |_| ()).await;
        assert_eq!(answer.is_ok(), is_valid, "{top}");
        assert!(is_valid || matches!(answer, Err(OperationError::TopOutOfRange { classes: 10 })), "{top}");
    }
    let inspected = service.inspected(&caller, &digits).await.expect("a model");
    for (class, is_valid) in [(0, true), (9, true), (10, false), (usize::MAX, false)] {
        let answer = service.explain(&caller, &inspected, image(), Some(class), false, |_, _, _| ()).await;
        assert_eq!(answer.is_ok(), is_valid, "{class}");
        assert!(is_valid || matches!(answer, Err(OperationError::ClassOutOfRange { last: 9 })), "{class}");
    }
    server.stop().await;
}

/// The database works for every statement but the read after the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_change_that_can_not_be_read_yet_is_no_failure_and_is_served_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    server.with_model().await;
    server.with_model().await;
    let (service, caller) = (server.app().service(), caller());
    let options = SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut rows = options.connect().await.expect("a connection");
    let breaks = "CREATE TRIGGER breaks AFTER UPDATE ON model_revision
                  BEGIN UPDATE model_revision SET revision = 'none'; END";
    rows.execute(breaks).await.expect("a trigger");
    let files = async || {
        let files = server.app().blobs().list().await.expect("files");
        files.iter().filter(|file| file.key.starts_with("models/")).count()
    };
    assert_eq!(files().await, 2);

    service.set_alias(&caller, "digits", "champion", 2).await.expect("it is committed");
    service.delete_version(&caller, "digits", 1).await.expect("it is committed");
    assert_eq!((served(service, "champion"), files().await), (None, 1));

    rows.execute(
        "DROP TRIGGER breaks; UPDATE models SET revision = 99; UPDATE model_revision SET revision = 99",
    )
    .await
    .expect("a sound database");
    rows.close().await.expect("closed");
    let later = async {
        while served(service, "champion").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), later).await.expect("it is served");
    assert_eq!(server.get("/v1/models/digits@1").await.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_job_is_parsed_priced_and_recognised_without_http() {
    let server = TestServer::start(&["--job-flops-max", "1e14"]).await;
    let (service, caller) = (server.app().service(), caller());
    let submit = async |request: serde_json::Value| {
        let submission = service.submission(&caller, &request);
        service.submit_job(&caller, submission, Some("first".parse().expect("a key"))).await
    };
    let expensive = submit(json!({ "network": "cnn-best", "epochs": 10_000 })).await;
    assert!(matches!(expensive, Err(OperationError::Invalid(faults)) if faults[0].detail.contains("1.0e14")));
    let first = submit(quick()).await.expect("a job");
    assert_eq!(submit(quick()).await.expect("the same job").id, first.id);
    assert!(matches!(submit(json!({ "epochs": 3 })).await, Err(OperationError::KeyReused)));
    assert!(
        ["", "tab\t", "ü", "x".repeat(256).as_str()].iter().all(|key| key.parse::<IdempotencyKey>().is_err())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_from_any_event_without_http() {
    let server = TestServer::start(&[]).await;
    let (service, caller, stop) = (server.app().service(), caller(), CancellationToken::new());
    let job = server.create(quick()).await["id"].as_str().expect("an id").parse().expect("an id");
    let follow = async |seen: EventId| service.follow(&caller, job, seen, &stop).await.expect("a job");
    let events_after = async |seen: EventId| {
        let (mut follower, mut events) = (follow(seen).await.expect("more events"), Vec::new());
        while let Some((id, event)) = follower.next().await.expect("an event") {
            assert_eq!(id.to_string().parse(), Ok(id));
            events.push((id, event));
        }
        events
    };
    let events = events_after(EventId::default()).await;
    let words = |events: &[(EventId, JobEvent)]| -> Vec<String> {
        let word = |event: &JobEvent| match event {
            JobEvent::State { state, .. } => Some(state.to_string()),
            JobEvent::Epoch(epoch) => Some(format!("epoch {}", epoch.metrics.epoch)),
            JobEvent::Progress(_) => None,
            JobEvent::End(job) => Some(format!("end {}", job.state)),
        };
        events.iter().filter_map(|(_, event)| word(event)).collect()
    };
    let expected = ["queued", "running", "epoch 1", "epoch 2", "succeeded", "end succeeded"];
    assert_eq!(words(&events), expected);
    for (index, (id, event)) in events.iter().enumerate() {
        if !matches!(event, JobEvent::End(_)) {
            assert_eq!(words(&events_after(*id).await), words(&events[index + 1..]), "after {id}");
        }
    }
    let (last, _) = events.last().expect("events");
    assert!(follow(*last).await.is_none(), "nothing comes after the end");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_stopped_has_no_more_events_and_holds_nothing() {
    let server = TestServer::start(&["--workers", "1"]).await;
    server.create(endless()).await;
    let waiting = server.create(quick()).await["id"].as_str().expect("an id").parse().expect("an id");
    let (app, stop) = (server.app(), CancellationToken::new());
    let before = app.admission().memory_bytes();
    let follower = app.service().follow(&caller(), waiting, EventId::default(), &stop).await;
    let mut follower = follower.expect("a job").expect("events");
    assert!(app.admission().memory_bytes() > before);
    let first = follower.next().await.expect("an event");
    assert!(matches!(first, Some((_, JobEvent::State { state: JobState::Queued, attempt: 0 }))));
    stop.cancel();
    assert!(follower.next().await.expect("an end").is_none());
    drop(follower);
    assert!(app.admission().memory_bytes() <= before);
    server.stop().await;
}
