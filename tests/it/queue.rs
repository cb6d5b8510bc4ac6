//! The order in which jobs run.

use serde_json::{Value, json};

use crate::server::{TestServer, endless, problem};

/// A job of a few milliseconds.
fn short(model: &str) -> Value {
    json!({ "model": model, "epochs": 1, "train_samples": 200, "network": { "layers": [{ "type": "dense", "units": 10 }] } })
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

/// Returns the ids of all jobs except `first`, in the order in which they started.
async fn order_of_start(server: &TestServer, first: &str) -> Vec<String> {
    let jobs = server.get_json("/v1/jobs?limit=200").await;
    let mut started: Vec<(String, String)> = jobs["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .filter(|job| job["id"] != first)
        .map(|job| (job["started_at"].as_str().expect("a time").to_owned(), id(job)))
        .collect();
    started.sort();
    started.into_iter().map(|(_, id)| id).collect()
}

/// Starts a server whose only worker is busy. Also returns the id of that job.
async fn busy() -> (TestServer, String) {
    let server = TestServer::start(&[]).await;
    let running = id(&server.create(endless()).await);
    server.stepped(&running).await;
    (server, running)
}

async fn let_all_run(server: &TestServer, running: &str, waiting: &[String]) {
    server.post(&format!("/v1/jobs/{running}/cancel"), "", "").await;
    for id in waiting {
        assert_eq!(server.ended(id).await["state"], "succeeded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_turns_however_many_jobs_each_posts() {
    let (server, running) = busy().await;
    let mut crowd = Vec::new();
    for index in 0..8 {
        crowd.push(id(&server.create_from([127, 0, 0, 2], short(&format!("crowd-{index}"))).await));
    }
    let mut late = Vec::new();
    for index in 0..3 {
        late.push(id(&server.create_from([127, 0, 0, 3], short(&format!("late-{index}"))).await));
    }
    let_all_run(&server, &running, &[crowd.clone(), late.clone()].concat()).await;
    let order = order_of_start(&server, &running).await;
    let places: Vec<usize> =
        late.iter().map(|id| order.iter().position(|other| other == id).expect("it ran")).collect();
    assert_eq!(places, [1, 3, 5], "{order:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_priority_goes_first_and_is_shown_in_the_spec() {
    let (server, running) = busy().await;
    let mut ids = Vec::new();
    for (model, priority) in [("a", 0), ("b", -5), ("c", 100), ("d", 0)] {
        let mut request = short(model);
        request["priority"] = json!(priority);
        let job = server.create(request).await;
        assert_eq!(job["spec"]["priority"], priority);
        ids.push(id(&job));
    }
    let_all_run(&server, &running, &ids).await;
    let expected: Vec<String> = [2, 0, 3, 1].iter().map(|&index: &usize| ids[index].clone()).collect();
    assert_eq!(order_of_start(&server, &running).await, expected);
    let fault = server.post("/v1/jobs", "application/json", r#"{"priority": 101}"#).await;
    let fault = problem(fault, 422, "invalid_request").await;
    assert_eq!(fault["errors"][0]["pointer"], "/priority", "{fault}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_model_come_in_the_order_of_submission_at_any_number_of_workers() {
    let server = TestServer::start(&["--workers", "3", "--threads", "1"]).await;
    let mut ids = Vec::new();
    for (seed, priority) in [(1, 0), (2, 50), (3, 0), (4, -50), (5, 100), (6, 0)] {
        let mut request = short("digits");
        request["seed"] = json!(seed);
        request["priority"] = json!(priority);
        ids.push(id(&server.create(request).await));
    }
    for (index, id) in ids.iter().enumerate() {
        let job = server.ended(id).await;
        assert_eq!(job["result"]["version"], index + 1, "{job}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_lets_the_next_of_its_model_run() {
    let (server, running) = busy().await;
    let middle = id(&server.create(short("digits")).await);
    let last = id(&server.create(short("digits")).await);
    for id in [&middle, &running] {
        server.post(&format!("/v1/jobs/{id}/cancel"), "", "").await;
    }
    assert_eq!(server.ended(&last).await["state"], "succeeded");
    server.stop().await;
}
