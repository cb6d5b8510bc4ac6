//! Databases of earlier versions are migrated. A database of a later version is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chainrule::data::{mnist, picture};
use chainrule::dispatch::Dispatch;
use chainrule::job::{JobId, JobState};
use chainrule::model::ModelSource;
use chainrule::store::{DeletedVersion, SetAlias, Store};
use chainrule::train::EpochMetrics;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::client::Client;
use crate::folders::copy_of;
use crate::process::{output, text};
use crate::server::TestServer;

/// The data folder of a killed server of version 1: two jobs had succeeded, one was running, one was
/// cancelled and one was queued.
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

/// Each new migration needs a data folder that was written by the version before it. To make one, run
/// `chainrule serve` on a new folder, create jobs in every state, `kill -9` the server, and run `sqlite3
/// chainrule.db 'PRAGMA wal_checkpoint(TRUNCATE)'`.
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
    // The server is gone, so the running job goes back to the queue.
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
    assert_eq!(versions, [("bad", 1, Some(0.098)), ("digits", 1, Some(0.2098))]);
    let interrupted: JobId = INTERRUPTED.parse().expect("an id");
    let checkpoints = store.checkpoints(interrupted).await.expect("rows");
    assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.step).collect::<Vec<_>>(), [860, 430]);
    let epochs = store.epochs(interrupted, 0, 100).await.expect("rows");
    assert_eq!(epochs.iter().map(|epoch| epoch.metrics.epoch).collect::<Vec<_>>(), [1, 2]);

    // The two queued jobs have the same model. The earlier one runs first, and the other one does not run at
    // the same time.
    let dispatch = Dispatch::new(store);
    assert_eq!(dispatch.claim().await.expect("rows").map(|job| job.id), Some(interrupted));
    assert_eq!(dispatch.claim().await.expect("rows"), None);
    dispatch.close().await;
}

