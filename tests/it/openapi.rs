//! The OpenAPI document agrees with the router, the parsers and the responses of all tests, and with the README and `docs/api.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chainrule::http::openapi::document;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{output, text};
use crate::raw;
use crate::schema::{self, Answer};
use crate::server::{TestServer, quick};

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file")
}

/// Returns every operation of the document by its name, such as `GET /path`.
fn operations() -> BTreeMap<String, &'static Value> {
    let paths = document()["paths"].as_object().expect("paths");
    let of_path = |(path, methods): (&'static String, &'static Value)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

/// Removes the names of path parameters, because the router has one name for `{ref}` and `{name}`.
fn without_names(operation: &str) -> String {
    let parts = operation.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns every method and path of the table of routes in `text`.
fn routes(text: &str) -> BTreeSet<String> {
    let compact: String = text.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for (at, start) in compact.match_indices(".route(\"") {
        let route = &compact[at + start.len()..];
        let (path, rest) = route.split_once('"').expect("a path");
        let end = rest.find(".route(").or_else(|| rest.find(".fallback(")).unwrap_or(rest.len());
        for method in ["get", "post", "put", "delete", "patch"] {
            let call = format!("{method}(");
            let mut calls = rest[..end].match_indices(&call);
            if calls.any(|(at, _)| !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
                found.insert(without_names(&format!("{} {path}", method.to_uppercase())));
            }
        }
    }
    found
}

#[test]
fn the_document_has_every_route_of_the_router_and_no_other() {
    let documented: BTreeSet<String> =
        operations().keys().map(|operation| without_names(operation)).collect();
    assert_eq!(documented, routes(&read("src/http/mod.rs")));
    let twin = ".route(\"/a/{id}\", read(delete(jobs::get_it)).merge(look(get(jobs::show))))\n.route(\"/b\", json(post(b)))";
    let expected = ["DELETE /a/{}", "GET /a/{}", "POST /b"].map(str::to_owned);
    assert_eq!(routes(twin), BTreeSet::from(expected));
}

#[test]
fn the_readme_has_every_operation_with_its_summary_and_no_other() {
    let readme = read("README.md");
    let table =
        readme.split("## Every route").nth(1).and_then(|rest| rest.split("\n\n").nth(2)).expect("a table");
    let rows: BTreeMap<String, String> = table
        .lines()
        .skip(2)
        .map(|line| {
            let (operation, summary) = line.trim_matches(['|', ' ']).split_once(" | ").expect("two cells");
            (operation.trim_matches('`').to_owned(), summary.trim().to_owned())
        })
        .collect();
    let documented: BTreeMap<String, String> = operations()
        .into_iter()
        .map(|(name, operation)| (name, operation["summary"].as_str().expect("a summary").to_owned()))
        .collect();
    assert_eq!(rows, documented);
}

#[test]
fn the_page_of_the_api_is_the_document() {
    let page = text(&output(&["openapi", "--markdown"]).stdout).to_owned();
    let is_same = page == read("docs/api.md");
    assert!(is_same, "docs/api.md is old; run: cargo run -- openapi --markdown > docs/api.md");
}

#[test]
fn the_command_line_prints_the_document_without_a_server() {
    for arguments in [&["openapi"][..], &["openapi", "--json"]] {
        let printed: Value = serde_json::from_slice(&output(arguments).stdout).expect("JSON");
        assert_eq!(&printed, document());
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_a_summary_and_descriptions() {
    let mut names = BTreeSet::new();
    for (name, operation) in operations() {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(names.insert(id), "{id} twice");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty() && !summary.contains('\n'), "{name}: {summary}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
        for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            let has_example = content.get("example").is_some() || content.get("examples").is_some();
            assert!(has_example || media_type == "image/jpeg", "{name}: no example of {media_type}");
        }
    }
    for (name, schema) in document()["components"]["schemas"].as_object().expect("schemas") {
        assert!(schema["description"].is_string(), "{name}");
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        for schema in variants.chain([schema]) {
            for (field, schema) in
                schema["properties"].as_object().into_iter().flatten().filter(|(field, _)| *field != "type")
            {
                assert!(schema["description"].is_string(), "{name}.{field}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_sent_from_memory() {
    let server = TestServer::start(&[]).await;
    let response = server.get("/openapi.json").await;
    let tag = response.headers()["etag"].clone();
    assert_eq!(response.headers()["cache-control"], "no-cache");
    assert_eq!(&response.json::<Value>().await.expect("JSON"), document());
    let again = server.http.get(server.path("/openapi.json")).header("If-None-Match", tag).send();
    assert_eq!(again.await.expect("an answer").status(), StatusCode::NOT_MODIFIED);
    let packed = server.http.get(server.path("/openapi.json")).header("Accept-Encoding", "gzip").send();
    let packed = packed.await.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.bytes().await.expect("bytes").len() < document().to_string().len() / 4);
    let head =
        server.http.request(Method::HEAD, server.path("/openapi.json")).send().await.expect("an answer");
    assert_eq!(head.headers()["content-length"], document().to_string().len().to_string());
    assert_eq!(head.bytes().await.expect("none").len(), 0);
    let posted = server.post("/openapi.json", "application/json", "{}").await;
    assert_eq!(
        (posted.status(), &posted.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET,HEAD".parse().expect("a value"))
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_the_document_is_charged_for_its_connection_only() {
    let server = TestServer::start(&[]).await;
    let ask = async |connection: &mut TcpStream, path: &str, until: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut found = String::new();
        while !found.contains(until) {
            found.push(char::from(connection.read_u8().await.expect("a byte")));
        }
    };
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(raw::connect(&server).await);
    }
    for connection in &mut connections {
        ask(connection, "/healthz", "}").await;
    }
    let idle = server.app().admission().memory_bytes();
    for connection in &mut connections {
        ask(connection, "/openapi.json", "\"components\"").await;
    }
    assert_eq!(server.app().admission().memory_bytes(), idle);
    drop(connections);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_body_is_accepted() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let png = server.http.get(server.path("/v1/datasets/mnist/test/0")).header("Accept", "image/png").send();
    let png = png.await.expect("an answer").bytes().await.expect("a picture").to_vec();
    let mut tried = 0;
    for (name, operation) in operations() {
        let (method, path) = name.split_once(' ').expect("a method and a path");
        let names = [("{ref}", "digits"), ("{name}", "digits"), ("{alias}", "champion"), ("{version}", "1")];
        let path = names.iter().fold(path.to_owned(), |path, (name, word)| path.replace(name, word));
        for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            let examples =
                content["examples"].as_object().into_iter().flatten().map(|(_, example)| example.clone());
            let alone = content.get("example").map(|example| json!({ "value": example }));
            for example in examples.chain(alone) {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                let request = server.http.request(method, server.path(&path));
                let request = match (media_type.as_str(), &example["value"]) {
                    ("application/json", body) => {
                        let checked = schema::validate(&content["schema"], body);
                        checked.unwrap_or_else(|fault| panic!("{name}: {fault}\n{body}"));
                        request.json(body)
                    }
                    ("multipart/form-data", form) => {
                        let files = form["image"].as_array().expect("files").iter();
                        let part = |_| Part::bytes(png.clone()).file_name("digit.png");
                        request.multipart(
                            files.map(part).fold(Form::new(), |form, part| form.part("image", part)),
                        )
                    }
                    ("image/png", _) => {
                        assert_eq!(example["externalValue"], "/v1/datasets/mnist/test/0");
                        request.header("Content-Type", "image/png").body(png.clone())
                    }
                    (other, body) => {
                        let body = body.as_str().expect("bytes").to_owned();
                        request.header("Content-Type", other).body(body)
                    }
                };
                let response = request.send().await.expect("an answer");
                let status = response.status();
                assert!(status.is_success(), "{name}: {}\n{example}", response.text().await.expect("text"));
                if path == "/v1/jobs" {
                    let job: Value = response.json().await.expect("a job");
                    let id = job["id"].as_str().expect("an id");
                    server
                        .http
                        .post(server.path(&format!("/v1/jobs/{id}/cancel")))
                        .send()
                        .await
                        .expect("an answer");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried} examples");
    server.stop().await;
}

/// A field that no parser knows and that resembles no known field.
const STRANGE: &str = "zzzzzzzz";

/// Returns the fields that the parser of `path` accepts in the object at `pointer` of `body`. Its error for an unknown field lists
/// them.
async fn known_fields(server: &TestServer, path: &str, mut body: Value, pointer: &str) -> BTreeSet<String> {
    let object = body.pointer_mut(pointer).and_then(Value::as_object_mut).expect("an object");
    object.insert(STRANGE.to_owned(), json!(1));
    let method = if path.contains("/aliases/") { Method::PUT } else { Method::POST };
    let answer = server.http.request(method, server.path(path)).json(&body).send().await.expect("an answer");
    let problem: Value = answer.json().await.expect("JSON");
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{path} {body}: {problem}"));
    let fault = errors.iter().find(|error| error["pointer"] == format!("{pointer}/{STRANGE}"));
    let fault = fault.unwrap_or_else(|| panic!("{path} {body}: {problem}"));
    let (_, known) =
        fault["detail"].as_str().expect("text").split_once("there are: ").expect("what there is");
    known.split(", ").map(str::to_owned).collect()
}

/// Returns the fields of a schema, or of its variant of this type.
fn fields(schema: &str, variant: Option<&str>) -> BTreeSet<String> {
    let schema = &document()["components"]["schemas"][schema];
    let of_variant = |variant: &str| {
        let variants = schema["oneOf"].as_array().expect("variants");
        variants.iter().find(|found| found["properties"]["type"]["enum"][0] == variant).expect("a variant")
    };
    let schema = variant.map_or(schema, of_variant);
    schema["properties"].as_object().expect("fields").keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_a_body_are_those_that_its_parser_accepts() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let jobs = "/v1/jobs";
    let example = json!({ "example": { "index": 0 } });
    for (path, body, pointer, schema) in [
        (jobs, json!({}), "", "JobRequest"),
        (jobs, json!({ "network": {} }), "/network", "LayersRequest"),
        (jobs, json!({ "augment": {} }), "/augment", "AugmentRequest"),
        (jobs, json!({ "augment": { "elastic": {} } }), "/augment/elastic", "ElasticRequest"),
        (jobs, json!({ "early_stopping": {} }), "/early_stopping", "EarlyStoppingRequest"),
        (jobs, json!({ "checkpoint": {} }), "/checkpoint", "CheckpointRequest"),
        ("/v1/models/digits/aliases/a", json!({}), "", "AliasRequest"),
        ("/v1/models/digits/predict", json!({}), "", "ImagesRequest"),
        ("/v1/models/digits/trace", example.clone(), "", "TraceRequest"),
        ("/v1/models/digits/trace", example.clone(), "/example", "ExampleRequest"),
        ("/v1/models/digits/microscope", example, "", "MicroscopeRequest"),
        ("/v1/networks/summary", json!({}), "", "SummaryRequest"),
        ("/v1/gradient-check", json!({}), "", "GradientCheckRequest"),
        ("/v1/graph", json!({}), "", "GraphRequest"),
        ("/v1/affine", json!({}), "", "AffineRequest"),
        ("/v1/convolution", json!({}), "", "ConvolutionRequest"),
        ("/v1/softmax-cross-entropy", json!({ "logits": [1] }), "", "SoftmaxRequest"),
    ] {
        let known = known_fields(&server, path, body, pointer).await;
        assert_eq!(known, fields(schema, None), "{schema}");
    }
    for layer in words("LayerRequest") {
        let body = json!({ "network": { "layers": [{ "type": layer }] } });
        let known = known_fields(&server, jobs, body, "/network/layers/0").await;
        assert_eq!(known, fields("LayerRequest", Some(&layer)), "{layer}");
    }
    for (field, kinds, schema) in
        [("optimizer", "OptimizerKind", "OptimizerRequest"), ("schedule", "ScheduleKind", "ScheduleRequest")]
    {
        let mut known = BTreeSet::new();
        for kind in words(kinds) {
            let body = json!({ field: { "type": kind } });
            known.extend(known_fields(&server, jobs, body, &format!("/{field}")).await);
        }
        assert_eq!(known, fields(schema, None), "{schema}");
    }
    server.stop().await;
}

/// Returns the values of an enum, or the types of a tagged one.
fn words(schema: &str) -> Vec<String> {
    let schema = &document()["components"]["schemas"][schema];
    let word = |word: &Value| word.as_str().expect("a word").to_owned();
    match schema["enum"].as_array() {
        Some(words) => words.iter().map(word).collect(),
        None => {
            let variants = schema["oneOf"].as_array().expect("variants").iter();
            variants.map(|variant| word(&variant["properties"]["type"]["enum"][0])).collect()
        }
    }
}

/// A parser lists the values it accepts in its error for any other value.
#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_a_field_are_those_that_its_parser_accepts() {
    let server = TestServer::start(&[]).await;
    for (body, pointer, schema) in [
        (json!({ "loss": STRANGE }), "/loss", "Loss"),
        (json!({ "network": STRANGE }), "/network", "Preset"),
        (json!({ "optimizer": { "type": STRANGE } }), "/optimizer/type", "OptimizerKind"),
        (json!({ "schedule": { "type": STRANGE } }), "/schedule/type", "ScheduleKind"),
        (json!({ "network": { "layers": [{ "type": STRANGE }] } }), "/network/layers/0/type", "LayerRequest"),
        (
            json!({ "network": { "layers": [{ "type": "dense", "init": STRANGE }] } }),
            "/network/layers/0/init",
            "Init",
        ),
        (
            json!({ "network": { "layers": [{ "type": "conv2d", "padding": STRANGE }] } }),
            "/network/layers/0/padding",
            "Padding",
        ),
    ] {
        let answer = server.post("/v1/jobs", "application/json", body.to_string()).await;
        let problem: Value = answer.json().await.expect("JSON");
        let fault =
            problem["errors"].as_array().expect("faults").iter().find(|error| error["pointer"] == pointer);
        let detail =
            fault.unwrap_or_else(|| panic!("{pointer}: {problem}"))["detail"].as_str().expect("text");
        let (_, known) = detail.split_once("there are: ").expect("what there is");
        let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
        assert_eq!(known, words(schema).into_iter().collect(), "{schema}");
    }
    server.stop().await;
}

/// Compares the defaults of a schema and of the schemas it refers to, as far as they are part of a spec.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_and_limits_are_those_of_the_parser() {
    let server = TestServer::start(&[]).await;
    let spec = server.create(json!({})).await["spec"].clone();
    let presets = server.get_json("/v1/networks").await;
    let default_network =
        presets["networks"].as_array().expect("presets").iter().find(|preset| preset["name"] == "mlp");
    assert_eq!(spec["network"], default_network.expect("mlp")["spec"]["network"]);
    let schema = &document()["components"]["schemas"]["JobRequest"];
    let mut compared = 0;
    for (field, schema) in schema["properties"].as_object().expect("fields") {
        if let Some(default) = schema.get("default").filter(|_| field != "network") {
            assert_eq!(default.as_f64(), spec[field].as_f64(), "{field}");
            assert!(default.is_number() || *default == spec[field], "{field}");
            compared += 1;
        }
        for limit in limits(schema) {
            let body = json!({ field: limit.beyond }).to_string();
            let problem: Value =
                server.post("/v1/jobs", "application/json", body).await.json().await.expect("JSON");
            let errors =
                problem["errors"].as_array().unwrap_or_else(|| panic!("{field} takes {limit:?}: {problem}"));
            assert!(
                errors.iter().any(|error| error["pointer"] == format!("/{field}")),
                "{field} {limit:?}: {problem}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
    server.stop().await;
}

/// A limit of a number in a schema, and a number beyond it.
#[derive(Debug)]
struct Limit {
    beyond: Value,
}

fn limits(schema: &Value) -> Vec<Limit> {
    let is_whole = schema["type"] == "integer"
        || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("integer")));
    let beyond = |limit: &Value, by: f64| match is_whole {
        true => json!(limit.as_i64().expect("a whole number").saturating_add(by.signum() as i64)),
        false => json!(limit.as_f64().expect("a number") + by),
    };
    let steps = [("minimum", -1e-9), ("exclusiveMinimum", 0.0), ("maximum", 1e-9), ("exclusiveMaximum", 0.0)];
    let found = steps.iter().filter_map(|(name, by)| Some((schema.get(*name)?, *by)));
    // JSON has no integer larger than the largest seed.
    let found = found.filter(|(limit, by)| *by <= 0.0 || limit.as_i64() != Some(i64::MAX));
    found.map(|(limit, by)| Limit { beyond: beyond(limit, by) }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_job_matches_the_document() {
    let server = TestServer::start(&[]).await;
    let job = server.create(quick()).await;
    let path = format!("/v1/jobs/{}/events", job["id"].as_str().expect("an id"));
    let events = server.get(&path).await.text().await.expect("events");
    let mut kinds = BTreeSet::new();
    for event in events.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(kind), Some(data)) = (field("event:"), field("data:")) else { continue };
        let schema = match kind {
            "state" => "StateEvent",
            "epoch" => "Epoch",
            "progress" => "Progress",
            "end" => "Job",
            other => panic!("the document knows no event {other}"),
        };
        let data: Value = serde_json::from_str(data).expect("JSON");
        let checked = schema::validate(&json!({ "$ref": format!("#/components/schemas/{schema}") }), &data);
        checked.unwrap_or_else(|fault| panic!("{kind}: {fault}\n{data}"));
        kinds.insert(kind.to_owned());
    }
    assert!(["state", "epoch", "end"].iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    server.stop().await;
}

fn checked(path: &str, status: u16, media_type: &str, body: &Value) -> Result<(), String> {
    let body = body.to_string();
    schema::check("GET", path, &Answer { status, media_type: Some(media_type), body: Some(body.as_bytes()) })
}

#[test]
fn an_answer_that_does_not_match_the_document_is_refused() {
    let good = json!({ "status": "ok", "version": "1.0.0" });
    let changed = |change: fn(&mut Map<String, Value>)| {
        let mut changed = good.clone();
        change(changed.as_object_mut().expect("an object"));
        checked("/healthz", 200, "application/json", &changed)
    };
    assert_eq!(changed(|_| {}), Ok(()));
    assert!(changed(|answer| drop(answer.insert("more".to_owned(), json!(1)))).is_err());
    assert!(changed(|answer| drop(answer.remove("version"))).is_err());
    assert!(changed(|answer| drop(answer.insert("version".to_owned(), json!(1)))).is_err());
    assert!(checked("/healthz", 201, "application/json", &good).is_err());
    assert!(checked("/healthz", 200, "text/html", &good).is_err());
    assert!(checked("/healthzz", 200, "application/json", &good).is_err());

    let problem = |status: u16, code: &str| {
        let problem = json!({
            "type": "about:blank", "title": "…", "status": status, "detail": "…", "code": code, "request_id": "1"
        });
        checked("/v1/jobs/x", status, "application/problem+json", &problem)
    };
    assert_eq!(problem(404, "unknown_job"), Ok(()));
    // A code of another route, an unknown code, and a code with the wrong status.
    assert!(problem(404, "unknown_dataset").is_err());
    assert!(problem(404, "unknown_kitchen").is_err());
    assert!(problem(400, "unknown_job").is_err());
    assert!(problem(418, "unknown_job").is_err());
}

#[test]
fn a_field_that_can_be_null_may_not_be_left_out_of_an_answer() {
    let list = json!({ "datasets": [], "next_cursor": null });
    let schema = json!({ "$ref": "#/components/schemas/DatasetList" });
    assert_eq!(schema::validate(&schema, &list), Ok(()));
    assert!(schema::validate(&schema, &json!({ "datasets": [] })).is_err());
}
