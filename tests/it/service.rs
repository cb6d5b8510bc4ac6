//! Operations without HTTP. The promises hold for every adapter.

use std::future::Future;
use std::net::Ipv4Addr;

use chainrule::admission::Peer;
use chainrule::api;
use chainrule::job::{JobId, JobState};
use chainrule::model::{ModelRef, Selector};
use chainrule::service::{Caller, OperationError, Service, UnreadImages, Wanted};
use futures_util::poll;
use ndarray::Array2;
use serde_json::json;

use crate::server::{TestServer, quick};

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
