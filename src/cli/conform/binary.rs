use serde_json::{Value, json};

use super::cases::{Case, Need, infers, is_refused};
use super::seen::{JSON_LENGTH, Seen};
use super::subject::{Request, Subject, Tensor};

const BINARY: Need = Need::Extension("binary_tensor_data");
const CLASSIFICATION: Need = Need::Extension("classification");

/// The texts of a classification that asks for more classes than there are.
const MANY: u64 = 1_000_000;

/// The extensions `binary_tensor_data` and `classification`.
pub fn cases() -> Vec<Case> {
    let refused =
        |name, request: fn(&Subject) -> Result<Request, String>| Case::new(name, BINARY, request, is_refused);
    let mut cases = vec![
        Case::new("binary inputs", BINARY, |subject| Ok(binary(subject, &json!({}), 0)), infers),
        Case::new(
            "binary inputs and outputs",
            BINARY,
            |subject| Ok(binary(subject, &json!({ "parameters": { "binary_data_output": true } }), 0)),
            are_binary,
        ),
        Case::new(
            "binary outputs of JSON",
            BINARY,
            |subject| {
                let outputs = subject.outputs.iter();
                let outputs = outputs
                    .map(|output| json!({ "name": output.name, "parameters": { "binary_data": true } }));
                let mut json = subject.zeros();
                json["outputs"] = outputs.collect();
                Ok(subject.infer(&json))
            },
            are_binary,
        ),
        Case::new("binary and JSON inputs interleaved", BINARY, interleaved, infers),
        Case::new(
            "bytes without JSON",
            BINARY,
            |subject| {
                let input = subject.only_input()?;
                if input.shape.iter().filter(|side| **side < 0).count() > 1 {
                    return Err("the input has several variable sides".to_owned());
                }
                Ok(Request::post(subject.path("/infer"), input.raw()).with(JSON_LENGTH, 0))
            },
            are_binary,
        ),
        refused("header longer than the body", |subject| {
            let json = subject.zeros().to_string();
            Ok(Request::post(subject.path("/infer"), json.clone()).with(JSON_LENGTH, json.len() + 1))
        }),
        refused("header that is not a number", |subject| {
            Ok(subject.infer(&subject.zeros()).with(JSON_LENGTH, "many"))
        }),
        refused("a byte is missing", |subject| Ok(binary(subject, &json!({}), -1))),
        refused("a byte is left", |subject| Ok(binary(subject, &json!({}), 1))),
        refused("binary_data_size one less than the shape", |subject| Ok(sized(subject, -1))),
        refused("binary_data_size one more than the shape", |subject| Ok(sized(subject, 1))),
        refused("binary_data_size and data", |subject| {
            let mut json = subject.zeros();
            let raw = subject.inputs[0].raw();
            json["inputs"][0]["parameters"] = json!({ "binary_data_size": raw.len() });
            Ok(joined(subject, &json, &raw))
        }),
        refused("bytes whose shape overflows", |subject| {
            let mut json = json!({ "inputs": [subject.inputs[0].with_bytes(8)] });
            json["inputs"][0]["shape"] = json!([4_294_967_296_u64, 4_294_967_296_u64]);
            Ok(joined(subject, &json, &[0; 8]))
        }),
    ];
    cases.extend(classifications());
    cases
}

fn classifications() -> [Case; 4] {
    let ask = |classes: Value, is_binary: bool| {
        move |subject: &Subject| {
            let output = classes_of(subject)?;
            let parameters = json!({ "classification": classes, "binary_data": is_binary });
            let mut json = subject.zeros();
            json["outputs"] = json!([{ "name": output.name, "parameters": parameters }]);
            Ok(subject.infer(&json))
        }
    };
    [
        Case::new("classification in JSON", CLASSIFICATION, ask(json!(1), false), |_, seen| {
            is_classified(seen, Some(1))
        }),
        Case::new("classification as bytes", CLASSIFICATION, ask(json!(1), true), |_, seen| {
            is_classified(seen, Some(1))
        }),
        Case::new(
            "classification of more classes than there are",
            CLASSIFICATION,
            ask(json!(MANY), false),
            |subject, seen| {
                let sides = &classes_of(subject)?.shape;
                is_classified(seen, sides.last().filter(|side| **side > 0).map(|side| *side as usize))
            },
        ),
        Case::new("classification of a text", CLASSIFICATION, ask(json!("many"), false), is_refused),
    ]
}

