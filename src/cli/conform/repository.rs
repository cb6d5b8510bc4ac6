use serde_json::Value;

use super::cases::{Case, Need, infers, is_refused, succeeds};
use super::endpoints::plain;
use super::seen::Seen;
use super::subject::{Request, Subject};

const REPOSITORY: Need = Need::Extension("model_repository");
const STATISTICS: Need = Need::Extension("statistics");
const CONFIGURATION: Need = Need::Extension("model_configuration");

/// The index, loading, statistics and configuration.
pub fn cases() -> Vec<Case> {
    let index = |body: &'static str| move |_: &Subject| Ok(Request::post("/v2/repository/index", body));
    let of_model = |rest: &'static str| move |subject: &Subject| Ok(Request::get(subject.path(rest)));
    vec![
        Case::new("index with an empty body", REPOSITORY, index(""), |subject, seen| {
            lists(subject, seen, "READY")
        }),
        Case::new("index with {}", REPOSITORY, index("{}"), |subject, seen| lists(subject, seen, "READY")),
        Case::new("index of ready models", REPOSITORY, index("{\"ready\": true}"), |subject, seen| {
            lists(subject, seen, "READY")
        }),
        Case::new(
            "index to the asyncio client",
            REPOSITORY,
            |_| Ok(Request::post("/v2/repository/index", "").with("Accept-Encoding", "gzip, deflate, br")),
            |subject, seen| lists(subject, seen, "READY"),
        ),
        Case::new("load with {}", REPOSITORY, load, succeeds),
        Case::new(
            "load of an unknown model",
            REPOSITORY,
            |_| Ok(Request::post("/v2/repository/models/no-such-model/load", "{}")),
            is_refused,
        ),
        Case::new("statistics of a model", STATISTICS, of_model("/stats"), counts),
        Case::new("statistics of all models", STATISTICS, |_| Ok(Request::get("/v2/models/stats")), counts),
        Case::new("configuration", CONFIGURATION, of_model("/config"), |subject, seen| {
            let config = plain(seen)?;
            match config["name"] == subject.model.as_str()
                && config["input"].is_array()
                && config["output"].is_array()
            {
                true => Ok(()),
                false => Err("name, input or output is missing".to_owned()),
            }
        }),
    ]
}

/// Unloading, and loading again.
pub fn unloading() -> Vec<Case> {
    let zeros = |subject: &Subject| Ok(subject.infer(&subject.zeros()));
    vec![
        Case::new(
            "unload",
            REPOSITORY,
            |subject| {
                let body = "{\"parameters\": {\"unload_dependents\": false}}";
                Ok(Request::post(format!("/v2/repository/models/{}/unload", subject.model), body))
            },
            succeeds,
        ),
        Case::new(
            "index after unload",
            REPOSITORY,
            |_| Ok(Request::post("/v2/repository/index", "")),
            |subject, seen| lists(subject, seen, "UNAVAILABLE"),
        ),
        Case::new(
            "an unloaded model is not ready",
            REPOSITORY,
            |subject| Ok(Request::get(subject.path("/ready"))),
            |_, seen| if seen.status >= 400 { Ok(()) } else { Err("the status is below 400".to_owned()) },
        ),
        Case::new("infer of an unloaded model", REPOSITORY, zeros, is_refused),
        Case::new("load after unload", REPOSITORY, load, succeeds),
        Case::new("infer after load", REPOSITORY, zeros, infers),
    ]
}

fn load(subject: &Subject) -> Result<Request, String> {
    Ok(Request::post(format!("/v2/repository/models/{}/load", subject.model), "{}"))
}

/// Checks that the index has the model in this state.
fn lists(subject: &Subject, seen: &Seen, state: &str) -> Result<(), String> {
    let index = plain(seen)?;
    let entries = index.as_array().ok_or("the index is not a list")?;
    let entry = entries.iter().find(|entry| entry["name"] == subject.model.as_str());
    let entry = entry.ok_or_else(|| format!("the index has no {}", subject.model))?;
    if entry["state"] == state { Ok(()) } else { Err(format!("the state is {}", entry["state"])) }
}

/// Checks that the statistics have an entry for the model, which has answered requests before.
fn counts(subject: &Subject, seen: &Seen) -> Result<(), String> {
    let statistics = plain(seen)?;
    let entries = statistics["model_stats"].as_array().ok_or("model_stats is not a list")?;
    let mut own = entries.iter().filter(|entry| entry["name"] == subject.model.as_str()).peekable();
    if own.peek().is_none() {
        return Err(format!("there is no entry for {}", subject.model));
    }
    let has_counted = |entry: &Value| {
        let success = &entry["inference_stats"]["success"];
        entry["inference_count"].as_u64() > Some(0)
            && success["count"].as_u64() > Some(0)
            && success["ns"].is_u64()
    };
    if own.any(has_counted) { Ok(()) } else { Err("nothing is counted".to_owned()) }
}
