//! Reads the final state of a server and its folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{History, JobSeen, NEVER, Seen, VersionSeen, What, sha256};
use crate::process::{Client, output, poll};

/// The time limit for the sweep at a start.
const SWEPT_WITHIN: Duration = Duration::from_secs(10);

/// Waits until no job is queued or running.
///
/// # Errors
/// Returns the jobs that have not ended after `within`, or the error of the connection.
pub fn all_ended(client: &Client, within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let mut last = String::new();
    let ended = poll(within, || {
        for state in ["queued", "running"] {
            let answer = client.get(&format!("/v1/jobs?limit=1&state={state}"));
            let Ok(answer) = answer.inspect_err(|error| last = error.to_string()) else { return None };
            let body = answer.json();
            let id = match body["jobs"].as_array().map(Vec::as_slice) {
                Some([]) => continue,
                Some([job, ..]) => job["id"].as_str().unwrap_or_default().to_owned(),
                None => {
                    last = answer.text();
                    return None;
                }
            };
            // One long poll of a job replaces many polls of the whole list.
            let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64().clamp(0.0, 5.0);
            let waited = client.get(&format!("/v1/jobs/{id}?wait_seconds={left:.1}"));
            last = waited.map_or_else(|error| error.to_string(), |answer| answer.text());
            return None;
        }
        Some(())
    });
    ended.ok_or(format!("jobs have not ended within {within:?}: {last}"))
}

/// Waits until all jobs have ended. Then observes.
///
/// # Errors
/// Returns what could not be awaited or read.
pub fn settled(
    client: &Client,
    folder: &Path,
    history: &History,
    specs: &HashMap<String, Value>,
    within: Duration,
) -> Result<Seen, String> {
    all_ended(client, within)?;
    observe(client, folder, history, specs).map_err(|error| format!("the server can't be read: {error}"))
}

/// Reads all jobs, models, aliases and files. Posts each key of `history` whose job exists once more, with
/// the spec that `specs` has under the key's spec name.
///
/// # Errors
/// Returns an error if the server does not respond.
pub fn observe(
    client: &Client,
    folder: &Path,
    history: &History,
    specs: &HashMap<String, Value>,
) -> io::Result<Seen> {
    let mut seen = Seen::default();
    seen.jobs = client.jobs()?.iter().map(JobSeen::from_json).collect();
    seen.keys = keys(client, history, &seen.jobs, specs)?;
    for job in seen.jobs.iter().filter(|job| job.state == "succeeded") {
        seen.epochs.insert(job.id.clone(), epochs(client, &job.id)?);
    }
    let files = files_by_job(folder)?;
    for model in client.models()? {
        let name = model["name"].as_str().unwrap_or_default();
        for (alias, version) in model["aliases"].as_object().into_iter().flatten() {
            let version = version.as_u64().unwrap_or_default();
            seen.aliases.insert((name.to_owned(), alias.clone()), version);
        }
        for version in model["versions"].as_array().into_iter().flatten() {
            seen.versions.push(version_seen(client, name, version, &files)?);
        }
    }
    let mut strays = Vec::new();
    poll(SWEPT_WITHIN, || {
        strays = match stray_files(client, folder, &seen) {
            Ok(strays) => strays,
            Err(error) => vec![format!("the folder can't be read: {error}")],
        };
        strays.is_empty().then_some(())
    });
    seen.stray_files = strays;
    Ok(seen)
}

/// Returns the epochs in the metrics of a job.
fn epochs(client: &Client, id: &str) -> io::Result<Vec<u64>> {
    let epochs = client.all(&format!("/v1/jobs/{id}/metrics"), "epochs")?;
    Ok(epochs.iter().filter_map(|epoch| epoch["epoch"].as_u64()).collect())
}

/// Asserts with `chainrule check` that `folder` is sound.
///
/// # Errors
/// Returns the exit status and the output of the command.
pub fn check_command(folder: &Path) -> Result<(), String> {
    let folder = folder.to_str().expect("a folder in UTF-8");
    let output = output(&["check", "--data-dir", folder]);
    if output.status.success() {
        return Ok(());
    }
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("chainrule check: {}\n{stdout}{stderr}", output.status))
}

