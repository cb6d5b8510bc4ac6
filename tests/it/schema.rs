//! The document of the API as a judge of answers: what it does not say of an answer is a fault.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use chainrule::http::openapi;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The document, in which no object may have a field that its schema does not name: a client may be given more some day, but
/// not by this server.
static SEALED: LazyLock<Value> = LazyLock::new(|| {
    let mut document = openapi::document().clone();
    seal(&mut document["components"]["schemas"]);
    document
});

/// Statuses and codes of requests that come to no operation: for no route, or refused before one is looked for.
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

/// The operation that answers to `method` at `path`, in the document.
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

/// An answer, as far as the document speaks of it.
pub struct Answer<'a> {
    pub status: u16,
    /// Without parameters; none for an answer without a body.
    pub media_type: Option<&'a str>,
    /// None if it is not looked at.
    pub body: Option<&'a [u8]>,
}

/// Holds an answer against the document.
///
/// # Errors
/// If the document does not say that the operation answers so.
pub fn check(method: &str, path: &str, answer: &Answer) -> Result<(), String> {
    let Answer { status, media_type, body } = *answer;
    let Some(operation) = operation(method, path) else { return unrouted(body) };
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

/// Holds the answer to a request without an operation against what every path answers with.
fn unrouted(body: Option<&[u8]>) -> Result<(), String> {
    let Some(body) = body else { return Ok(()) };
    let problem = parsed(body)?;
    validate(&json!({ "$ref": "#/components/schemas/Problem" }), &problem)?;
    let code = problem["code"].as_str().unwrap_or_default();
    if UNROUTED.contains(&code) { Ok(()) } else { Err(format!("{code} without an operation")) }
}

fn parsed(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))
}

/// What a reference to a response means.
fn resolved(response: &'static Value) -> &'static Value {
    match response["$ref"].as_str() {
        Some(reference) => SEALED.pointer(reference.trim_start_matches('#')).expect("a response"),
        None => response,
    }
}

/// Holds a value against a schema of the document.
///
/// # Errors
/// Every place where it differs.
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
