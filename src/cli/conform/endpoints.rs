use reqwest::Method;
use serde_json::Value;

use super::cases::{Case, is_refused, succeeds};
use super::seen::Seen;
use super::subject::{Request, Subject};

/// What the asyncio client of Triton accepts.
const CODINGS: &str = "gzip, deflate, br";

/// Health, metadata, and requests for what does not exist.
pub fn cases() -> Vec<Case> {
    let get = |path: &'static str| move |_: &Subject| Ok(Request::get(path));
    let of_model = |rest: &'static str| move |subject: &Subject| Ok(Request::get(subject.path(rest)));
    let of_version =
        |rest: &'static str| move |subject: &Subject| Ok(Request::get(subject.version_path(rest)?));
    let packed =
        |path: &'static str| move |_: &Subject| Ok(Request::get(path).with("Accept-Encoding", CODINGS));
    vec![
        Case::core("server live", get("/v2/health/live"), succeeds),
        Case::core("server ready", get("/v2/health/ready"), succeeds),
        Case::core("server metadata", get("/v2"), describes_server),
        Case::core("server metadata at /v2/", get("/v2/"), describes_server),
        Case::core("server metadata to the asyncio client", packed("/v2"), describes_server),
        Case::core("model metadata", of_model(""), describes_model),
        Case::core("model metadata of a version", of_version(""), describes_model),
        Case::core("model metadata with a query", of_model("?unknown=1"), describes_model),
        Case::core(
            "model metadata to the asyncio client",
            |subject| Ok(Request::get(subject.path("")).with("Accept-Encoding", CODINGS)),
            describes_model,
        ),
        Case::core("model ready", of_model("/ready"), succeeds),
        Case::core("model ready of a version", of_version("/ready"), succeeds),
        Case::core(
            "HEAD",
            |_| Ok(Request { method: Method::HEAD, ..Request::get("/v2/health/live") }),
            |_, seen| match (seen.status, seen.body.len()) {
                (200 | 405, 0) => Ok(()),
                (_, 0) => Err("the status is neither 200 nor 405".to_owned()),
                _ => Err("there is a body".to_owned()),
            },
        ),
        Case::core(
            "OPTIONS",
            |_| Ok(Request { method: Method::OPTIONS, ..Request::get("/v2") }),
            |subject, seen| if matches!(seen.status, 200 | 204) { Ok(()) } else { is_refused(subject, seen) },
        ),
        Case::core("unknown path", get("/v2/nothing"), is_refused),
        Case::core(
            "wrong method",
            |_| Ok(Request { method: Method::DELETE, ..Request::get("/v2/health/live") }),
            is_refused,
        ),
        Case::core("unknown model", get("/v2/models/no-such-model"), is_refused),
        Case::core("unknown model to the asyncio client", packed("/v2/models/no-such-model"), is_refused),
        Case::core("unknown model is not ready", get("/v2/models/no-such-model/ready"), not_ready),
        Case::core("unknown version", of_model("/versions/999999"), is_refused),
        Case::core("unknown version is not ready", of_model("/versions/999999/ready"), not_ready),
    ]
}

/// Clients look only at the status.
fn not_ready(_: &Subject, seen: &Seen) -> Result<(), String> {
    if seen.status >= 400 { Ok(()) } else { Err("the status is below 400".to_owned()) }
}

/// Returns the body if it is plain JSON.
pub fn plain(seen: &Seen) -> Result<Value, String> {
    if seen.status != 200 {
        return Err("the status is not 200".to_owned());
    }
    if seen.is_packed() {
        return Err("the body is compressed, which clients expect of inference only".to_owned());
    }
    seen.json()
}

fn describes_server(_: &Subject, seen: &Seen) -> Result<(), String> {
    let server = plain(seen)?;
    for field in ["name", "version"] {
        if !server[field].is_string() {
            return Err(format!("{field} is not a text"));
        }
    }
    match server["extensions"].as_array() {
        Some(list) if list.iter().all(Value::is_string) => Ok(()),
        _ => Err("extensions is not a list of texts".to_owned()),
    }
}

fn describes_model(subject: &Subject, seen: &Seen) -> Result<(), String> {
    let model = plain(seen)?;
    if model["name"] != subject.model.as_str() {
        return Err(format!("name is {}", model["name"]));
    }
    if !model["platform"].is_string() {
        return Err("platform is not a text".to_owned());
    }
    let is_text = |value: &Value| value.is_string();
    if model["versions"].as_array().is_some_and(|versions| !versions.iter().all(is_text)) {
        return Err("versions are not texts".to_owned());
    }
    for side in ["inputs", "outputs"] {
        let tensors = model[side].as_array().ok_or_else(|| format!("{side} is not a list"))?;
        let is_tensor = |tensor: &Value| {
            tensor["name"].is_string() && tensor["datatype"].is_string() && tensor["shape"].is_array()
        };
        if !tensors.iter().all(is_tensor) {
            return Err(format!("{side} lack a name, datatype or shape"));
        }
    }
    Ok(())
}
