//! Validates responses against the OpenAPI document. Anything that the document does not have is a fault.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chainrule::http::openapi;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The document, changed so that objects may only have the fields that their schemas name. Later versions may
/// add fields, but this version must not.
static SEALED: LazyLock<Value> = LazyLock::new(|| {
    let mut document = openapi::document().clone();
    seal(&mut document["components"]["schemas"]);
    document
});

/// Statuses and codes of requests without an operation. Such a request has no route, or was refused before
/// routing.
const UNROUTED: [&str; 8] = [
    "cross_site",
    "internal",
    "invalid_host",
    "method_not_allowed",
    "too_many_connections",
    "unknown_host",
    "unknown_path",
    "unsupported_transfer_encoding",
];

fn seal(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(seal);
            if fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(seal),
        _ => {}
    }
}

/// Returns the operation of the document for `method` and `path`.
pub fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    let paths = SEALED["paths"].as_object().expect("paths");
    let template =
        paths.keys().filter(|template| matches(template, path)).min_by_key(|path| path.matches('{').count());
    paths[template?].get(&method)
}

fn matches(template: &str, path: &str) -> bool {
    let (wanted, found): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(wanted, found): (&&str, &&str)| match wanted.starts_with('{') {
        true => !found.is_empty(),
        false => wanted == found,
    };
    wanted.len() == found.len() && wanted.iter().zip(&found).all(fits)
}

/// The parts of a response that the document describes.
pub struct Answer<'a> {
    pub status: u16,
    /// The media type without parameters, or `None` without a body.
    pub media_type: Option<&'a str>,
    /// The body, or `None` if it is not validated.
    pub body: Option<&'a [u8]>,
}

/// Validates a response against the document.
///
/// # Errors
/// Returns an error if the document does not allow this response for the operation.
pub fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let Answer { status, media_type, body } = *answer;
    let Some(operation) = operation(method, path) else { return unrouted(path, body) };
    let response = operation["responses"].get(status.to_string());
    let response = resolved(response.ok_or_else(|| format!("the status {status} is not declared"))?);
    let content = response.get("content").and_then(Value::as_object);
    let Some(media_type) = media_type else {
        return match content.is_none() || body.is_none() {
            true => Ok(()),
            false => Err(format!("{status} comes without a body")),
        };
    };
    let content = content.and_then(|content| content.get(media_type));
    let content = content.ok_or_else(|| format!("{status} does not declare {media_type}"))?;
    match body {
        Some(body) if media_type.ends_with("json") => validate(&content["schema"], &parsed(body)?),
        _ => Ok(()),
    }
}

/// Validates the response to a request without an operation.
fn unrouted(path: &str, body: Option<&[u8]>) -> Result<(), String> {
    let Some(body) = body else { return Ok(()) };
    let problem = parsed(body)?;
    let is_inference = path == "/v2" || path.starts_with("/v2/");
    let form = if is_inference { "InferenceError" } else { "Problem" };
    validate(&json!({ "$ref": format!("#/components/schemas/{form}") }), &problem)?;
    let code = problem["code"].as_str().unwrap_or_default();
    if UNROUTED.contains(&code) { Ok(()) } else { Err(format!("{code} without an operation")) }
}

fn parsed(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))
}

/// Resolves a reference to a response.
fn resolved(response: &'static Value) -> &'static Value {
    match response["$ref"].as_str() {
        Some(reference) => SEALED.pointer(reference.trim_start_matches('#')).expect("a response"),
        None => response,
    }
}

/// Validates a value against a schema of the document.
///
/// # Errors
/// Returns every difference.
pub fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    static VALIDATORS: Mutex<Option<HashMap<String, Arc<Validator>>>> = Mutex::new(None);
    let name = schema.to_string();
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators.get_or_insert_default().entry(name).or_insert_with(|| {
        let mut schema: Map<String, Value> = schema.as_object().expect("a schema").clone();
        schema.insert("components".to_owned(), SEALED["components"].clone());
        Arc::new(jsonschema::validator_for(&Value::Object(schema)).expect("a schema"))
    });
    let validator = Arc::clone(validator);
    drop(validators);
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|error| {
            format!("{}: {}", error.instance_path(), error.to_string().chars().take(300).collect::<String>())
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}
