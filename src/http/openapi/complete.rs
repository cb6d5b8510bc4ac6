//! Adds what the handlers don't declare: the problems that every route can return, and which response
//! fields are always present.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::inference;
use crate::api::Code;

/// The extension in which handlers list the codes of their own problems.
const CODES: &str = "x-codes";

/// Statuses with a `Retry-After` header.
const RETRIED: [u16; 2] = [429, 503];

/// Codes that any request can get, even before its route is known.
const ANY: &[Code] = &[
    Code::InvalidHost,
    Code::UnknownHost,
    Code::UnsupportedTransferEncoding,
    Code::Internal,
    Code::TooManyConnections,
];

/// Codes of a request that waits in a lane.
const LANE: &[Code] = &[Code::LaneFull, Code::TooManyBytes];

/// Codes of a request with a body.
const BODY: &[Code] = &[
    Code::BodyCutOff,
    Code::BodyTimeout,
    Code::BodyTooLarge,
    Code::EmptyBody,
    Code::InvalidJson,
    Code::InvalidRequest,
    Code::RequestTooLarge,
    Code::UnsupportedContentEncoding,
    Code::ClientGone,
];

/// Codes of a request with pictures.
const PICTURES: &[Code] = &[
    Code::BlankPicture,
    Code::InvalidImageSize,
    Code::InvalidMultipart,
    Code::InvalidPicture,
    Code::PictureTooLarge,
    Code::TooManyPictures,
];

/// Completes the document.
pub fn complete(mut document: Value) -> Value {
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, methods) in paths {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            let codes = codes(path, method, operation);
            if is_inference(path) {
                for (status, error) in inference::errors(codes.into_iter()) {
                    operation["responses"][status.to_string()] = with_retry(error, status);
                }
            } else {
                add_problems(operation, &codes);
            }
            if method == "get" && operation["responses"].get("204").is_none() {
                operation["responses"]["304"] =
                    json!({ "description": "The client already has this response (`If-None-Match`)." });
            }
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for kind in parameters.into_iter().flatten().filter_map(|each| each.pointer_mut("/schema/type")) {
                // An optional parameter may be absent, but it is never null.
                if let Some([wanted, _]) = kind.as_array_mut().map(Vec::as_mut_slice) {
                    *kind = wanted.take();
                }
            }
            // The doc comment is a sentence. The summary has no full stop.
            if let Some(summary) =
                operation["summary"].as_str().map(|text| text.trim_end_matches('.').to_owned())
            {
                operation["summary"] = summary.into();
            }
        }
    }
    lift_descriptions(&mut document);
    document["components"]["responses"] =
        Code::ALL.iter().map(|&code| (code.word().to_owned(), problem(&[code]))).collect();
    let answers = answers(&document);
    for (name, schema) in document["components"]["schemas"].as_object_mut().into_iter().flatten() {
        if answers.contains(name) {
            require_nullable(schema);
        } else {
            close_variants(schema);
        }
    }
    document
}

/// Moves the description of a nullable field from its schema to the field.
fn lift_descriptions(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            let choice = fields.get_mut("oneOf").and_then(Value::as_array_mut);
            if let Some([wanted, null]) = choice.map(Vec::as_mut_slice)
                && null["type"] == "null"
                && let Some(description) =
                    wanted.as_object_mut().and_then(|wanted| wanted.remove("description"))
            {
                fields.insert("description".to_owned(), description);
            }
            fields.values_mut().for_each(lift_descriptions);
        }
        Value::Array(parts) => parts.iter_mut().for_each(lift_descriptions),
        _ => {}
    }
}

/// Returns every code of an operation: the codes that it lists, and the codes that depend on its kind.
fn codes(path: &str, method: &str, operation: &mut Value) -> BTreeSet<Code> {
    let mut codes = BTreeSet::from_iter(ANY.iter().copied());
    let own = operation.as_object_mut().and_then(|operation| operation.remove(CODES));
    add_named(&mut codes, &own.unwrap_or_default());
    let is_safe = method == "get";
    let is_of_lane = operation["tags"][0] != "operating" && !path.starts_with("/v2/health");
    if !is_safe {
        codes.insert(Code::CrossSite);
    }
    if is_of_lane {
        codes.extend(LANE);
    }
    if is_inference(path) {
        if !is_safe {
            codes.extend([Code::InvalidContentEncoding]);
        }
    } else {
        if !is_safe {
            codes.insert(Code::UnsupportedMediaType);
        }
        if is_of_lane {
            codes.insert(Code::InvalidQuery);
        }
    }
    if path.contains('{') {
        codes.insert(Code::InvalidPath);
    }
    if let Some(content) = operation.pointer("/requestBody/content") {
        codes.extend(BODY);
        if content.get("image/png").is_some() {
            codes.extend(PICTURES);
        }
    }
    codes
}

