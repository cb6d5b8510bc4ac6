//! Small jobs, and the digests of their weights in undisturbed runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Client, Serve};
use crate::shim::scratch;

/// The time limit for jobs to end, on a busy machine.
pub const ENDED_WITHIN: Duration = Duration::from_secs(120);

/// A job of `epochs` epochs. With 8 hidden units and 400 images an epoch takes milliseconds.
pub fn spec(model: &str, epochs: u32, seed: u32) -> Value {
    json!({
        "model": model, "epochs": epochs, "seed": seed, "train_samples": 400,
        "checkpoint": { "every_epochs": 1, "keep": 2 },
        "network": { "layers": [
            { "type": "dense", "units": 8 }, { "type": "relu" }, { "type": "dense", "units": 10 }
        ] },
    })
}

/// Posts a job, which must be accepted. Returns its id.
pub fn posted(client: &Client, spec: &Value, key: &str) -> String {
    let answer = client.post_job(spec, Some(key)).expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Returns the digests of all listed versions, by the id of their job.
pub fn digests(client: &Client) -> BTreeMap<String, String> {
    let models = client.models().expect("models");
    let versions = models.iter().flat_map(|model| model["versions"].as_array().expect("versions"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    versions.map(|version| (text(&version["job_id"]), text(&version["sha256"]))).collect()
}

/// Returns the digests of undisturbed runs of these specs, by the text of the spec.
pub fn undisturbed(specs: &[Value]) -> HashMap<String, String> {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<&Value> = specs.iter().filter(|spec| !known.contains_key(&spec.to_string())).collect();
    if !missing.is_empty() {
        let folder = scratch();
        // Threads that wait for each other are slow if other processes use the cores.
        let server = Serve::new(folder.path()).args(&["--threads", "1"]).start();
        let client = server.client();
        let ids: Vec<String> = missing.iter().map(|spec| posted(&client, spec, &spec.to_string())).collect();
        for id in &ids {
            let job = client.ended(id, ENDED_WITHIN).expect("an end");
            assert_eq!(job["state"], "succeeded", "{job}");
        }
        let digests = digests(&client);
        known.extend(missing.iter().zip(&ids).map(|(spec, id)| (spec.to_string(), digests[id].clone())));
    }
    let weights = |spec: &Value| (spec.to_string(), known[&spec.to_string()].clone());
    specs.iter().map(weights).collect()
}

/// Returns the specs by their text, as the checker expects them.
pub fn by_text(specs: &[Value]) -> HashMap<String, Value> {
    specs.iter().map(|spec| (spec.to_string(), spec.clone())).collect()
}
