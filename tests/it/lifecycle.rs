//! What clients can do with an ended job, its checkpoints and its models.

use std::path::Path;
use std::time::Duration;

use chainrule::store::{EndedPosition, Store};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::io::AsyncWriteExt;

use crate::server::{TestServer, endless, problem};

fn job(model: &str, seed: u32, epochs: u32) -> Value {
    json!({
        "model": model, "seed": seed, "epochs": epochs, "train_samples": 1_000, "checkpoint": { "every_epochs": 1, "keep": 2 },
        "network": { "layers": [{ "type": "dense", "units": 16 }, { "type": "relu" }, { "type": "dense", "units": 10 }] },
    })
}

async fn run(server: &TestServer, request: Value) -> Value {
    let created = server.create(request).await;
    let job = server.ended(created["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job
}

/// Counts the files and folders in a folder.
fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn id(job: &Value) -> &str {
    job["id"].as_str().expect("an id")
}

fn count(value: &Value, list: &str) -> usize {
    value[list].as_array().map_or(0, Vec::len)
}

async fn until(server: &TestServer, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let value = server.get_json(path).await;
        if is_so(&value) {
            return value;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_cancelled_in_the_answer_and_resumes_from_its_checkpoint_to_the_same_weights() {
    let server = TestServer::start(&[]).await;
    let request = json!({ "model": "a", "seed": 3, "epochs": 6, "network": { "layers": [{ "type": "dense", "units": 64 },
        { "type": "relu" }, { "type": "dense", "units": 10 }] } });
    let expected = run(&server, request.clone()).await;

    let resumed = server.create(request).await;
    let path = format!("/v1/jobs/{}", id(&resumed));
    server.in_epoch(id(&resumed), 3).await;
    let cancelled: Value = server.post(&format!("{path}/cancel"), "", "").await.json().await.expect("JSON");
    assert_eq!(cancelled["state"], "cancelled");
    problem(server.post(&format!("{path}/cancel"), "", "").await, 409, "job_ended").await;
    let response = server.post(&format!("{path}/resume"), "", "").await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let queued: Value = response.json().await.expect("JSON");
    assert_eq!((&queued["state"], &queued["finished_at"]), (&json!("queued"), &Value::Null));
    let job = server.ended(id(&resumed)).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(job["result"]["test_loss"], expected["result"]["test_loss"]);
    problem(server.post(&format!("{path}/resume"), "", "").await, 409, "job_not_stopped").await;
    let unknown = "/v1/jobs/01a21758-978f-772f-9300-caa228d9fc2a";
    problem(server.post(&format!("{unknown}/resume"), "", "").await, 404, "unknown_job").await;
    problem(server.delete(unknown).await, 404, "unknown_job").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_loses_its_checkpoints_and_keeps_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let job = run(&server, job("a", 1, 3)).await;
    let path = format!("/v1/jobs/{}", id(&job));

    let checkpoints = server.get_json(&format!("{path}/checkpoints")).await;
    let epochs: Vec<&Value> =
        checkpoints["checkpoints"].as_array().expect("a list").iter().map(|one| &one["epoch"]).collect();
    assert_eq!(epochs, [3, 2]);
    let response = server.get(&format!("{path}/checkpoints/2")).await;
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    let bytes = response.bytes().await.expect("bytes");
    assert_eq!(json!(chainrule::blobs::digest(&bytes)), checkpoints["checkpoints"][1]["sha256"]);
    problem(server.get(&format!("{path}/checkpoints/1")).await, 404, "unknown_checkpoint").await;
    for other in ["x", "+2", "02"] {
        problem(server.get(&format!("{path}/checkpoints/{other}")).await, 404, "unknown_checkpoint").await;
    }

    let running = server.create(endless()).await;
    problem(server.delete(&format!("/v1/jobs/{}", id(&running))).await, 409, "job_not_ended").await;
    assert_eq!(server.delete(&path).await.status(), StatusCode::NO_CONTENT);
    problem(server.get(&path).await, 404, "unknown_job").await;
    problem(server.delete(&path).await, 404, "unknown_job").await;
    let kept = folder.path().join("blobs/jobs").join(id(&job));
    let files = std::fs::read_dir(kept).map_or(0, Iterator::count);
    assert_eq!(files, 0);
    let digits = server.post("/v1/models/a/predict", "application/octet-stream", vec![0; 784]).await;
    assert_eq!(digits.status(), StatusCode::OK);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moves_at_once_and_protects_its_version_and_a_bare_name_means_default() {
    let server = TestServer::start(&[]).await;
    for seed in 1..=3 {
        run(&server, job("a", seed, 1)).await;
    }
    let answers_with = async |reference: &str| {
        let path = format!("/v1/models/{reference}/predict");
        let answer = server.post(&path, "application/octet-stream", vec![0; 784]).await;
        answer.json::<Value>().await.expect("JSON")["version"].clone()
    };
    let put = async |alias: &str, version: u32| {
        server.put(&format!("/v1/models/a/aliases/{alias}"), json!({ "version": version })).await
    };
    assert_eq!(answers_with("a").await, 3);
    let entry: Value = put("default", 2).await.json().await.expect("JSON");
    assert_eq!(entry["aliases"], json!({ "default": 2 }));
    assert_eq!(put("champion", 1).await.status(), StatusCode::OK);
    assert_eq!((answers_with("a").await, answers_with("a@champion").await), (json!(2), json!(1)));
    assert_eq!(put("champion", 3).await.status(), StatusCode::OK);
    assert_eq!(answers_with("a@champion").await, 3);

    problem(put("champion", 9).await, 422, "invalid_request").await;
    for alias in ["7", "07", "99999999999", "18446744073709551616", "Champion"] {
        problem(put(alias, 1).await, 400, "invalid_alias").await;
    }
    for version in ["+1", "01", "00", "99999999999"] {
        let path = format!("/v1/models/a@{version}");
        problem(server.delete(&path).await, 400, "invalid_model_reference").await;
    }
    problem(
        server.put("/v1/models/a/aliases/champion", json!({ "versoin": 1 })).await,
        422,
        "invalid_request",
    )
    .await;
    let unknown = server.put("/v1/models/b/aliases/champion", json!({ "version": 1 })).await;
    problem(unknown, 404, "unknown_model").await;
    problem(server.get("/v1/models/a@chamption").await, 404, "unknown_alias").await;

    problem(server.delete("/v1/models/a").await, 400, "invalid_model_reference").await;
    problem(server.delete("/v1/models/a@3").await, 409, "model_aliased").await;
    assert_eq!(server.delete("/v1/models/a/aliases/champion").await.status(), StatusCode::NO_CONTENT);
    problem(server.delete("/v1/models/a/aliases/champion").await, 404, "unknown_alias").await;
    assert_eq!(server.delete("/v1/models/a@3").await.status(), StatusCode::NO_CONTENT);
    problem(server.delete("/v1/models/a@3").await, 404, "unknown_version").await;
    let next = run(&server, job("a", 4, 1)).await;
    assert_eq!(next["result"]["version"], 4, "the number of a version is not given twice");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_waiting_job_starts_from_is_not_deleted() {
    let server = TestServer::start(&[]).await;
    run(&server, job("a", 1, 1)).await;
    server.create(endless()).await;
    let mut request = job("b", 2, 1);
    request["initial_model"] = json!("a");
    let waiting = server.create(request).await;
    problem(server.delete("/v1/models/a@1").await, 409, "model_needed").await;
    server.post(&format!("/v1/jobs/{}/cancel", id(&waiting)), "", "").await;
    assert_eq!(server.delete("/v1/models/a@1").await.status(), StatusCode::NO_CONTENT);
    let resumed = server.post(&format!("/v1/jobs/{}/resume", id(&waiting)), "", "").await;
    problem(resumed, 409, "initial_model_gone").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_jobs_and_versions_and_those_with_an_alias_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let mut ids = Vec::new();
    for seed in 1..=5 {
        ids.push(id(&run(&server, job("a", seed, 1)).await).to_owned());
    }
    server.put("/v1/models/a/aliases/champion", json!({ "version": 2 })).await;
    server.stop().await;

    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("rows");
    assert_eq!(store.ended_beyond(u64::MAX, EndedPosition::default()).await.expect("rows"), []);
    assert_eq!(store.ended_for(Duration::MAX, EndedPosition::default()).await.expect("rows"), []);
    store.close().await;

    let flags = ["--keep-jobs", "2", "--keep-versions", "2"];
    let server = TestServer::start_in(folder.path(), &flags).await;
    let jobs = until(&server, "/v1/jobs", |list| count(list, "jobs") <= 2).await;
    let kept: Vec<&str> =
        jobs["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(kept, [&ids[4], &ids[3]]);
    until(&server, "/v1/models/a", |model| count(model, "versions") <= 3).await;
    let models = server.get_json("/v1/models/a").await;
    let versions: Vec<&Value> =
        models["versions"].as_array().expect("versions").iter().map(|version| &version["version"]).collect();
    assert_eq!(versions, [5, 4, 2]);
    server.stop().await;
    let server = TestServer::start_in(folder.path(), &[]).await;
    assert_eq!(files(&folder.path().join("blobs/models/a")), 3);
    assert_eq!(files(&folder.path().join("blobs/jobs")), 2);
    server.stop().await;

    let server = TestServer::start_in(folder.path(), &["--keep-jobs", "0s", "--keep-versions", "0s"]).await;
    until(&server, "/v1/jobs", |list| count(list, "jobs") == 0).await;
    let models = until(&server, "/v1/models/a", |model| count(model, "versions") <= 2).await;
    assert_eq!(count(&models, "versions"), 2, "the newest and the champion: {models}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_change_takes_effect_although_the_client_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let first = run(&server, job("a", 1, 1)).await;
    for seed in [2, 3] {
        run(&server, job("a", seed, 1)).await;
    }
    let old = server.http.put(server.path("/v1/models/a/aliases/old")).json(&json!({"version": 3}));
    assert_eq!(old.send().await.expect("an answer").status(), StatusCode::OK);
    let stopped = server.create(endless()).await;
    server.stepped(id(&stopped)).await;
    let stopped = format!("/v1/jobs/{}", id(&stopped));
    server.post(&format!("{stopped}/cancel"), "", "").await;
    let first = format!("/v1/jobs/{}", id(&first));
    let model_files = || files(&folder.path().join("blobs/models/a"));
    let checkpoints = || files(&folder.path().join("blobs").join(first.trim_start_matches("/v1/")));
    assert_eq!(model_files(), 3);
    assert!(checkpoints() > 0);

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut other = options.connect().await.expect("a connection");
    let held = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let address = server.url.strip_prefix("http://").expect("an address");
    for (request, body) in [
        ("PUT /v1/models/a/aliases/default".to_owned(), r#"{"version":1}"#),
        (format!("POST {stopped}/resume"), ""),
        ("DELETE /v1/models/a/aliases/old".to_owned(), ""),
        ("DELETE /v1/models/a@2".to_owned(), ""),
        (format!("DELETE {first}"), ""),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let message = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(message.as_bytes()).await.expect("sent");
        // The server has time to begin this request during the first hundred responses, and to notice that
        // its client is gone during the next hundred.
        for _ in 0..100 {
            assert_eq!(server.get("/healthz").await.status(), StatusCode::OK);
        }
        drop(stream);
        for _ in 0..100 {
            assert_eq!(server.get("/healthz").await.status(), StatusCode::OK);
        }
    }
    held.rollback().await.expect("released");
    until(&server, "/v1/models/a", |model| model["aliases"]["default"] == 1).await;
    until(&server, &stopped, |job| job["state"] == "running").await;
    until(&server, "/v1/models/a", |model| model["aliases"]["old"].is_null()).await;
    until(&server, "/v1/models/a", |model| count(model, "versions") == 2).await;
    until(&server, "/v1/jobs", |list| count(list, "jobs") == 3).await;
    server.stop().await;
    assert_eq!((model_files(), checkpoints()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_row_can_not_be_read_is_deleted_like_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let oldest = run(&server, job("a", 1, 1)).await;
    let damaged = run(&server, job("a", 2, 1)).await;
    server.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut rows = options.connect().await.expect("a connection");
    sqlx::query("UPDATE jobs SET progress = '{' WHERE id = $1")
        .bind(id(&damaged))
        .execute(&mut rows)
        .await
        .expect("a row");

    // No list shows the job. Each list continues with the older jobs.
    let server = TestServer::start_in(folder.path(), &[]).await;
    let page = server.get_json("/v1/jobs?limit=1").await;
    assert_eq!(count(&page, "jobs"), 0, "{page}");
    let older = page["next_cursor"].as_str().expect("a cursor");
    let page = server.get_json(&format!("/v1/jobs?limit=1&cursor={older}")).await;
    assert_eq!((&page["jobs"][0]["id"], &page["next_cursor"]), (&oldest["id"], &Value::Null), "{page}");
    server.stop().await;

    let server = TestServer::start_in(folder.path(), &["--keep-jobs", "0"]).await;
    let left = async |rows: &mut SqliteConnection| -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM jobs").fetch_one(rows).await.expect("rows")
    };
    while left(&mut rows).await > 0 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_when_their_job_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let running = server.create(endless()).await;
    server.stepped(id(&running)).await;
    let mut events = server.get(&format!("/v1/jobs/{}/events", id(&running))).await;
    let mut text = String::new();
    while !text.contains("event: state") {
        let part = events.chunk().await.expect("a part").expect("some of it");
        text.push_str(&String::from_utf8_lossy(&part));
    }
    // Another server cancels and deletes the job between two polls of this one.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("chainrule.db"));
    let mut other = options.connect().await.expect("a connection");
    sqlx::query("DELETE FROM jobs WHERE id = $1")
        .bind(id(&running))
        .execute(&mut other)
        .await
        .expect("a row");
    events.text().await.expect("an end");
    assert_eq!(
        server.get(&format!("/v1/jobs/{}/events", id(&running))).await.status(),
        StatusCode::NOT_FOUND
    );
    server.stop().await;
}

/// As if a disk had been unmounted: nothing counts as damaged, and nothing is written to the mount point.
#[tokio::test(flavor = "multi_thread")]
async fn no_checkpoint_is_lost_if_the_folder_of_blobs_is_missing_for_a_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request = json!({ "model": "a", "epochs": 1_000, "train_samples": 5_000, "checkpoint": { "every_epochs": 1, "keep": 2 },
        "network": { "layers": [{ "type": "dense", "units": 10 }] } });
    let created = server.create(request).await;
    let path = format!("/v1/jobs/{}", id(&created));
    server.in_epoch(id(&created), 3).await;
    let (blobs, aside) = (folder.path().join("blobs"), folder.path().join("aside"));
    std::fs::rename(&blobs, &aside).expect("renamed");
    std::fs::create_dir(&blobs).expect("a folder");
    until(&server, &path, |job| job["progress"]["waiting_for_disk"] == true).await;
    server.post(&format!("{path}/cancel"), "", "").await;
    let before = server.get_json(&format!("{path}/checkpoints")).await;
    assert!(count(&before, "checkpoints") > 0, "{before}");
    server.post(&format!("{path}/resume"), "", "").await;
    until(&server, &path, |job| job["attempt"].as_u64() > Some(2)).await;
    assert_eq!(server.get_json(&format!("{path}/checkpoints")).await, before);
    assert_eq!(files(&blobs), 0);
    std::fs::remove_dir(&blobs).expect("removed");
    std::fs::rename(&aside, &blobs).expect("renamed");
    let epoch = before["checkpoints"][0]["epoch"].as_u64();
    until(&server, &path, |job| job["progress"]["epoch"].as_u64() > epoch).await;
    server.stop().await;
}