/// Returns the paths of all files under `folder`, relative to it and sorted. Skips a folder that is deleted
/// meanwhile.
///
/// # Errors
/// Returns an error if a folder can't be read.
pub fn files_under(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let entries = match std::fs::read_dir(&inner) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(folder).expect("a path below its folder");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn version_seen(
    client: &Client,
    model: &str,
    version: &Value,
    files: &BTreeMap<String, Vec<String>>,
) -> io::Result<VersionSeen> {
    let number = version["version"].as_u64().unwrap_or_default();
    let job_id = version["job_id"].as_str().unwrap_or_default().to_owned();
    let answer = client.predict(&format!("{model}@{number}"))?;
    Ok(VersionSeen {
        model: model.to_owned(),
        version: number,
        sha256: version["sha256"].as_str().unwrap_or_default().to_owned(),
        answer: match answer.status {
            200 => Ok(answer.json()["predictions"].to_string()),
            status => Err(format!("{status} {}", answer.text())),
        },
        files: files.get(&job_id).cloned().unwrap_or_default(),
        job_id,
    })
}

/// Returns the job of a model's file: `{name}/{version}-{job id}-{attempt}.safetensors`.
fn job_of(file: &str) -> Option<&str> {
    let (_, name) = file.rsplit_once('/')?;
    let (_, name) = name.split_once('-')?;
    name.rsplit_once('-').map(|(job, _)| job)
}

/// Returns the digests of the model files of each job.
fn files_by_job(folder: &Path) -> io::Result<BTreeMap<String, Vec<String>>> {
    let models = folder.join("blobs/models");
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in files_under(&models)? {
        if let Some(job) = job_of(&name)
            && let Ok(bytes) = std::fs::read(models.join(&name))
        {
            files.entry(job.to_owned()).or_default().push(sha256(&bytes));
        }
    }
    Ok(files)
}

/// Describes temporary files, files that belong to no job or version, and missing files of checkpoints.
fn stray_files(client: &Client, folder: &Path, seen: &Seen) -> io::Result<Vec<String>> {
    let blobs = folder.join("blobs");
    let jobs: BTreeSet<&str> = seen.jobs.iter().map(|job| job.id.as_str()).collect();
    let models: BTreeSet<&str> = seen.versions.iter().map(|version| version.job_id.as_str()).collect();
    let mut strays = Vec::new();
    let mut checkpoints: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in files_under(&blobs)? {
        let owned = match name.split('/').collect::<Vec<_>>().as_slice() {
            _ if name.contains('#') => false,
            ["models", _, _] => job_of(&name).is_some_and(|job| models.contains(job)),
            ["jobs", job, _] => {
                checkpoints.entry((*job).to_owned()).or_default().push(name.clone());
                jobs.contains(job)
            }
            _ => false,
        };
        if !owned {
            strays.push(format!("{name} belongs to nothing"));
        }
    }
    for job in jobs {
        let answer = client.get(&format!("/v1/jobs/{job}/checkpoints"))?.json();
        let listed = answer["checkpoints"].as_array().into_iter().flatten();
        let mut listed: Vec<&str> = listed.map(|one| one["sha256"].as_str().unwrap_or_default()).collect();
        for name in checkpoints.remove(job).unwrap_or_default() {
            let digest = std::fs::read(blobs.join(&name)).map(|bytes| sha256(&bytes)).unwrap_or_default();
            match listed.iter().position(|one| *one == digest) {
                Some(at) => drop(listed.swap_remove(at)),
                None => strays.push(format!("{name} is no listed checkpoint of its job")),
            }
        }
        strays.extend(listed.iter().map(|one| format!("checkpoint {one} of job {job} has no file")));
    }
    Ok(strays)
}

/// Returns the job that each key returns now. Skips a key whose job was deleted or never acknowledged,
/// because it would create a new job.
fn keys(
    client: &Client,
    history: &History,
    jobs: &[JobSeen],
    specs: &HashMap<String, Value>,
) -> io::Result<BTreeMap<String, Result<String, String>>> {
    let jobs: BTreeSet<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let events = history.events();
    let deleted = |id: &str| {
        events.iter().any(|event| matches!(&event.what, What::Deleted { id: other } if other == id))
    };
    let mut keys = BTreeMap::new();
    for event in events.iter().filter(|event| event.told != NEVER) {
        let What::Posted { key, spec, id: Some(id) } = &event.what else { continue };
        let Some(body) = specs.get(spec) else { continue };
        if keys.contains_key(key) || !jobs.contains(id.as_str()) || deleted(id) {
            continue;
        }
        let answer = client.post_job(body, Some(key))?;
        let told = match (answer.status, answer.json()["id"].as_str()) {
            (202, Some(id)) => Ok(id.to_owned()),
            (status, _) => Err(format!("{status} {}", answer.text())),
        };
        keys.insert(key.clone(), told);
    }
    Ok(keys)
}
