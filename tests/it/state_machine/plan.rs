//! SQLite runs the queries of the queue without scanning all jobs: <https://sqlite.org/eqp.html>.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use chainrule::dispatch::Dispatch;
use chainrule::job::JobState;
use chainrule::store::Store;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::{insert, new_job};
use crate::client::Client;
use crate::process::{chainrule, output, text};

const ROWS: u32 = 100_000;

/// The sweep compares files with all jobs. It runs rarely and nothing waits for it.
const OF_ALL_JOBS: &str = "SELECT id, state, attempt FROM jobs";

/// There are only as many running jobs as workers, so any index on the state is good enough.
const OF_WORKERS: &str = "WHERE state = 'running'";

async fn open(folder: &Path) -> Dispatch {
    Dispatch::new(Store::open(&folder.join("chainrule.db")).await.expect("a store"))
}

async fn connect(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("chainrule.db"));
    options.connect().await.expect("a connection")
}

/// Inserts copies of the newest job. One in a hundred is queued, the others have ended.
async fn fill(connection: &mut SqliteConnection) {
    sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)
         INSERT INTO jobs (id, state, model, spec, request_sha256, progress, created_at, finished_at, priority, client,
                           sequence, turn, is_next)
         SELECT printf('00000000-0000-7000-8000-%012x', n), iif(n % 100 = 0, 'queued', 'succeeded'), 'm' || n, spec,
                request_sha256, progress, created_at, iif(n % 100 = 0, NULL, created_at), n % 3,
                'client ' || n % 7, sequence + n, n, n % 100 = 0
         FROM (SELECT * FROM jobs ORDER BY sequence DESC LIMIT 1), numbers",
    )
    .bind(ROWS)
    .execute(connection)
    .await
    .expect("rows");
}

/// The indexes of queued and running jobs. They are as long as the queue, not as the table.
const OF_THE_QUEUE: [&str; 4] = ["jobs_queue", "jobs_running", "jobs_of_model_to_do", "jobs_turns_of_client"];

/// Once an hour retention counts the jobs that it keeps, and reads no further.
const OF_THE_KEPT: &str = "INDEX jobs_ended";

/// The tables that grow with every job.
const TABLES: [&str; 4] = ["jobs", "job_epochs", "job_steps", "models"];

/// Returns the faults of a plan: a scan of all jobs or of all jobs in a state, and a sort of more rows than
/// the jobs that are running or inserted together.
fn faults(plan: &[String]) -> Vec<&String> {
    let is_of_a_batch = plan.iter().any(|line| line.starts_with("SCAN json_each"));
    let is_of_workers =
        plan.iter().any(|line| line.starts_with("SCAN jobs") && line.contains("jobs_running"));
    let is_long = |line: &&String| {
        let is_of_the_queue = line.split(' ').any(|word| OF_THE_QUEUE.contains(&word));
        let scanned = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
        let is_scan = scanned.is_some_and(|table| TABLES.contains(&table)) && !line.ends_with(OF_THE_KEPT);
        let is_of_a_state = line.starts_with("SEARCH jobs ") && line.ends_with("(state=?)");
        (is_scan || is_of_a_state) && !is_of_the_queue
            || line.contains("USE TEMP B-TREE") && !is_of_a_batch && !is_of_workers
    };
    plan.iter().filter(is_long).collect()
}

#[tokio::test]
async fn the_claim_reads_the_first_row_of_its_index_however_many_jobs_there_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let statements = statements(folder.path(), &[]).await;
    let is_of_a_claim = |statement: &&String| statement.starts_with("UPDATE jobs SET state = 'running'");
    let claim = statements.iter().find(is_of_a_claim).expect("a server claims a job");
    let dispatch = open(folder.path()).await;
    let trained = dispatch.store().counts().await.expect("rows").iter().map(|(_, count)| count).sum::<u64>();
    let first = insert(&dispatch, new_job("a", "x", 100)).await;
    let mut connection = connect(folder.path()).await;
    let before = plan(&mut connection, claim).await;
    fill(&mut connection).await;
    let plan = plan(&mut connection, claim).await;
    connection.close().await.expect("closed");
    assert_eq!(plan, before);
    let reads_the_index = |line: &&String| line.contains("INDEX jobs_queue");
    assert_eq!(plan.iter().filter(reads_the_index).count(), 1, "{plan:?}");
    assert!(faults(&plan).is_empty(), "{plan:?}");
    assert_eq!(dispatch.claim().await.expect("rows").map(|job| job.id), Some(first.id));
    let counted: u64 = dispatch.store().counts().await.expect("rows").iter().map(|(_, count)| count).sum();
    assert_eq!(counted, trained + u64::from(ROWS) + 1);
    dispatch.close().await;
}

