use serde_json::{Value, json};

use super::cases::{Case, Make, Need, infers, infers_or_is_refused, is_refused};
use super::subject::{Request, Subject};

/// How deep the nesting of a case is. Servers may refuse it.
const DEEP: usize = 200;

/// Inference with tensors in JSON.
pub fn cases() -> Vec<Case> {
    let zeros = |subject: &Subject| Ok(subject.infer(&subject.zeros()));
    let typed = |media_type: &'static str| {
        move |subject: &Subject| Ok(subject.infer(&subject.zeros()).with("Content-Type", media_type))
    };
    let option = |name, request| Case::new(name, Need::Option, request, infers);
    vec![
        Case::core("infer without a media type", zeros, infers),
        Case::core("infer as application/json", typed("application/json"), infers),
        option("infer as application/octet-stream", typed("application/octet-stream")),
        option("infer as a form of curl", typed("application/x-www-form-urlencoded")),
        Case::core("infer with nested data", |subject| Ok(subject.infer(&nested(subject))), infers),
        Case::core(
            "infer of a version",
            |subject| Ok(Request::post(subject.version_path("/infer")?, subject.zeros().to_string())),
            infers,
        ),
        Case::core(
            "infer with a query",
            |subject| Ok(Request::post(subject.path("/infer?unknown=1"), subject.zeros().to_string())),
            infers,
        ),
        Case::core(
            "id is returned",
            |subject| with(subject, "id", json!("a-1")),
            |subject, seen| {
                infers(subject, seen)?;
                let (json, _) = seen.inference()?;
                if json["id"] == "a-1" { Ok(()) } else { Err(format!("id is {}", json["id"])) }
            },
        ),
        Case::core(
            "unknown fields are ignored",
            |subject| with(subject, "unknown", json!({ "a": [1] })),
            infers,
        ),
        Case::core(
            "parameters are accepted",
            |subject| with(subject, "parameters", json!({ "a": 1, "b": "c", "d": true, "e": 0.5 })),
            infers,
        ),
        Case::core(
            "only the requested output",
            |subject| {
                let output = subject.outputs.first().ok_or("the metadata has no outputs")?;
                with(subject, "outputs", json!([{ "name": output.name }]))
            },
            |subject, seen| {
                let (_, tensors) = seen.inference()?;
                match tensors.as_slice() {
                    [only] if only.name == subject.outputs[0].name => Ok(()),
                    others => Err(format!("there are {} outputs", others.len())),
                }
            },
        ),
        Case::core(
            "data nested 200 deep",
            |subject| {
                let input = subject.only_input()?;
                let data = input.data(input.count()).into_iter().map(|value| value.to_string());
                let data = data.collect::<Vec<_>>().join(",");
                let mut json = subject.zeros();
                json["inputs"][0]["data"] = json!("DATA");
                let deep = format!("{}{data}{}", "[".repeat(DEEP), "]".repeat(DEEP));
                Ok(Request::post(subject.path("/infer"), json.to_string().replace("\"DATA\"", &deep)))
            },
            infers_or_is_refused,
        ),
    ]
}

/// Requests for inference that must be refused.
pub fn refusals() -> Vec<Case> {
    let body = |body: &'static str| move |subject: &Subject| Ok(Request::post(subject.path("/infer"), body));
    let input = |field: &'static str, value: fn(&Subject) -> Value| {
        move |subject: &Subject| {
            let mut json = subject.zeros();
            json["inputs"][0][field] = value(subject);
            Ok(subject.infer(&json))
        }
    };
    let refused = |name, request: Make| Case::core(name, request, is_refused);
    vec![
        refused(
            "infer of an unknown model",
            Box::new(|subject| {
                Ok(Request::post("/v2/models/no-such-model/infer", subject.zeros().to_string()))
            }),
        ),
        refused(
            "infer of an unknown version",
            Box::new(|subject| {
                Ok(Request::post(subject.path("/versions/999999/infer"), subject.zeros().to_string()))
            }),
        ),
        refused("empty body", Box::new(body(""))),
        refused("body that is not JSON", Box::new(body("{\"inputs\": ["))),
        refused("JSON without inputs", Box::new(body("{}"))),
        refused("no inputs", Box::new(body("{\"inputs\": []}"))),
        refused("unknown input", Box::new(input("name", |_| json!("no-such-input")))),
        refused(
            "unknown output",
            Box::new(|subject| with(subject, "outputs", json!([{ "name": "no-such-output" }]))),
        ),
        refused("unknown datatype", Box::new(input("datatype", |_| json!("FP33")))),
        refused(
            "shape with a negative side",
            Box::new(input("shape", |subject| {
                let mut shape = subject.inputs[0].sent_shape();
                shape[0] = -1;
                json!(shape)
            })),
        ),
        refused(
            "shape that does not fit",
            Box::new(input("shape", |subject| {
                let mut shape = subject.inputs[0].sent_shape();
                shape.push(7);
                json!(shape)
            })),
        ),
        refused(
            "shape whose product overflows",
            Box::new(input("shape", |_| json!([4_294_967_296_u64, 4_294_967_296_u64]))),
        ),
        refused(
            "less data than the shape",
            Box::new(input("data", |subject| {
                let input = &subject.inputs[0];
                json!(input.data(input.count() - 1))
            })),
        ),
        refused(
            "more data than the shape",
            Box::new(input("data", |subject| {
                let input = &subject.inputs[0];
                json!(input.data(input.count() + 1))
            })),
        ),
        refused("input without data", Box::new(input("data", |_| Value::Null))),
        refused("data of another kind", Box::new(input("data", |_| json!([{ "a": 1 }])))),
    ]
}

fn with(subject: &Subject, field: &str, value: Value) -> Result<Request, String> {
    let mut json = subject.zeros();
    json[field] = value;
    Ok(subject.infer(&json))
}

fn nested(subject: &Subject) -> Value {
    let inputs = subject.inputs.iter().map(|input| input.with_data(input.nested()));
    json!({ "inputs": inputs.collect::<Vec<_>>() })
}
