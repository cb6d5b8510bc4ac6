//! The life of a job over HTTP.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{TestServer, endless, problem, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_accepted_trained_and_its_model_published() {
    let server = TestServer::start(&[]).await;
    let response = server.post("/v1/jobs", "application/json", quick().to_string()).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let accepted: Value = response.json().await.expect("a job");
    assert_eq!(location, format!("/v1/jobs/{}", accepted["id"].as_str().expect("an id")));
    assert_eq!(
        (&accepted["state"], &accepted["metrics"], &accepted["result"]),
        (&json!("queued"), &Value::Null, &Value::Null)
    );

    let job = server.ended(accepted["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded");
    assert_eq!((&job["attempt"], &job["progress"]["fraction"]), (&json!(1), &json!(1.0)));
    assert_eq!((&job["result"]["model"], &job["result"]["version"]), (&json!("digits"), &json!(1)));
    assert_eq!(job["metrics"]["test_accuracy"], job["result"]["test_accuracy"]);
    assert!(job["result"]["test_accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.7), "{job}");
    let times = ["created_at", "started_at", "finished_at"].map(|name| {
        job[name].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).expect("a time")
    });
    assert!(times.is_sorted(), "{times:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_holds_every_default_and_repeats_the_job_when_posted() {
    let server = TestServer::start(&["--threads", "1"]).await;
    let first = server.create(quick()).await;
    for field in [
        "model",
        "dataset",
        "network",
        "loss",
        "optimizer",
        "schedule",
        "epochs",
        "batch_size",
        "seed",
        "validation_fraction",
        "train_samples",
        "augment",
        "label_smoothing",
        "gradient_clip_norm",
        "ema_decay",
        "target_accuracy",
        "early_stopping",
        "checkpoint",
        "initial_model",
    ] {
        assert!(first["spec"].get(field).is_some(), "{field}");
    }
    let second = server.create(first["spec"].clone()).await;
    assert_eq!(first["spec"], second["spec"]);
    let first = server.ended(first["id"].as_str().expect("an id")).await;
    let second = server.ended(second["id"].as_str().expect("an id")).await;
    assert_eq!(first["result"]["test_loss"], second["result"]["test_loss"]);
    let models = server.get_json("/v1/models/digits").await;
    assert_eq!(models["versions"][0]["sha256"], models["versions"][1]["sha256"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_returned_as_json_and_as_csv() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    let path = format!("/v1/jobs/{}/metrics", job["id"].as_str().expect("an id"));
    let metrics = server.get_json(&path).await;
    let epochs = metrics["epochs"].as_array().expect("epochs");
    assert_eq!(epochs.len(), 2);
    for field in [
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "images_per_second",
        "duration_seconds",
    ] {
        assert!(epochs[1][field].is_number(), "{field}");
    }
    let layers = epochs[1]["layers"].as_array().expect("layers");
    assert_eq!(
        layers.iter().map(|layer| &layer["layer"]).collect::<Vec<_>>(),
        ["0.dense", "1.relu", "2.dense"]
    );
    assert!(layers[0]["gradient_norm"].as_f64().is_some_and(|norm| norm > 0.0));
    assert!(layers[0]["update_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0 && ratio < 1.0));
    assert!(layers[1]["dead_fraction"].is_number());
    let steps = metrics["steps"].as_array().expect("steps");
    assert_eq!(steps.len() as u64, job["progress"]["steps"].as_u64().expect("a number"));
    assert!(steps.iter().all(|step| step["loss"].is_number() && step["learning_rate"].is_number()));

    let request = server.http.get(server.path(&path)).header("Accept", "text/csv");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let csv = response.text().await.expect("text");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("epoch,train_loss,train_accuracy,"));
    assert!(lines[2].starts_with("2,") && lines[2].split(',').count() == lines[0].split(',').count());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_newest_first_filtered_and_paged() {
    let server = TestServer::start(&[]).await;
    server.create(endless()).await;
    let mut ids = Vec::new();
    for model in ["a", "b", "a"] {
        ids.push(server.create(json!({ "model": model })).await["id"].clone());
    }
    let all = server.get_json("/v1/jobs?limit=2").await;
    assert_eq!(
        all["jobs"].as_array().expect("jobs").iter().map(|job| &job["id"]).collect::<Vec<_>>(),
        [&ids[2], &ids[1]]
    );
    let next = all["next_cursor"].as_str().expect("a cursor");
    let rest = server.get_json(&format!("/v1/jobs?limit=2&cursor={next}")).await;
    assert_eq!((&rest["jobs"][0]["id"], &rest["next_cursor"]), (&ids[0], &Value::Null));
    let of_a = server.get_json("/v1/jobs?model=a&state=queued").await;
    assert_eq!(of_a["jobs"].as_array().expect("jobs").len(), 2);
    problem(server.get("/v1/jobs?limit=0").await, 422, "invalid_query").await;
    problem(server.get("/v1/jobs?limit=201").await, 422, "invalid_query").await;
    problem(server.get("/v1/jobs?state=asleep").await, 422, "invalid_query").await;
    problem(server.get("/v1/jobs?cursor=x").await, 422, "invalid_query").await;
    problem(server.get("/v1/jobs?colour=red").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_returns_the_same_job_and_refuses_another_body_even_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let send = async |server: &TestServer, body: Value| {
        let request =
            server.http.post(server.path("/v1/jobs")).header("Idempotency-Key", "lesson 1").json(&body);
        request.send().await.expect("an answer")
    };
    let first: Value = send(&server, quick()).await.json().await.expect("a job");
    server.ended(first["id"].as_str().expect("an id")).await;
    server.stop().await;

    let server = TestServer::start_in(folder.path(), &[]).await;
    let again = send(&server, json!({ "epochs": 2, "train_samples": 2_000 })).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.json::<Value>().await.expect("a job")["id"], first["id"]);
    problem(send(&server, json!({ "epochs": 3 })).await, 422, "idempotency_key_reused").await;
    assert_eq!(server.get_json("/v1/jobs").await["jobs"].as_array().expect("jobs").len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_of_another_client_is_another_key() {
    let server = TestServer::start(&[]).await;
    let send = async |client: &Client, body: Value| -> Value {
        let request = client.post(server.path("/v1/jobs")).header("Idempotency-Key", "lesson 1").json(&body);
        request.send().await.expect("an answer").json().await.expect("JSON")
    };
    let other = server.client_at([127, 0, 0, 9]);
    let first = send(&server.http, quick()).await;
    let second = send(&other, json!({ "epochs": 3, "train_samples": 2_000 })).await;
    assert_ne!(first["id"], second["id"], "{second}");
    assert_eq!(send(&server.http, quick()).await["id"], first["id"]);
    assert_eq!(send(&other, json!({ "epochs": 3, "train_samples": 2_000 })).await["id"], second["id"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_students_get_two_hundred_jobs() {
    let server = TestServer::start(&[]).await;
    server.create(endless()).await;
    let requests = (0..200).map(|seed| server.create(json!({ "seed": seed })));
    let jobs = futures_util::future::join_all(requests).await;
    let mut ids: Vec<&str> = jobs.iter().filter_map(|job| job["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_is_cancelled_at_once_and_a_running_one_at_its_next_step() {
    let server = TestServer::start(&[]).await;
    let running = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    server.stepped(&running).await;
    let queued = server.create(quick()).await["id"].as_str().expect("an id").to_owned();
    for id in [&queued, &running] {
        let response = server.post(&format!("/v1/jobs/{id}/cancel"), "application/json", "").await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
    }
    for id in [&queued, &running] {
        let job = server.ended(id).await;
        assert_eq!((&job["state"], &job["result"]), (&json!("cancelled"), &Value::Null));
        assert!(job["finished_at"].is_string());
        let again = server.post(&format!("/v1/jobs/{id}/cancel"), "application/json", "").await;
        problem(again, 409, "job_ended").await;
    }
    let next = server.with_model().await;
    assert_eq!(next["state"], "succeeded");
    server.stop().await;
}

/// Returns events as (id, kind, data).
fn events(text: &str) -> Vec<(String, String, Value)> {
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches([':', ' ']).to_owned())
    };
    let event = |event| {
        let data = field(event, "data")?;
        Some((field(event, "id")?, field(event, "event")?, serde_json::from_str(&data).expect("JSON")))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_report_every_change_and_resume_after_any_of_them() {
    let server = TestServer::start(&[]).await;
    let job = server.create(quick()).await;
    let path = format!("/v1/jobs/{}/events", job["id"].as_str().expect("an id"));
    let response = server.get(&path).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let live = events(&response.text().await.expect("the stream closes after end"));
    let kinds: Vec<&str> =
        live.iter().map(|(_, kind, _)| kind.as_str()).filter(|kind| *kind != "progress").collect();
    assert_eq!(kinds, ["state", "state", "epoch", "epoch", "state", "end"]);
    assert_eq!(live.last().map(|(_, _, job)| job["state"].clone()), Some(json!("succeeded")));
    let states: Vec<&Value> =
        live.iter().filter(|(_, kind, _)| kind == "state").map(|(_, _, data)| &data["state"]).collect();
    assert_eq!(states, ["queued", "running", "succeeded"]);

    let lasting = |events: &[(String, String, Value)]| -> Vec<(String, Value)> {
        let lasting = events.iter().filter(|(_, kind, _)| kind != "progress");
        lasting.map(|(_, kind, data)| (kind.clone(), data.clone())).collect()
    };
    for (index, (id, ..)) in live.iter().enumerate() {
        let request = server.http.get(server.path(&path)).header("Last-Event-ID", id);
        let rest = events(&request.send().await.expect("an answer").text().await.expect("a stream"));
        assert_eq!(lasting(&rest), lasting(&live[index + 1..]), "behind {id}");
    }
    let (end, ..) = live.last().expect("events");
    let request = server.http.get(server.path(&path)).header("Last-Event-ID", end);
    assert_eq!(request.send().await.expect("an answer").status(), 204, "nothing comes after the end");
    let request = server.http.get(server.path(&path)).header("Last-Event-ID", "what");
    problem(request.send().await.expect("an answer"), 400, "invalid_last_event_id").await;

    let (second, ..) = &live[1];
    let rest =
        events(&server.get(&format!("{path}?lastEventId={second}")).await.text().await.expect("a stream"));
    assert_eq!(lasting(&rest), lasting(&live[2..]), "behind {second} of the query");
    let with_both = server.http.get(server.path(&format!("{path}?lastEventId={second}")));
    let with_both = with_both.header("Last-Event-ID", end).send().await.expect("an answer");
    assert_eq!(with_both.status(), 204, "the header takes precedence");
    problem(server.get(&format!("{path}?lastEventId=what")).await, 400, "invalid_last_event_id").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_its_time_or_with_the_job() {
    let server = TestServer::start(&[]).await;
    let id = server.create(endless()).await["id"].as_str().expect("an id").to_owned();
    let job = server.get_json(&format!("/v1/jobs/{id}?wait_seconds=0.05")).await;
    assert!(matches!(job["state"].as_str(), Some("queued" | "running")));
    let (waited, cancelled) = (format!("/v1/jobs/{id}?wait_seconds=60"), format!("/v1/jobs/{id}/cancel"));
    let wait = server.get_json(&waited);
    let cancel = server.post(&cancelled, "application/json", "");
    let (job, _) = tokio::join!(wait, cancel);
    assert_eq!(job["state"], "cancelled");
    problem(server.get(&format!("/v1/jobs/{id}?wait_seconds=61")).await, 422, "invalid_query").await;
    problem(server.get(&format!("/v1/jobs/{id}?wait_seconds=-1")).await, 422, "invalid_query").await;
    problem(server.get(&format!("/v1/jobs/{id}?wait_seconds=NaN")).await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_diverges_fails_and_says_what_to_try() {
    let server = TestServer::start(&[]).await;
    let request = json!({
        "optimizer": { "type": "sgd", "learning_rate": 1e6 }, "schedule": { "type": "constant" }, "train_samples": 1_000,
        "network": { "layers": [{ "type": "dense", "units": 32 }, { "type": "relu" }, { "type": "dense", "units": 32 },
            { "type": "relu" }, { "type": "dense", "units": 10 }] },
    });
    let job = server.create(request).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!(
        (&job["state"], &job["error"]["code"], &job["result"]),
        (&json!("failed"), &json!("diverged"), &Value::Null)
    );
    assert!(
        job["error"]["detail"].as_str().is_some_and(|detail| detail.contains("lower learning rate")),
        "{job}"
    );

    let ruined_by_its_last_step = json!({
        "optimizer": { "type": "sgd", "learning_rate": 1e6, "weight_decay": 1e6 }, "schedule": { "type": "constant" },
        "epochs": 1, "train_samples": 100, "batch_size": 100, "validation_fraction": 0,
        "network": { "layers": [{ "type": "dense", "units": 16 }, { "type": "relu" }, { "type": "dense", "units": 16 },
            { "type": "relu" }, { "type": "dense", "units": 16 }, { "type": "relu" }, { "type": "dense", "units": 10 }] },
    });
    let job = server.create(ruined_by_its_last_step).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("diverged")), "{job}");
    assert_eq!(server.get_json("/v1/jobs").await["jobs"].as_array().map(Vec::len), Some(2));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_presets_are_listed_with_their_recipes() {
    let server = TestServer::start(&[]).await;
    let networks = server.get_json("/v1/networks").await;
    let names: Vec<&Value> =
        networks["networks"].as_array().expect("a list").iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["lesson", "mlp", "cnn-fast", "cnn", "cnn-best"]);
    assert_eq!(networks["networks"][0]["spec"]["optimizer"]["type"], "sgd");
    server.stop().await;
}