/// Returns the first output with numbers for several classes.
fn classes_of(subject: &Subject) -> Result<&Tensor, String> {
    let has_classes = |output: &&Tensor| output.datatype.starts_with("FP") && output.shape.len() == 2;
    subject.outputs.iter().find(has_classes).ok_or_else(|| "no output has numbers for classes".to_owned())
}

/// Checks that the only output is a list of texts `value:index` or `value:index:name`, best first.
fn is_classified(seen: &Seen, classes: Option<usize>) -> Result<(), String> {
    let (_, tensors) = seen.inference()?;
    let [tensor] = tensors.as_slice() else { return Err(format!("there are {} outputs", tensors.len())) };
    if tensor.datatype != "BYTES" {
        return Err(format!("the datatype is {}", tensor.datatype));
    }
    if classes.is_some_and(|classes| tensor.count != classes) {
        return Err(format!("there are {} texts", tensor.count));
    }
    let mut values = Vec::new();
    for text in &tensor.texts {
        let mut parts = text.split(':');
        let value: Option<f64> = parts.next().and_then(|value| value.parse().ok());
        let index: Option<u64> = parts.next().and_then(|index| index.parse().ok());
        let (Some(value), Some(_)) = (value, index) else {
            return Err(format!("{text:?} is not value:index"));
        };
        values.push(value);
    }
    if values.is_sorted_by(|a, b| a >= b) { Ok(()) } else { Err("the best is not first".to_owned()) }
}

/// Checks that all outputs follow as bytes.
fn are_binary(subject: &Subject, seen: &Seen) -> Result<(), String> {
    infers(subject, seen)?;
    let (_, tensors) = seen.inference()?;
    match tensors.iter().find(|tensor| !tensor.is_binary) {
        Some(tensor) => Err(format!("{} of shape {:?} is in JSON", tensor.name, tensor.shape)),
        None => Ok(()),
    }
}

/// Returns a request of JSON, followed by bytes.
fn joined(subject: &Subject, json: &Value, bytes: &[u8]) -> Request {
    let json = json.to_string();
    let body = [json.as_bytes(), bytes].concat();
    Request::post(subject.path("/infer"), body).with(JSON_LENGTH, json.len())
}

/// Returns a request with all inputs as bytes, of which `more` are added or left out at the end.
pub fn binary(subject: &Subject, fields: &Value, more: isize) -> Request {
    let mut json = fields.clone();
    let mut bytes: Vec<u8> = subject.inputs.iter().flat_map(Tensor::raw).collect();
    json["inputs"] = subject.inputs.iter().map(|input| input.with_bytes(input.raw().len())).collect();
    bytes.resize(bytes.len().saturating_add_signed(more), 0);
    joined(subject, &json, &bytes)
}

/// Returns a request whose first input has `more` bytes than its shape.
fn sized(subject: &Subject, more: isize) -> Request {
    let raw: Vec<Vec<u8>> = subject.inputs.iter().map(Tensor::raw).collect();
    let length = |index: usize| match index {
        0 => raw[0].len().saturating_add_signed(more),
        _ => raw[index].len(),
    };
    let inputs = subject.inputs.iter().enumerate().map(|(index, input)| input.with_bytes(length(index)));
    let json = json!({ "inputs": inputs.collect::<Vec<_>>() });
    let bytes: Vec<u8> = raw
        .iter()
        .enumerate()
        .flat_map(|(index, bytes)| {
            let mut bytes = bytes.clone();
            bytes.resize(length(index), 0);
            bytes
        })
        .collect();
    joined(subject, &json, &bytes)
}

/// Returns a request whose second input is JSON between two binary ones.
fn interleaved(subject: &Subject) -> Result<Request, String> {
    let [first, second, third, rest @ ..] = subject.inputs.as_slice() else {
        return Err(format!("the model has {} inputs, not three", subject.inputs.len()));
    };
    let mut inputs = vec![
        first.with_bytes(first.raw().len()),
        second.with_data(second.data(second.count())),
        third.with_bytes(third.raw().len()),
    ];
    inputs.extend(rest.iter().map(|input| input.with_data(input.data(input.count()))));
    Ok(joined(subject, &json!({ "inputs": inputs }), &[first.raw(), third.raw()].concat()))
}
