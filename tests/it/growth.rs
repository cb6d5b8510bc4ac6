//! Everything that grows with use has a limit, is returned in pages, and is deleted eventually.

use std::collections::BTreeSet;
use std::path::Path;

use chainrule::config::Keep;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::server::{TestServer, config, problem};

/// A job of a few milliseconds.
fn short(model: &str, epochs: u32) -> Value {
    json!({ "model": model, "epochs": epochs, "train_samples": 300, "batch_size": 100,
        "network": { "layers": [{ "type": "dense", "units": 10 }] } })
}

async fn rows(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("chainrule.db"));
    options.connect().await.expect("a connection")
}

async fn execute(rows: &mut SqliteConnection, statement: &'static str) {
    sqlx::query(statement).execute(rows).await.expect("rows");
}

/// Makes a folder with a job and its model `a` of one version. Also returns the id of the job.
async fn with_model() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let job = server.create(short("a", 1)).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    server.stop().await;
    (folder, job["id"].as_str().expect("an id").to_owned())
}

/// Returns all pages of a list.
async fn pages(server: &TestServer, path: &str, limit: u32) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get_json(&format!("{path}?limit={limit}{cursor}")).await;
        let next = page["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
        pages.push(page);
        match next {
            Some(next) => cursor = next,
            None => return pages,
        }
    }
}