#[tokio::test]
async fn a_migration_frees_the_space_that_rows_of_version_1_no_longer_need() {
    let folder = of_version(1);
    let path = folder.path().join("chainrule.db");
    let size = || std::fs::metadata(&path).expect("a file").len();
    let store = Store::open(&path).await.expect("a store");
    store.close().await;
    let before = size();
    let dispatch = Dispatch::new(Store::open(&path).await.expect("a store"));
    for id in [DIGITS, BAD, INTERRUPTED, CANCELLED, WAITING] {
        let id: JobId = id.parse().expect("an id");
        dispatch.cancel(id).await.expect("rows");
        dispatch.delete_job(id).await.expect("rows");
    }
    dispatch.store().shrink().await.expect("rows");
    dispatch.close().await;
    assert!(size() < before, "{} of {before} bytes", size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_continues_after_the_kill_of_version_1() {
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

/// The data folder of a killed server of version 2. Three jobs of `digits` had succeeded, and the second
/// version was deleted after that. One job of `tuned` had succeeded. One job was running, one was cancelled
/// and one was queued.
const RUNNING_OF_2: &str = "01a22115-ca33-75d5-be74-c00c5fb6f54c";
const WAITING_OF_2: &str = "01a22115-ca4a-7189-ae98-7edfe02f9e43";

#[tokio::test]
async fn the_rows_of_version_2_are_as_they_were() {
    let folder = of_version(2);
    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("a store");
    let counts = store.counts().await.expect("rows");
    assert_eq!(counts, JobState::ALL.into_iter().zip([1, 1, 4, 0, 1]).collect::<Vec<_>>());

    // Without a known revision, everything counts as changed. With the current revision, nothing does.
    let changes = store.model_changes(-1).await.expect("rows");
    let digits = &changes.models["digits"];
    assert_eq!(digits.published.iter().map(|model| model.row.version).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(digits.aliases, BTreeMap::from([("default".to_owned(), 1), ("champion".to_owned(), 3)]));
    assert_eq!(changes.models["tuned"].numbers, BTreeSet::from([1]));
    assert_eq!(store.model_changes(changes.revision).await.expect("rows").models.len(), 0);
    // A change returns its model only, and no version that is already known.
    let set = store.set_alias("tuned", "best", 1, 1).await.expect("rows");
    assert_eq!(set, SetAlias::Set);
    let changed = store.model_changes(changes.revision).await.expect("rows").models;
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["tuned"]);
    assert_eq!((changed["tuned"].published.len(), changed["tuned"].aliases.len()), (0, 1));

    let id: JobId = RUNNING_OF_2.parse().expect("an id");
    let whole = store.epochs(id, 0, 1_000).await.expect("rows");
    let course = store.course(id).await.expect("rows");
    assert!(course.len() > 60 && course.len() == whole.len(), "{} epochs", course.len());
    for (place, (metrics, whole)) in course.iter().zip(&whole).enumerate() {
        let is_last = place + 1 == course.len();
        let layers = if is_last { whole.metrics.layers.clone() } else { Vec::new() };
        assert_eq!(*metrics, EpochMetrics { layers, ..whole.metrics.clone() });
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_continues_after_the_kill_of_version_2() {
    let folder = of_version(2);
    let server = TestServer::start_in(folder.path(), &[]).await;
    let digits = server.get_json("/v1/models/digits").await;
    assert_eq!(digits["aliases"], json!({ "champion": 3, "default": 1 }));
    assert_eq!(digits["version_count"], 2);
    let png = picture::to_png(mnist::dataset().test.image(0));
    let answer = server.post("/v1/models/digits@champion/predict", "image/png", png).await;
    assert!(answer.status().is_success(), "{answer:?}");

    server.in_epoch(RUNNING_OF_2, 100).await;
    server.post(&format!("/v1/jobs/{RUNNING_OF_2}/cancel"), "", "").await;
    assert_eq!(server.ended(RUNNING_OF_2).await["attempt"], 2);
    let waiting = server.ended(WAITING_OF_2).await;
    assert_eq!((&waiting["state"], &waiting["result"]["version"]), (&json!("succeeded"), &json!(4)));
    server.stop().await;
}

/// The data folder of a killed server of version 3: a job with the key `first` had succeeded, one was
/// running, one was cancelled and one was queued.
const DIGITS_OF_3: &str = "01a222f5-c7ab-71a3-b265-9fa44af2c5c8";
const RUNNING_OF_3: &str = "01a222f5-c9b1-76ba-9ad2-cebbdd2731da";
const WAITING_OF_3: &str = "01a222f5-ca09-7686-aabd-ef27ff919970";

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_version_3_belong_to_the_clients_that_sent_them() {
    let folder = of_version(3);
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request = json!({
        "network": { "layers": [{ "type": "dense", "units": 10 }] }, "train_samples": 500, "epochs": 2, "seed": 5,
    });
    let send = async |client: &Client| -> Value {
        let request = client.post(server.path("/v1/jobs")).header("Idempotency-Key", "first").json(&request);
        request.send().await.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(send(&server.http).await["id"], DIGITS_OF_3);
    let other = send(&server.client_at([127, 0, 0, 9])).await;
    assert_eq!(other["state"], "queued", "another client's key: {other}");

    server.post(&format!("/v1/jobs/{RUNNING_OF_3}/cancel"), "", "").await;
    assert_eq!(server.ended(RUNNING_OF_3).await["state"], "cancelled");
    assert_eq!(server.ended(WAITING_OF_3).await["state"], "succeeded");
    server.stop().await;
}

/// The data folder of a killed server of version 4: jobs of `digits` (with the key `first`) and `wide` had succeeded, one of
/// `long` was running, one was cancelled and two were queued. One of these starts from `digits@1`, which has an alias.
const DIGITS_OF_4: &str = "01a2241d-dac9-74be-a5d1-a1edf560c5f5";
const RUNNING_OF_4: &str = "01a2241d-eeea-775c-a613-5e0d264ae127";
const DIGITS_WAITING_OF_4: &str = "01a2241d-f2f3-71fb-a569-e346b8e99149";
const TUNED_OF_4: &str = "01a2241e-1a0d-73d8-ba04-f8cfdfebed6c";

#[tokio::test]
async fn versions_of_version_4_are_of_jobs_and_keep_their_aliases_and_revisions() {
    let folder = of_version(4);
    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("a store");
    let models = store.models().await.expect("rows");
    let shown: Vec<_> = models
        .versions
        .iter()
        .map(|model| (model.name.as_str(), model.row.source, model.owner.as_str(), model.blob_key.as_str()))
        .collect();
    let key = format!("models/{DIGITS_OF_4}-1.safetensors");
    assert_eq!(shown[0], ("digits", ModelSource::Job, "", key.as_str()));
    assert_eq!(models.versions[0].row.job_id.map(|id| id.to_string()).as_deref(), Some(DIGITS_OF_4));
    assert_eq!(models.aliases, [("digits".to_owned(), "champion".to_owned(), 1)]);
    assert_eq!(store.integrity().await.expect("a check"), Vec::<String>::new());
    // An alias still protects its version, and each change still raises the revision.
    assert_eq!(
        store.delete_version("digits", 1).await.expect("rows"),
        DeletedVersion::Aliased("champion".to_owned())
    );
    assert_eq!(store.model_changes(models.revision).await.expect("rows").models.len(), 0);
    assert!(store.delete_alias("digits", "champion").await.expect("rows"));
    assert_eq!(
        store.delete_version("digits", 1).await.expect("rows"),
        DeletedVersion::Needed(TUNED_OF_4.parse().expect("an id"))
    );
    assert_eq!(
        store.delete_version("wide", 1).await.expect("rows"),
        DeletedVersion::Gone("models/01a2241d-e2f6-7312-b3c3-92a761cbf857-1.safetensors".to_owned())
    );
    let changed = store.model_changes(models.revision).await.expect("rows").models;
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["digits", "wide"]);
    assert_eq!(store.next_version("wide").await.expect("rows"), 2, "a number is never given twice");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_where_version_4_was_killed() {
    let folder = of_version(4);
    let server = TestServer::start_in(folder.path(), &[]).await;
    let metrics = server.get("/metrics").await.text().await.expect("text");
    assert!(metrics.contains("\nchainrule_jobs_rescued_total 1\n"), "{metrics}");
    server.post(&format!("/v1/jobs/{RUNNING_OF_4}/cancel"), "", "").await;
    assert_eq!(server.ended(TUNED_OF_4).await["state"], "succeeded");
    let again = server.ended(DIGITS_WAITING_OF_4).await;
    assert_eq!((&again["state"], &again["result"]["version"]), (&json!("succeeded"), &json!(2)));
    let digits = server.get_json("/v1/models/digits").await;
    let shown =
        |version: &Value| (version["version"].clone(), version["source"].clone(), version["job_id"].clone());
    let versions: Vec<_> = digits["versions"].as_array().expect("a list").iter().map(shown).collect();
    assert_eq!(
        versions,
        [(json!(2), json!("job"), json!(DIGITS_WAITING_OF_4)), (json!(1), json!("job"), json!(DIGITS_OF_4)),]
    );
    let png = picture::to_png(mnist::dataset().test.image(0));
    for reference in ["digits@champion", "digits@2", "tuned", "wide"] {
        let answer = server.post(&format!("/v1/models/{reference}/predict"), "image/png", png.clone()).await;
        assert!(answer.status().is_success(), "{reference}: {answer:?}");
    }
    // The earlier file keeps its key. The key of the newer file contains model and version.
    let file = |name: String| folder.path().join("blobs/models").join(name).exists();
    assert!(file(format!("{DIGITS_OF_4}-1.safetensors")));
    assert!(file(format!("digits/2-{DIGITS_WAITING_OF_4}-1.safetensors")));
    server.stop().await;
}

/// The newer server does not wait. A server that uses the folder could not read what the newer one writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_brought_up_to_date_by_a_server_that_is_alone() {
    for version in [1, 2, 3, 4] {
        let folder = of_version(version);
        let path = folder.path().join("chainrule.db");
        let before = content(&path);
        let older = std::fs::File::open(folder.path()).expect("a folder");
        older.lock_shared().expect("a share");
        let argument = folder.path().to_str().expect("UTF-8");
        let refused = output(&["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data-dir", argument]);
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        for told in ["an older chainrule serves the data folder", "stop it first, then start this one"] {
            assert!(error.contains(told), "{error}");
        }
        assert!(content(&path) == before, "the database was changed");
        assert_eq!(versions(&path).await.last(), Some(&i64::from(version)));

        drop(older);
        TestServer::start_in(folder.path(), &[]).await.stop().await;
        assert_eq!(versions(&path).await, [1, 2, 3, 4, 5]);
    }
}

/// Returns a database without its counters of openings for writing:
/// <https://www.sqlite.org/fileformat2.html>, offsets 24 and 92.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).expect("a file");
    for counter in [24, 92] {
        bytes[counter..counter + 4].fill(0);
    }
    bytes
}

async fn versions(path: &Path) -> Vec<i64> {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.expect("a connection");
    let versions = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version");
    versions.fetch_all(&mut connection).await.expect("rows")
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
    assert_eq!(versions(&path).await, [1, 99]);
}

/// Runs the commands that open a data folder. Each must refuse it. Returns their errors.
fn refusals(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("UTF-8");
    let to = tempfile::tempdir().expect("a folder");
    let tar = to.path().join("backup.tar");
    let refused = |command: &[&str]| {
        let output = output(&[command, &["--data-dir", folder]].concat());
        let error = text(&output.stderr).to_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
        error
    };
    let backup = ["backup", tar.to_str().expect("UTF-8")];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "off"];
    [&["check"][..], &["check", "--repair"], &backup, &serve].map(refused).to_vec()
}

async fn change(database: &Path, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let mut connection = options.connect().await.expect("a connection");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect(statement);
}

#[tokio::test]
async fn every_command_refuses_a_database_that_the_migrations_do_not_make() {
    let current = of_version(4);
    Store::open(&current.path().join("chainrule.db")).await.expect("a store").close().await;
    let older = of_version(4);
    for (folder, statement, why) in [
        (
            &current,
            "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2",
            "migration 2 differs from the one of this program",
        ),
        (
            &older,
            "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 4",
            "migration 4 differs from the one of this program",
        ),
        (&current, "DELETE FROM _sqlx_migrations WHERE version = 2", "migration 2 is missing"),
        (&current, "UPDATE _sqlx_migrations SET version = 0 WHERE version = 5", "migration 0 is unknown"),
        (
            &older,
            "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 4",
            "migration 4 was not completed",
        ),
        (&current, "DELETE FROM _sqlx_migrations", "it has tables, but has run no migration"),
        (&older, "DROP TABLE _sqlx_migrations", "it has tables, but has run no migration"),
        (&current, "DROP TABLE turns", "table turns is missing"),
        (&older, "DROP TABLE turns", "table turns is missing"),
        (&current, "ALTER TABLE jobs DROP COLUMN beat", "column jobs.beat is missing"),
        (&current, "DROP INDEX jobs_queue", "index jobs_queue is missing"),
        (&current, "DROP TRIGGER jobs_next", "trigger jobs_next is missing"),
    ] {
        let folder = copy_of(folder.path());
        change(&folder.path().join("chainrule.db"), statement).await;
        for error in refusals(folder.path()) {
            assert!(error.contains(why) && error.contains("use the chainrule that wrote it"), "{error}");
        }
    }
    // What others add is no fault.
    change(&current.path().join("chainrule.db"), "CREATE TABLE notes (text TEXT)").await;
    TestServer::start_in(current.path(), &[]).await.stop().await;
    let folder = current.path().to_str().expect("UTF-8");
    let checked = output(&["check", "--data-dir", folder]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[tokio::test]
async fn no_command_takes_an_emptied_database_for_a_new_one() {
    let folder = of_version(4);
    let path = folder.path().join("chainrule.db");
    let files = || files_below(&folder.path().join("blobs"));
    let before = files();
    assert!(!before.is_empty());
    std::fs::write(&path, "").expect("written");
    // The first command could give the file a header.
    for header in ["", "PRAGMA journal_mode = WAL"] {
        change(&path, header).await;
        for error in refusals(folder.path()) {
            assert!(
                error.contains("chainrule.db is missing or empty, but blobs next to it has files"),
                "{error}"
            );
        }
    }
    assert_eq!(files(), before);

    std::fs::remove_dir_all(folder.path().join("blobs/jobs")).expect("removed");
    std::fs::remove_dir_all(folder.path().join("blobs/models")).expect("removed");
    let argument = folder.path().to_str().expect("UTF-8");
    let checked = output(&["check", "--data-dir", argument]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stderr).contains("it is empty; start a server on this folder once"));
    TestServer::start_in(folder.path(), &[]).await.stop().await;
    assert_eq!(output(&["check", "--data-dir", argument]).status.code(), Some(0));
}

/// Returns the paths of all files below a folder.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { BTreeSet::from([path]) }).collect()
}
