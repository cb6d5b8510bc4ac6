//! The Open Inference Protocol v2: what it answers. `oip_bytes` has tensors as bytes, and `oip_refusals` what is refused.

use chainrule::data::mnist;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::process::{Process, output, text};
use crate::server::{TestServer, problem, quick};

pub const INFER: &str = "/v2/models/digits/infer";

/// Returns the first test images, one after the other.
pub fn images(count: usize) -> Vec<u8> {
    (0..count).flat_map(|index| mnist::dataset().test.image(index).to_vec()).collect()
}

/// Returns a request for images of UINT8.
pub fn request(count: usize) -> Value {
    json!({ "inputs": [{ "name": "image", "shape": [count, 784], "datatype": "UINT8", "data": images(count) }] })
}

/// Posts without a media type, as Triton's client does.
pub async fn post(server: &TestServer, path: &str, body: impl Into<reqwest::Body>) -> Response {
    server.http.post(server.path(path)).body(body).send().await.expect("an answer")
}

pub async fn infer(server: &TestServer, request: &Value) -> Value {
    let response = post(server, INFER, request.to_string()).await;
    let status = response.status();
    let text = response.text().await.expect("text");
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Asserts that a response is an error of the protocol with this status and code, and returns its text.
pub async fn error(response: Response, status: u16, code: &str) -> String {
    let found = response.status();
    let media_type = response.headers()["content-type"].clone();
    let text = response.text().await.expect("text");
    assert_eq!((found.as_u16(), media_type.as_bytes()), (status, b"application/json".as_slice()), "{text}");
    let error: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(error["code"], code, "{text}");
    assert!(error["request_id"].is_string(), "{text}");
    error["error"].as_str().expect("a text").to_owned()
}

pub fn output_of<'a>(response: &'a Value, name: &str) -> &'a Value {
    let outputs = response["outputs"].as_array().expect("outputs");
    outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{name} in {response}"))
}