fn list<'a>(pages: &'a [Value], name: &str) -> Vec<&'a Value> {
    pages.iter().flat_map(|page| page[name].as_array().expect("a list")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_of_a_model_are_paged_newest_first() {
    let (folder, _) = with_model().await;
    let mut connection = rows(folder.path()).await;
    execute(
        &mut connection,
        "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 120)
         INSERT INTO model_versions (name, version, source, owner, job_id, test_accuracy, parameters, layers, classes,
                                     blob_key, size_bytes, sha256, created_at)
         SELECT name, n, source, owner, printf('00000000-0000-7000-8000-%012x', n), test_accuracy, parameters, layers,
                classes, blob_key, size_bytes, sha256, created_at + n FROM model_versions, numbers",
    )
    .await;
    connection.close().await.expect("closed");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let unasked = server.get_json("/v1/models/a").await;
    assert_eq!(unasked["versions"].as_array().map(Vec::len), Some(50));
    assert_eq!((&unasked["version_count"], &unasked["next_cursor"]), (&json!(120), &json!("71")));
    for limit in [7, 40, 120, 200] {
        let pages = pages(&server, "/v1/models/a", limit).await;
        let versions: Vec<u64> =
            list(&pages, "versions").iter().filter_map(|version| version["version"].as_u64()).collect();
        assert_eq!(versions, (1..=120).rev().collect::<Vec<_>>(), "by {limit}");
        assert_eq!(pages.len(), 120_usize.div_ceil(limit as usize), "by {limit}");
    }
    let models = server.get_json("/v1/models").await;
    assert_eq!(models["models"][0]["versions"].as_array().map(Vec::len), Some(1), "{models}");
    assert_eq!(models["models"][0]["version_count"], 120);
    let one = server.get_json("/v1/models/a@7?limit=5").await;
    assert_eq!((&one["versions"][0]["version"], &one["next_cursor"]), (&json!(7), &Value::Null));
    assert_eq!(one["version_count"], 120);

    // The list continues after a version that was deleted in between.
    assert_eq!(server.delete("/v1/models/a@71").await.status(), StatusCode::NO_CONTENT);
    let next = server.get_json("/v1/models/a?limit=1&cursor=71").await;
    assert_eq!(next["versions"][0]["version"], 70);
    for query in ["limit=0", "limit=201", "cursor=x", "offset=3"] {
        problem(server.get(&format!("/v1/models/a?{query}")).await, 422, "invalid_query").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_continues_after_its_last_model_was_deleted_or_republished() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let train = async |model: &str| {
        let job = server.create(short(model, 1)).await;
        assert_eq!(server.ended(job["id"].as_str().expect("an id")).await["state"], "succeeded");
    };
    for model in ["c", "a", "d", "b"] {
        train(model).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let models = list["models"].as_array().expect("models");
        models.iter().map(|model| model["name"].as_str().expect("a name").to_owned()).collect()
    };
    let first = server.get_json("/v1/models?limit=2").await;
    assert_eq!(names(&first), ["b", "d"]);
    let rest = format!("/v1/models?limit=2&cursor={}", first["next_cursor"].as_str().expect("a cursor"));
    let expected = server.get_json(&rest).await;
    assert_eq!(
        (names(&expected), &expected["next_cursor"]),
        (vec!["a".to_owned(), "c".to_owned()], &Value::Null)
    );
    assert_eq!(server.delete("/v1/models/d@1").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get_json(&rest).await, expected, "it is gone");
    train("d").await;
    assert_eq!(server.get_json(&rest).await, expected, "it is published again");
    assert_eq!(names(&server.get_json("/v1/models").await), ["d", "b", "a", "c"]);
    problem(server.get("/v1/models?cursor=d").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_has_a_limited_number_of_aliases_and_each_can_be_moved() {
    let (folder, _) = with_model().await;
    let server = TestServer::start_in(folder.path(), &["--aliases-max", "2"]).await;
    let second = server.create(short("a", 2)).await;
    server.ended(second["id"].as_str().expect("an id")).await;
    let put = async |alias: &str, version: u32| {
        server.put(&format!("/v1/models/a/aliases/{alias}"), json!({ "version": version })).await
    };
    assert_eq!(put("x", 1).await.status(), StatusCode::OK);
    assert_eq!(put("y", 1).await.status(), StatusCode::OK);
    let refused = problem(put("z", 1).await, 409, "too_many_aliases").await;
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("has 2 aliases")), "{refused}");
    problem(put("z", 9).await, 422, "invalid_request").await;
    let moved: Value = put("y", 2).await.json().await.expect("JSON");
    assert_eq!(moved["aliases"], json!({ "x": 1, "y": 2 }));
    assert_eq!(server.delete("/v1/models/a/aliases/x").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(put("z", 1).await.status(), StatusCode::OK);
    server.stop().await;

    // A model that already has more aliases loses none, and each can be moved.
    let server = TestServer::start_in(folder.path(), &["--aliases-max", "1"]).await;
    let path = |alias: &str| format!("/v1/models/a/aliases/{alias}");
    let moved: Value = server.put(&path("z"), json!({ "version": 2 })).await.json().await.expect("JSON");
    assert_eq!(moved["aliases"], json!({ "y": 2, "z": 2 }));
    problem(server.put(&path("x"), json!({ "version": 2 })).await, 409, "too_many_aliases").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_row_can_not_be_read_is_skipped_and_all_others_are_served() {
    let (folder, _) = with_model().await;
    let server = TestServer::start_in(folder.path(), &[]).await;
    for model in ["a", "b"] {
        let job = server.create(short(model, 2)).await;
        server.ended(job["id"].as_str().expect("an id")).await;
    }
    server.stop().await;
    let mut connection = rows(folder.path()).await;
    execute(&mut connection, "UPDATE model_versions SET layers = '{' WHERE name = 'a' AND version = 2").await;
    connection.close().await.expect("closed");

    let server = TestServer::start_in(folder.path(), &["--keep-versions", "1"]).await;
    let a = server.get_json("/v1/models/a").await;
    assert_eq!((&a["versions"][0]["version"], &a["version_count"]), (&json!(1), &json!(1)), "{a}");
    problem(server.get("/v1/models/a@2").await, 404, "unknown_version").await;
    for model in ["a", "b"] {
        let path = format!("/v1/models/{model}/predict");
        let answer = server.post(&path, "application/octet-stream", vec![0; 784]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{model}");
        let set = server.put(&format!("/v1/models/{model}/aliases/best"), json!({ "version": 1 })).await;
        assert_eq!(set.status(), StatusCode::OK, "{model}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_job_are_paged_with_the_steps_of_their_epochs() {
    let server = TestServer::start(&[]).await;
    let job = server.create(short("a", 5)).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let path = format!("/v1/jobs/{}/metrics", job["id"].as_str().expect("an id"));
    let whole = server.get_json(&path).await;
    let (epochs, steps) =
        (list(std::slice::from_ref(&whole), "epochs"), list(std::slice::from_ref(&whole), "steps"));
    let steps_per_epoch = job["progress"]["steps"].as_u64().expect("a number") / 5;
    assert_eq!(
        (epochs.len(), steps.len() as u64, &whole["next_cursor"]),
        (5, 5 * steps_per_epoch, &Value::Null)
    );

    for limit in [1, 2, 5, 200] {
        let pages = pages(&server, &path, limit).await;
        assert_eq!(pages.len(), 5_usize.div_ceil(limit as usize), "by {limit}");
        assert_eq!(list(&pages, "epochs"), epochs, "by {limit}");
        assert_eq!(list(&pages, "steps"), steps, "by {limit}");
        for page in &pages {
            let of = |name: &str, key: &str| -> BTreeSet<u64> {
                page[name].as_array().expect("a list").iter().filter_map(|row| row[key].as_u64()).collect()
            };
            let of_steps: BTreeSet<u64> =
                of("steps", "step").iter().map(|step| step.div_ceil(steps_per_epoch)).collect();
            assert_eq!(of("epochs", "epoch"), of_steps, "by {limit}");
            assert_eq!(page["findings"], whole["findings"], "findings are of all epochs, by {limit}");
        }
    }

    let csv = async |query: &str| {
        let request = server.http.get(server.path(&format!("{path}{query}"))).header("Accept", "text/csv");
        let response = request.send().await.expect("an answer");
        let link = response.headers().get("link").map(|link| link.to_str().expect("text").to_owned());
        (link, response.text().await.expect("text"))
    };
    let (link, all) = csv("").await;
    assert_eq!((link, all.lines().count()), (None, 6));
    let (mut query, mut lines) = ("?limit=2".to_owned(), Vec::new());
    loop {
        let (link, page) = csv(&query).await;
        lines.extend(page.lines().skip(1).map(str::to_owned));
        let Some(link) = link else { break };
        let target =
            link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).expect("a link");
        query = target.strip_prefix(&path).expect("the same path").to_owned();
    }
    assert_eq!(lines, all.lines().skip(1).collect::<Vec<_>>());
    for query in ["limit=0", "limit=201", "cursor=x", "offset=3"] {
        problem(server.get(&format!("{path}?{query}")).await, 422, "invalid_query").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_jobs_are_deleted_oldest_first_in_any_number_of_batches() {
    for flag in ["3", "1d"] {
        let (folder, newest) = with_model().await;
        let mut connection = rows(folder.path()).await;
        execute(&mut connection, "UPDATE jobs SET sequence = 1000").await;
        // Some rows in the middle can't be parsed. They are deleted like the others.
        execute(
            &mut connection,
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 350)
             INSERT INTO jobs (id, state, model, spec, request_sha256, progress, created_at, finished_at, sequence)
             SELECT printf('00000000-0000-7000-8000-%012x', n), 'failed', model, iif(n % 100 = 0, '{', spec),
                    request_sha256, progress, created_at, iif(n > 348, finished_at, n), n
             FROM jobs, numbers",
        )
        .await;
        let server = TestServer::start_in(folder.path(), &["--keep-jobs", flag]).await;
        loop {
            let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM jobs")
                .fetch_one(&mut connection)
                .await
                .expect("rows");
            if left <= 3 {
                assert_eq!(left, 3, "--keep-jobs {flag}");
                break;
            }
        }
        let jobs = server.get_json("/v1/jobs").await;
        let jobs: Vec<&str> =
            list(std::slice::from_ref(&jobs), "jobs").iter().filter_map(|job| job["id"].as_str()).collect();
        let kept = ["00000000-0000-7000-8000-00000000015e", "00000000-0000-7000-8000-00000000015d"];
        assert_eq!(jobs, [newest.as_str(), kept[0], kept[1]], "--keep-jobs {flag}");
        server.stop().await;
    }
}

#[test]
fn a_thousand_ended_jobs_are_kept_by_default() {
    let folder = Path::new("/nowhere");
    let told = |flags: &[&str]| {
        let config = config(folder, flags);
        (config.keep_jobs, config.keep_versions)
    };
    assert_eq!(told(&[]), (Keep::Newest(1_000), Keep::All));
    assert_eq!(told(&["--keep-jobs", "all", "--keep-versions", "5"]), (Keep::All, Keep::Newest(5)));
    for text in ["all", "0", "1000", "90s"] {
        let keep: Keep = text.parse().expect("what is kept");
        assert_eq!(keep.to_string(), text);
    }
    for text in ["", "All", "-1", "1w", "none", "4294967296s"] {
        assert!(text.parse::<Keep>().is_err(), "{text}");
    }
}
