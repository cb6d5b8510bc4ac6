//! A database that an earlier version wrote is read by this one, and one of a later version by none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chainrule::data::{mnist, picture};
use chainrule::job::{JobId, JobState};
use chainrule::store::Store;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::folders::copy_of;
use crate::process::{output, text};
use crate::server::TestServer;

/// A data folder as version 1 left it when it was killed: two jobs had succeeded, one was running, one was cancelled, and
/// one waited.
const DIGITS: &str = "01a21745-5cf3-72cd-b758-266f94277363";
const BAD: &str = "01a21745-5e77-733d-bece-acb0b4141874";
const INTERRUPTED: &str = "01a21745-5ed8-74e9-bb3e-a8c8479dffb5";
const CANCELLED: &str = "01a21745-5f02-73a2-bb22-4364d5bb35b3";
const WAITING: &str = "01a21745-5f3b-717a-88a8-6ebcccd453a6";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/databases")
}

fn of_version(version: u32) -> TempDir {
    copy_of(&fixtures().join(version.to_string()))
}

fn numbers(folder: &Path) -> BTreeSet<u32> {
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        name.split('_').next().and_then(|number| number.parse().ok())
    };
    std::fs::read_dir(folder).expect("a folder").filter_map(number).collect()
}

/// Whoever adds a migration adds a data folder as the version before it wrote it: `chainrule serve` on a new folder, some
/// jobs in every state, `kill -9`, a checkpoint of the log by `sqlite3 chainrule.db 'PRAGMA wal_checkpoint(TRUNCATE)'`.
#[test]
fn there_is_a_database_of_every_earlier_version() {
    let mut earlier = numbers(&root().join("migrations"));
    earlier.pop_last();
    let missing: Vec<u32> = earlier.difference(&numbers(&fixtures())).copied().collect();
    assert!(missing.is_empty(), "tests/fixtures/databases/ has none of {missing:?}");
}

#[tokio::test]
async fn the_rows_of_version_1_are_as_they_were() {
    let folder = of_version(1);
    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("a store");
    // Its server is gone: what ran goes back to the queue.
    for (id, state, attempt, step) in [
        (DIGITS, JobState::Succeeded, 1, 8),
        (BAD, JobState::Succeeded, 1, 12),
        (INTERRUPTED, JobState::Queued, 1, 953),
        (CANCELLED, JobState::Cancelled, 0, 0),
        (WAITING, JobState::Queued, 0, 0),
    ] {
        let id: JobId = id.parse().expect("an id");
        let job = store.job(id).await.expect("rows").expect("a job");
        assert_eq!((job.state, job.attempt, job.progress.step), (state, attempt, step), "{id}");
        assert_eq!(job.finished_at.is_some(), state.is_ended(), "{id}");
        assert_eq!(job.result.is_some(), state == JobState::Succeeded, "{id}");
    }
    let counts = store.counts().await.expect("rows");
    let expected = JobState::ALL.into_iter().zip([2, 0, 2, 0, 1]).collect::<Vec<_>>();
    assert_eq!(counts, expected);

    let models = store.models().await.expect("rows");
    let versions: Vec<_> = models
        .versions
        .iter()
        .map(|model| (model.name.as_str(), model.row.version, model.row.test_accuracy))
        .collect();
    assert_eq!(versions, [("bad", 1, 0.098), ("digits", 1, 0.2098)]);
    let interrupted: JobId = INTERRUPTED.parse().expect("an id");
    let checkpoints = store.checkpoints(interrupted).await.expect("rows");
    assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), [860, 430]);
    let epochs = store.epochs(interrupted, 0, 100).await.expect("rows");
    assert_eq!(epochs.iter().map(|epoch| epoch.metrics.epoch).collect::<Vec<_>>(), [1, 2]);

    // The two in the queue are of one model: the earlier one first, and the other not beside it.
    assert_eq!(store.claim().await.expect("rows").map(|job| job.id), Some(interrupted));
    assert_eq!(store.claim().await.expect("rows"), None);
    store.close().await;
}

#[tokio::test]
async fn rows_of_version_1_give_back_what_they_no_longer_need() {
    let folder = of_version(1);
    let path = folder.path().join("chainrule.db");
    let size = || std::fs::metadata(&path).expect("a file").len();
    let store = Store::open(&path).await.expect("a store");
    store.close().await;
    let before = size();
    let store = Store::open(&path).await.expect("a store");
    for id in [DIGITS, BAD, INTERRUPTED, CANCELLED, WAITING] {
        let id: JobId = id.parse().expect("an id");
        store.cancel(id).await.expect("rows");
        store.delete_job(id).await.expect("rows");
    }
    store.shrink().await.expect("rows");
    store.close().await;
    assert!(size() < before, "{} of {before} bytes", size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_where_version_1_was_killed() {
    let folder = of_version(1);
    let server = TestServer::start_in(folder.path(), &[]).await;
    let before = server.get_json(&format!("/v1/jobs/{DIGITS}")).await;
    assert_eq!((&before["state"], &before["result"]["version"]), (&json!("succeeded"), &json!(1)));
    let png = picture::to_png(mnist::dataset().test.image(0));
    let answer = server.post("/v1/models/digits@1/predict", "image/png", png).await;
    assert!(answer.status().is_success(), "{answer:?}");
    let answer: Value = answer.json().await.expect("JSON");
    assert!(answer["predictions"][0]["label"].is_u64(), "{answer}");

    let interrupted = server.ended(INTERRUPTED).await;
    assert_eq!(
        (&interrupted["state"], &interrupted["attempt"]),
        (&json!("succeeded"), &json!(2)),
        "{interrupted}"
    );
    assert_eq!(interrupted["result"]["version"], 2, "{interrupted}");
    let waiting = server.ended(WAITING).await;
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("succeeded"), &json!(1)), "{waiting}");
    assert_eq!(waiting["result"]["version"], 3, "{waiting}");
    assert_eq!(server.get_json(&format!("/v1/jobs/{CANCELLED}")).await["state"], "cancelled");

    let again = json!({ "train_samples": 500, "epochs": 2, "seed": 5 }).to_string();
    let repeated = server.http.post(server.path("/v1/jobs")).header("Content-Type", "application/json");
    let repeated = repeated.header("Idempotency-Key", "first").body(again).send().await.expect("an answer");
    assert_eq!(repeated.status(), 422, "the keys of version 1 are known, and this is another request");
    server.stop().await;
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_as_it_is() {
    let folder = of_version(1);
    let path = folder.path().join("chainrule.db");
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.expect("a connection");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (99, 'of tomorrow', CURRENT_TIMESTAMP, TRUE, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("a row");
    let folder = folder.path().to_str().expect("UTF-8");
    let refused = output(&["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data-dir", folder]);
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("a newer chainrule has written it") && error.contains("99"), "{error}");
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    assert_eq!(versions, [1, 99]);
}