/// Returns labels and probabilities of the first test images from `/v1`.
pub async fn predicted(server: &TestServer, count: usize) -> (Vec<Value>, Vec<Value>) {
    let path = "/v1/models/digits/predict";
    let response = server.post(path, "application/octet-stream", images(count)).await;
    let body: Value = response.json().await.expect("JSON");
    let predictions = body["predictions"].as_array().expect("predictions");
    let labels = predictions.iter().map(|each| each["label"].clone()).collect();
    let probabilities =
        predictions.iter().flat_map(|each| each["probabilities"].as_array().expect("numbers"));
    (labels, probabilities.cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_models_describe_themselves() {
    let server = TestServer::start(&[]).await;
    let server_metadata = server.get_json("/v2").await;
    assert_eq!(server_metadata["name"], "chainrule");
    let extensions = [
        "classification",
        "model_repository",
        "model_configuration",
        "binary_tensor_data",
        "parameters",
        "statistics",
    ];
    assert_eq!(server_metadata["extensions"], json!(extensions));
    assert_eq!(server.get_json("/v2/").await, server_metadata);
    assert_eq!(server.get_json("/v2/health/live").await, json!({ "live": true }));
    assert_eq!(server.get_json("/v2/health/ready").await, json!({ "ready": true }));
    error(server.get("/v2/models/digits").await, 404, "unknown_model").await;

    server.with_model().await;
    server.with_model().await;
    server.put("/v1/models/digits/aliases/champion", json!({ "version": 1 })).await;
    let model = server.get_json("/v2/models/digits?unknown=1").await;
    assert_eq!((&model["name"], &model["versions"]), (&json!("digits"), &json!(["1", "2"])));
    assert_eq!(model["inputs"], json!([{ "name": "image", "datatype": "UINT8", "shape": [-1, 28, 28] }]));
    assert_eq!(
        model["outputs"],
        json!([
            { "name": "probabilities", "datatype": "FP32", "shape": [-1, 10] },
            { "name": "label", "datatype": "INT64", "shape": [-1] }
        ])
    );
    assert_eq!(model["properties"]["version"], "2");
    for version in ["1", "champion"] {
        let model = server.get_json(&format!("/v2/models/digits/versions/{version}")).await;
        assert_eq!((&model["versions"], &model["properties"]["version"]), (&json!(["1"]), &json!("1")));
        let ready = server.get_json(&format!("/v2/models/digits/versions/{version}/ready")).await;
        assert_eq!(ready, json!({ "name": "digits", "ready": true }));
    }
    let config = server.get_json("/v2/models/digits/config").await;
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(10_000), &json!([28, 28])));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_datatype_and_shape_gives_the_predictions_of_v1() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let count = 3;
    let (labels, probabilities) = predicted(&server, count).await;
    let bytes = images(count);
    let rows: Value =
        bytes.chunks(784).map(|image| image.chunks(28).map(Value::from).collect::<Value>()).collect();
    let units: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
    let flat = json!(bytes);
    let nothing = json!({});
    for (shape, datatype, data, parameters) in [
        (json!([3, 784]), "UINT8", &flat, &nothing),
        (json!([3, 28, 28]), "UINT8", &rows, &nothing),
        (json!([3, 28, 28]), "FP32", &flat, &json!({ "scale": "byte", "priority": 1, "timeout": 5_000 })),
        (json!([3, 784]), "FP64", &rows, &json!({ "sequence_id": "a", "b": true, "c": 0.5 })),
        (json!([3, 28, 28, 1]), "UINT8", &flat, &nothing),
        (json!([3, 1, 28, 28]), "FP32", &flat, &nothing),
        (json!([3, 784]), "FP64", &json!(units), &json!({ "scale": "unit" })),
    ] {
        let input = json!({ "name": "image", "shape": shape, "datatype": datatype, "data": data });
        let found = infer(&server, &json!({ "inputs": [input], "parameters": parameters })).await;
        assert_eq!(output_of(&found, "label")["data"], json!(labels), "{shape} {datatype}");
        assert_eq!(output_of(&found, "probabilities")["data"], json!(probabilities), "{shape} {datatype}");
        assert_eq!(output_of(&found, "probabilities")["shape"], json!([3, 10]));
        assert_eq!((&found["model_name"], &found["model_version"]), (&json!("digits"), &json!("1")));
        assert!(found.get("id").is_none(), "{found}");
    }
    for media_type in
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "x"]
    {
        let response = server.post(INFER, media_type, request(1).to_string()).await;
        assert_eq!(response.status(), StatusCode::OK, "{media_type}");
    }
    let mut with_id = request(1);
    with_id["id"] = json!("42");
    with_id["unknown"] = json!({ "a": [1] });
    with_id["outputs"] = json!([{ "name": "label" }]);
    let found = infer(&server, &with_id).await;
    assert_eq!((&found["id"], found["outputs"].as_array().map(Vec::len)), (&json!("42"), Some(1)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classes_of_an_output_are_texts_with_the_best_first() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let (labels, probabilities) = predicted(&server, 2).await;
    let ask = async |classes: Value| {
        let mut request = request(2);
        request["outputs"] =
            json!([{ "name": "probabilities", "parameters": { "classification": classes } }]);
        infer(&server, &request).await
    };
    let found = ask(json!(3)).await;
    let output = output_of(&found, "probabilities");
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([2, 3])));
    let texts: Vec<&str> =
        output["data"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    for (image, label) in labels.iter().enumerate() {
        let label = label.as_u64().expect("a label");
        let probability = probabilities[image * 10 + label as usize].as_f64().expect("a number") as f32;
        assert_eq!(texts[3 * image], format!("{probability:.6}:{label}:{label}"));
        let values: Vec<f64> = texts[3 * image..3 * image + 3]
            .iter()
            .map(|text| text.split(':').next().expect("a value").parse().expect("a number"))
            .collect();
        assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
    }
    for many in [10_u64, 11, u64::MAX / 2] {
        let found = ask(json!(many)).await;
        assert_eq!(output_of(&found, "probabilities")["shape"], json!([2, 10]), "{many}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unloaded_model_is_refused_until_it_is_loaded() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let index = async |body: &'static str| {
        let response = post(&server, "/v2/repository/index", body).await;
        response.json::<Value>().await.expect("JSON")
    };
    let ready = json!([{ "name": "digits", "version": "1", "state": "READY", "reason": "" }]);
    for body in ["", "{}", "{\"ready\": true}", "{\"ready\": false}"] {
        assert_eq!(index(body).await, ready, "{body:?}");
    }
    let unload = "/v2/repository/models/digits/unload";
    let parameters = "{\"parameters\":{\"unload_dependents\":false}}";
    let unloaded = post(&server, unload, parameters).await;
    assert_eq!((unloaded.status(), unloaded.text().await.expect("text").as_str()), (StatusCode::OK, ""));
    let state = json!([{ "name": "digits", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded" }]);
    assert_eq!((index("").await, index("{\"ready\": true}").await), (state, json!([])));
    for path in ["/v2/models/digits/ready", "/v2/models/digits/versions/1/ready", "/v2/models/digits"] {
        error(server.get(path).await, 400, "model_unloaded").await;
    }
    error(post(&server, INFER, request(1).to_string()).await, 400, "model_unloaded").await;
    let predicted = server.post("/v1/models/digits/predict", "application/octet-stream", images(1)).await;
    problem(predicted, 409, "model_unloaded").await;

    // A version that is published meanwhile does not serve either. A job may still start from the model.
    let mut job = quick();
    job["initial_model"] = json!("digits@1");
    let job = server.create(job).await;
    assert_eq!(server.ended(job["id"].as_str().expect("an id")).await["state"], "succeeded");
    error(server.get("/v2/models/digits/versions/2/ready").await, 400, "model_unloaded").await;

    assert_eq!(post(&server, "/v2/repository/models/digits/load", "{}").await.status(), StatusCode::OK);
    assert_eq!(infer(&server, &request(1)).await["model_version"], "2");
    assert_eq!(post(&server, unload, "").await.status(), StatusCode::OK);
    assert_eq!(post(&server, "/v2/repository/models/digits/load", "").await.status(), StatusCode::OK);
    assert_eq!(server.get("/v2/models/digits/ready").await.status(), StatusCode::OK);

    for action in ["load", "unload"] {
        let unknown = format!("/v2/repository/models/nothing/{action}");
        error(post(&server, &unknown, "{}").await, 404, "unknown_model").await;
        let path = format!("/v2/repository/models/digits/{action}");
        let files = "{\"parameters\":{\"config\":\"{}\",\"file:1/model.onnx\":\"AA==\"}}";
        let detail = error(post(&server, &path, files).await, 400, "invalid_request").await;
        assert!(detail.contains("/parameters/config") && detail.contains("file:1~1model.onnx"), "{detail}");
        error(post(&server, &path, "[1]").await, 400, "invalid_request").await;
        error(post(&server, &path, "{").await, 400, "invalid_json").await;
    }
    error(post(&server, "/v2/repository/index", "{\"ready\": 1}").await, 400, "invalid_request").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_images_and_batches_of_all_routes() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let statistics = async |path: &str| server.get_json(path).await["model_stats"][0].clone();
    let none = statistics("/v2/models/digits/stats").await;
    assert_eq!((&none["inference_count"], &none["last_inference"]), (&json!(0), &json!(0)));

    infer(&server, &request(2)).await;
    predicted(&server, 3).await;
    let mut wrong = request(1);
    wrong["inputs"][0]["data"][0] = json!(300);
    error(post(&server, INFER, wrong.to_string()).await, 400, "invalid_tensor").await;
    let counted = statistics("/v2/models/digits/versions/1/stats").await;
    assert_eq!((&counted["name"], &counted["version"]), (&json!("digits"), &json!("1")));
    assert_eq!((&counted["inference_count"], &counted["execution_count"]), (&json!(5), &json!(2)));
    let stats = &counted["inference_stats"];
    assert_eq!((&stats["success"]["count"], &stats["fail"]["count"]), (&json!(2), &json!(1)));
    for part in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(stats[part]["count"], 2, "{part}");
    }
    assert!(stats["success"]["ns"].as_u64() >= stats["compute_infer"]["ns"].as_u64());
    let sizes: Vec<&Value> =
        counted["batch_stats"].as_array().expect("sizes").iter().map(|batch| &batch["batch_size"]).collect();
    assert_eq!(sizes, [&json!(2), &json!(3)]);
    assert!(counted["last_inference"].as_i64() > Some(1_700_000_000_000));
    assert_eq!(statistics("/v2/models/stats").await, counted);
    assert_eq!(statistics("/v2/models/digits/stats").await, counted);
    error(server.get("/v2/models/nothing/stats").await, 404, "unknown_model").await;
    error(server.get("/v2/models/digits/versions/2/stats").await, 404, "unknown_version").await;

    server.with_model().await;
    assert_eq!(server.delete("/v1/models/digits@1").await.status(), StatusCode::NO_CONTENT);
    let left = server.get_json("/v2/models/stats").await;
    assert_eq!(left["model_stats"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["model_stats"][0]["version"], "2");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_and_options_are_answered_as_elsewhere() {
    let server = TestServer::start(&[]).await;
    let ask = async |method: Method, path: &str| {
        server.http.request(method, server.path(path)).send().await.expect("an answer")
    };
    let head = ask(Method::HEAD, "/v2").await;
    assert_eq!((head.status(), head.bytes().await.expect("none").len()), (StatusCode::OK, 0));
    error(ask(Method::OPTIONS, "/v2").await, 405, "method_not_allowed").await;
    let wrong = ask(Method::DELETE, "/v2/models/digits/infer").await;
    assert_eq!(wrong.headers()["allow"], "POST");
    error(wrong, 405, "method_not_allowed").await;
    server.stop().await;
}

#[test]
fn this_server_passes_every_case_of_conform_and_a_bad_one_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(folder.path());
    let server = process.url.as_str();
    let trained =
        output(&["train", "--server", server, "--follow", "--progress", "none", &quick().to_string()]);
    assert!(trained.status.success());
    let run = output(&["conform", server, "--unload", "--json"]);
    let report: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let cases = report["cases"].as_array().expect("cases");
    let of = |word: &str| cases.iter().filter(|case| case["result"] == word).collect::<Vec<_>>();
    assert!(run.status.success() && of("failed").is_empty() && of("absent").is_empty(), "{report}");
    assert_eq!(of("skipped").len(), 1, "only the case for a model with three inputs: {report}");

    // The table in the documents has the same cases.
    let page = include_str!("../../docs/conformance.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows: Vec<&str> =
        rows.map(|(case, _)| case).filter(|case| !["case", "---", "**failed**"].contains(case)).collect();
    assert_eq!(rows, cases.iter().filter_map(|case| case["case"].as_str()).collect::<Vec<_>>());

    let unknown = output(&["conform", server, "--model", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
    let nobody = output(&["conform", "http://127.0.0.1:9"]);
    assert_eq!(nobody.status.code(), Some(5), "{}", text(&nobody.stderr));
}

/// A server that answers every request with the metadata of a model and of itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_everything_alike_fails_most_cases() {
    let answer = json!({ "name": "m", "version": "1", "extensions": [], "platform": "p", "versions": ["1"],
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }], "outputs": [] });
    let router = axum::Router::new().fallback(move || async move { axum::Json(answer) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let run =
        tokio::task::spawn_blocking(move || output(&["conform", &url, "--model", "m"])).await.expect("run");
    assert_eq!(run.status.code(), Some(1));
    let table = text(&run.stdout);
    let word = |case: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{case}  "))).expect(case);
        line[case.len()..].split_whitespace().next().expect("a word").to_owned()
    };
    assert_eq!(word("server metadata"), "ok");
    assert_eq!(word("binary inputs"), "absent");
    for case in
        ["unknown path", "infer without a media type", "shape whose product overflows", "unknown model"]
    {
        assert_eq!(word(case), "failed", "{table}");
    }
    serving.abort();
}
