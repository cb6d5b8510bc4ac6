//! The routes of the Open Inference Protocol: each route of a model has a twin with a version in the path, and errors have
//! their own form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::Code;

const MODEL: &str = "/v2/models/{name}";

/// Adds the routes with a version in the path. They have the same handlers.
pub fn with_versions(mut document: Value) -> Value {
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    let of_models: Vec<(String, Value)> = paths
        .iter()
        .filter_map(|(path, methods)| Some((path.strip_prefix(MODEL)?.to_owned(), methods.clone())))
        .collect();
    for (rest, mut methods) in of_models {
        for operation in methods.as_object_mut().into_iter().flat_map(|methods| methods.values_mut()) {
            for (field, end) in [("operationId", "_of_version"), ("summary", " Of the version in the path.")]
            {
                if let Some(text) = operation[field].as_str() {
                    operation[field] = format!("{text}{end}").into();
                }
            }
            if let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.push(json!({
                    "name": "version",
                    "in": "path",
                    "required": true,
                    "description": "Number of a version, or an alias.",
                    "schema": { "type": "string" }
                }));
            }
        }
        paths.insert(format!("{MODEL}/versions/{{version}}{rest}"), methods);
    }
    document
}

/// Describes the responses with these codes, by status.
pub fn errors(codes: impl Iterator<Item = Code>) -> BTreeMap<u16, Value> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.inference_status()).or_default().push(code);
    }
    by_status.into_iter().map(|(status, codes)| (status, error(&codes))).collect()
}

fn error(codes: &[Code]) -> Value {
    let words: Vec<&str> = codes.iter().map(|code| code.word()).collect();
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.word(), code.meaning())).collect();
    let schema = json!({ "allOf": [
        { "$ref": "#/components/schemas/InferenceError" },
        { "properties": { "code": { "enum": words } } }
    ] });
    json!({ "description": lines.join("\n"), "content": { "application/json": { "schema": schema } } })
}