/// Returns every statement in the log of a server with `flags`. The server accepts a job, trains it,
/// publishes its model and lists everything.
async fn statements(folder: &Path, flags: &[&str]) -> BTreeSet<String> {
    let log = folder.join("log");
    let path = folder.to_str().expect("UTF-8");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", path, "--log-format", "json"];
    let mut serving = chainrule(&[&serve[..], &["--log", "sqlx=debug"], flags].concat())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).expect("a log"))
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(serving.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
    let request =
        r#"{"train_samples": 100, "epochs": 1, "network": {"layers": [{"type": "dense", "units": 10}]}}"#;
    let trained = output(&["train", "--server", &url, "--follow", "--progress", "none", "-q", request]);
    let id = text(&trained.stdout).trim();
    let mut paths = vec![
        format!("/v1/jobs?cursor={id}"),
        "/v1/jobs?model=digits".to_owned(),
        format!("/v1/jobs/{id}/metrics"),
        format!("/v1/jobs/{id}/checkpoints"),
        "/v1/models".to_owned(),
        "/".to_owned(),
    ];
    for state in JobState::ALL {
        paths.push(format!("/v1/jobs?state={state}"));
        paths.push(format!("/v1/jobs?state={state}&model=digits"));
    }
    for path in paths {
        let answer = Client::new().get(format!("{url}{path}")).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
    }
    serving.kill().expect("a process");
    serving.wait().expect("a process");
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let lines = BufReader::new(File::open(&log).expect("a log")).lines();
    let statement = |line: std::io::Result<String>| {
        let entry: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let whole = entry["db.statement"].as_str().map(str::trim).filter(|statement| !statement.is_empty());
        whole.or(entry["summary"].as_str()).map(str::to_owned)
    };
    lines.filter_map(statement).collect()
}

#[tokio::test]
async fn no_statement_on_the_way_of_a_job_or_of_a_list_looks_at_every_job_or_sorts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut statements = statements(folder.path(), &["--keep-jobs", "50"]).await;
    statements.extend(self::statements(folder.path(), &["--keep-jobs", "9999d"]).await);
    for told in [
        "INSERT INTO jobs",
        "UPDATE jobs SET state = 'running'",
        "UPDATE jobs SET state = 'succeeded'",
        "FROM job_counts",
        "FROM jobs WHERE $1 IS NULL AND id < $2 ORDER BY id DESC",
        "FROM jobs WHERE model = $1 AND id < $2 ORDER BY id DESC",
        "finished_at IS NULL AND state = 'queued' AND id < $2 ORDER BY id DESC",
        "finished_at IS NULL AND state = 'queued' AND model = $1 AND id < $2 ORDER BY id DESC",
        "state = 'running' AND id < $2 ORDER BY id DESC",
        "state = 'running' AND model = $1 AND id < $2 ORDER BY id DESC",
        "finished_at IS NOT NULL AND state = 'failed' AND id < $2 ORDER BY id DESC",
        "finished_at IS NOT NULL AND state = 'failed' AND model = $1 AND id < $2 ORDER BY id DESC",
        "OFFSET $2",
        "finished_at < $1",
        "FROM job_epochs INDEXED BY job_epochs_course",
        "FROM job_steps",
        "SELECT name FROM models WHERE revision > $1",
    ] {
        assert!(statements.iter().any(|statement| statement.contains(told)), "{told} in {statements:#?}");
    }
    let mut connection = connect(folder.path()).await;
    fill(&mut connection).await;
    let is_planned = |statement: &&String| {
        let first = statement.split_whitespace().next();
        matches!(first, Some("SELECT" | "UPDATE" | "INSERT" | "DELETE" | "WITH"))
            && ["jobs", "job_epochs", "job_steps", "FROM models"]
                .iter()
                .any(|table| statement.contains(table))
    };
    let is_of_the_way = |statement: &&String| *statement != OF_ALL_JOBS && !statement.ends_with(OF_WORKERS);
    for statement in statements.iter().filter(is_planned).filter(is_of_the_way) {
        let plan = plan(&mut connection, statement).await;
        assert!(faults(&plan).is_empty(), "{statement}\n{plan:#?}");
    }
    let course =
        statements.iter().find(|statement| statement.starts_with("SELECT epoch, record ->>")).expect("told");
    let course = plan(&mut connection, course).await;
    assert!(course.len() == 1 && course[0].contains("INDEX job_epochs_course"), "{course:?}");
    for (slow, count) in [
        ("SELECT id FROM jobs WHERE client = 'x' ORDER BY created_at", 2),
        ("SELECT id FROM jobs WHERE state = 'failed' AND client < 'x' ORDER BY created_at LIMIT 1", 2),
        ("SELECT epoch FROM job_epochs WHERE epoch > 1", 1),
    ] {
        let slow = plan(&mut connection, slow).await;
        assert_eq!(faults(&slow).len(), count, "a plan that scans or sorts is found: {slow:?}");
    }
    connection.close().await.expect("closed");
}

/// SQLite does not show the plan of a trigger, so the test uses its query.
#[tokio::test]
async fn the_next_job_of_a_model_is_found_by_its_index() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path()).await.close().await;
    let mut connection = connect(folder.path()).await;
    let trigger: String = sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = 'jobs_next'")
        .fetch_one(&mut connection)
        .await
        .expect("a trigger");
    let (_, inner) = trigger.split_once("WHERE id =").expect("an inner query");
    let inner = inner.trim().trim_start_matches('(').split_once(");").expect("its end").0;
    let plan = plan(&mut connection, &inner.replace("NEW.model", "'m'")).await;
    assert_eq!(plan, ["SEARCH jobs USING INDEX jobs_of_model_to_do (model=?)"]);
    connection.close().await.expect("closed");
}

async fn plan(connection: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    rows.into_iter().map(|(.., detail)| detail).collect()
}
