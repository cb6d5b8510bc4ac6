//! The state of a server before an attack: jobs, and models that the server itself has trained.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Rlimit;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::attack::Scene;
use crate::server::Server;
use crate::wire::{Connection, get, loopback, post};

/// The address of the client that prepares the scenes.
const PREPARER: u8 = 8;

/// The time limit for a job to end or to begin.
const WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// The number of jobs of [`Scene::ManyJobs`].
const JOBS: i64 = 20_000;

/// A binary, and the data folders that its servers start with.
pub struct Side {
    /// The label, `before` or `after`.
    pub label: &'static str,
    pub binary: PathBuf,
    models: TempDir,
    many_jobs: Option<TempDir>,
    long_job: Option<(TempDir, Arc<str>)>,
}

/// A server in its scene.
pub struct Set {
    pub server: Server,
    pub job: Option<Arc<str>>,
    // Dropped after the server that uses it.
    _folder: TempDir,
}

impl Side {
    /// Trains the models, and makes the many jobs or the long one if a scene needs them.
    pub async fn prepare(
        label: &'static str,
        binary: PathBuf,
        scenes: &[Scene],
        files: &Rlimit,
    ) -> Result<Self> {
        let models = tempfile::tempdir()?;
        let server = Server::start(&binary, &data(&models), &[], files)?;
        let wide = json!({ "layers": [{ "type": "dense", "units": 4096 }, { "type": "relu" }, { "type": "dense", "units": 10 }] });
        for (model, network) in [("digits", json!("mlp")), ("best", json!("cnn-best")), ("wide", wide)] {
            let spec = json!({ "model": model, "network": network, "epochs": 1, "train_samples": 1000 });
            let job = post_job(server.address, &spec).await?;
            until(server.address, &job, "succeeded").await?;
        }
        server.stop()?;
        let many_jobs = match scenes.contains(&Scene::ManyJobs) {
            true => Some(many_jobs(&models).await?),
            false => None,
        };
        let long_job = match scenes.contains(&Scene::LongJob) {
            true => Some(long_job(&binary, &models, files).await?),
            false => None,
        };
        Ok(Self { label, binary, models, many_jobs, long_job })
    }

    /// Starts a new server for one attack.
    pub async fn set(&self, scene: Scene, files: &Rlimit) -> Result<Set> {
        let folder = tempfile::tempdir()?;
        let from = match scene {
            Scene::ManyJobs => self.many_jobs.as_ref().context("the jobs were not made")?,
            Scene::LongJob => &self.long_job.as_ref().context("the long job was not made")?.0,
            Scene::Models | Scene::RunningJob => &self.models,
        };
        copy(&data(from), &data(&folder))?;
        // With retention the server would delete the jobs.
        let flags: &[&str] = if scene == Scene::ManyJobs { &["--keep-jobs", "1000000"] } else { &[] };
        let server = Server::start(&self.binary, &data(&folder), flags, files)?;
        let job = match scene {
            Scene::RunningJob => {
                let spec = json!({ "model": "running", "network": "mlp", "epochs": 10_000 });
                let job = post_job(server.address, &spec).await?;
                until(server.address, &job, "running").await?;
                Some(job.into())
            }
            Scene::LongJob => self.long_job.as_ref().map(|(_, job)| Arc::clone(job)),
            Scene::Models | Scene::ManyJobs => None,
        };
        Ok(Set { server, job, _folder: folder })
    }
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

/// Sends one request and returns the response.
pub async fn ask(address: SocketAddr, message: &[u8]) -> Result<(u16, Value)> {
    let mut connection = Connection::open(loopback(PREPARER), address).await?;
    let answer = connection.ask(message).await.map_err(|outcome| anyhow::anyhow!("{outcome}"))?;
    Ok((answer.status, answer.json()))
}

async fn post_job(address: SocketAddr, spec: &Value) -> Result<String> {
    let (status, answer) = ask(address, &post("/v1/jobs", &spec.to_string())).await?;
    answer["id"].as_str().map(str::to_owned).with_context(|| format!("no job of {spec}: {status} {answer}"))
}

/// Waits until the job is in this state.
async fn until(address: SocketAddr, job: &str, state: &str) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while Instant::now() < deadline {
        let (_, answer) = ask(address, &get(&format!("/v1/jobs/{job}"))).await?;
        match answer["state"].as_str() {
            Some(found) if found == state => return Ok(()),
            Some("failed" | "cancelled") => bail!("job {job}: {}", answer["error"]),
            _ => sleep(PAUSE).await,
        }
    }
    bail!("job {job} is not {state} after {WITHIN:?}")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Returns a folder with an ended job of many epochs and the largest number of layers.
async fn long_job(binary: &Path, models: &TempDir, files: &Rlimit) -> Result<(TempDir, Arc<str>)> {
    let folder = tempfile::tempdir()?;
    copy(&data(models), &data(&folder))?;
    let server = Server::start(binary, &data(&folder), &[], files)?;
    let pair = [json!({ "type": "dense", "units": 1 }), json!({ "type": "relu" })];
    let mut layers: Vec<Value> = pair.iter().cycle().take(62).cloned().collect();
    layers.push(json!({ "type": "dense", "units": 10 }));
    let spec = json!({
        "model": "long", "network": { "layers": layers }, "epochs": 3_000, "train_samples": 10, "batch_size": 10,
        "validation_fraction": 0,
    });
    let job = post_job(server.address, &spec).await?;
    until(server.address, &job, "succeeded").await?;
    server.stop()?;
    Ok((folder, job.into()))
}

/// Returns a folder with many copies of the row of an ended job, as after years of use.
async fn many_jobs(models: &TempDir) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    copy(&data(models), &data(&folder))?;
    let options = SqliteConnectOptions::new()
        .filename(data(&folder).join("chainrule.db"))
        .journal_mode(SqliteJournalMode::Wal);
    let mut rows = options.connect().await?;
    let columns = sqlx::query("SELECT name FROM pragma_table_info('jobs')").fetch_all(&mut rows).await?;
    let columns: Vec<String> = columns.iter().map(|row| row.get("name")).collect();
    // These columns must be unique.
    let values = columns.iter().map(|column| match column.as_str() {
        "id" => "substr(id, 1, 24) || printf('%012x', n)",
        "sequence" => "sequence + n",
        "idempotency_key" => "NULL",
        other => other,
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {JOBS}) \
         INSERT INTO jobs ({}) SELECT {values} FROM numbers, (SELECT * FROM jobs ORDER BY sequence DESC LIMIT 1)",
        columns.join(", ")
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&mut rows).await?;
    rows.close().await?;
    Ok(folder)
}