fn is_inference(path: &str) -> bool {
    path.starts_with("/v2")
}

/// Adds the codes of a list, which may contain lists.
fn add_named(codes: &mut BTreeSet<Code>, named: &Value) {
    match named {
        Value::Array(several) => several.iter().for_each(|named| add_named(codes, named)),
        Value::String(word) => codes.extend(Code::ALL.iter().filter(|code| code.word() == word)),
        _ => {}
    }
}

/// Adds a response for each status of the codes.
fn add_problems(operation: &mut Value, codes: &BTreeSet<Code>) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for &code in codes {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = match codes.as_slice() {
            [one] => json!({ "$ref": format!("#/components/responses/{}", one.word()) }),
            several => problem(several),
        };
    }
}

/// Describes the response with one of these codes, which share a status.
fn problem(codes: &[Code]) -> Value {
    let status = codes[0].status();
    let words: Vec<&str> = codes.iter().map(|code| code.word()).collect();
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.word(), code.meaning())).collect();
    let schema = json!({ "allOf": [
        { "$ref": "#/components/schemas/Problem" },
        { "properties": { "status": { "const": status }, "code": { "enum": words } } }
    ] });
    let problem = json!({ "description": lines.join("\n"), "content": { "application/problem+json": { "schema": schema } } });
    with_retry(problem, status)
}

/// Adds `Retry-After` to the response of a status that has it.
fn with_retry(mut response: Value, status: u16) -> Value {
    if RETRIED.contains(&status) {
        let after = "Seconds after which the client may try again.";
        response["headers"] =
            json!({ "Retry-After": { "description": after, "schema": { "type": "integer", "minimum": 1 } } });
    }
    response
}

/// Returns the names of all schemas that responses use.
fn answers(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for methods in document["paths"].as_object().into_iter().flat_map(Map::values) {
        for operation in methods.as_object().into_iter().flat_map(Map::values) {
            collect(document, &operation["responses"], &mut found);
        }
    }
    for event in ["StateEvent", "Epoch", "Progress", "Problem"] {
        found.insert(event.to_owned());
        collect(document, &document["components"]["schemas"][event], &mut found);
    }
    found
}

/// Adds the names of the schemas that `part` refers to, directly or indirectly.
fn collect(document: &Value, part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            if let Some(name) = reference.and_then(|to| to.strip_prefix("#/components/schemas/"))
                && found.insert(name.to_owned())
            {
                collect(document, &document["components"]["schemas"][name], found);
            }
            fields.values().for_each(|part| collect(document, part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect(document, part, found)),
        _ => {}
    }
}

/// Marks the variants of a request as closed, because the parsers refuse unknown fields.
fn close_variants(schema: &mut Value) {
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten().filter(|variant| variant.get("properties").is_some()) {
        variant["additionalProperties"] = false.into();
    }
}

/// Marks nullable fields as required. Responses write them as null. A field that may be absent is never
/// null.
fn require_nullable(schema: &mut Value) {
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    variants.into_iter().flatten().for_each(require_nullable);
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
    let nullable = fields.iter().filter(|(_, field)| is_nullable(field)).map(|(name, _)| name.clone());
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let mut names: BTreeSet<String> = required.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    names.extend(nullable);
    schema["required"] = names.into_iter().collect();
}

fn is_nullable(field: &Value) -> bool {
    let is_null = |kind: &Value| kind == "null";
    field["type"].as_array().is_some_and(|kinds| kinds.iter().any(is_null))
        || field["oneOf"]
            .as_array()
            .is_some_and(|choices| choices.iter().any(|choice| is_null(&choice["type"])))
}
