//! Short jobs of several kinds of training state, whose weights are known.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Client, Serve};

/// The time limit for a short job on a busy machine.
pub const SOON: Duration = Duration::from_secs(180);

/// The models that the specs publish.
pub const MODELS: [&str; 3] = ["a", "b", "c"];

/// Flags of every server here. With one training thread each, two servers share two cores.
pub const THREADS: [&str; 2] = ["--threads", "1"];

/// A dozen specs by name. There are four kinds for each model, which take from 20 ms to half a second.
pub fn specs() -> &'static HashMap<String, Value> {
    static SPECS: OnceLock<HashMap<String, Value>> = OnceLock::new();
    SPECS.get_or_init(|| {
        let mut specs = HashMap::new();
        for (at, model) in MODELS.iter().enumerate() {
            for kind in 0..4 {
                specs.insert(format!("{model}{kind}"), spec(model, kind, at * 4 + kind));
            }
        }
        specs
    })
}

/// The names of the specs, sorted, so that a seed always selects the same one.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = specs().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The kinds differ in what a checkpoint contains: moments, the stream of dropout, running means, averages.
fn spec(model: &str, kind: usize, seed: usize) -> Value {
    let dense = |units: usize| json!({"type": "dense", "units": units});
    let relu = json!({"type": "relu"});
    let mut spec = match kind {
        0 => json!({"epochs": 2, "train_samples": 200, "checkpoint": {"every_epochs": 1, "keep": 3},
            "network": {"layers": [dense(8), relu, dense(10)]}}),
        1 => json!({"epochs": 4, "train_samples": 600, "checkpoint": {"every_epochs": 1, "keep": 1},
            "network": {"layers": [dense(8), relu, {"type": "dropout", "rate": 0.2}, dense(10)]}}),
        2 => json!({"epochs": 3, "train_samples": 800, "checkpoint": {"every_epochs": 1, "keep": 2},
            "ema_decay": 0.9, "network": {"layers": [dense(8), {"type": "batch_norm"}, relu, dense(10)]}}),
        _ => json!({"epochs": 12, "train_samples": 2000, "checkpoint": {"every_epochs": 2, "keep": 2},
            "network": {"layers": [dense(16), relu, dense(10)]}}),
    };
    spec["model"] = json!(model);
    spec["seed"] = json!(seed);
    spec["batch_size"] = json!(20);
    spec
}

/// The digests of undisturbed runs of [`specs`].
pub fn weights() -> &'static HashMap<String, String> {
    static WEIGHTS: OnceLock<HashMap<String, String>> = OnceLock::new();
    WEIGHTS.get_or_init(|| measured(specs()))
}

/// Measures the digests of undisturbed runs of `specs` on a separate server.
pub fn measured(specs: &HashMap<String, Value>) -> HashMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Serve::new(folder.path()).args(&THREADS).start();
    let client = server.client();
    let posted: Vec<(&String, String)> =
        specs.iter().map(|(name, spec)| (name, post(&client, spec))).collect();
    posted.into_iter().map(|(name, id)| (name.clone(), digest_of(&client, &id))).collect()
}

/// Posts a job. Returns its id.
pub fn post(client: &Client, spec: &Value) -> String {
    let answer = client.post_job(spec, None).expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Waits until a job has succeeded. Returns the digest of its model.
pub fn digest_of(client: &Client, id: &str) -> String {
    let job = client.ended(id, SOON).unwrap_or_else(|job| panic!("the job has not ended: {job}"));
    assert_eq!(job["state"], "succeeded", "{job}");
    let version = version_of(client, id).unwrap_or_else(|| panic!("no version of job {id}"));
    version["sha256"].as_str().expect("a digest").to_owned()
}

/// Returns the version that a job published, as its model lists it.
pub fn version_of(client: &Client, job: &str) -> Option<Value> {
    let models = client.models().ok()?;
    let mut versions = models.iter().flat_map(|model| model["versions"].as_array().into_iter().flatten());
    versions.find(|version| version["job_id"] == job).cloned()
}
