//! The lab: the lesson's numbers over HTTP, and a look inside a trained network.

use chainrule::data::mnist;
use chainrule::lab;
use chainrule::nn::{Network, Tape};
use chainrule::train::INPUT;
use ndarray::Array2;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::server::{TestServer, pointers, problem};

async fn post(server: &TestServer, path: &str, body: Value) -> Value {
    let response = server.post(path, "application/json", body.to_string()).await;
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert_eq!(status, StatusCode::OK, "POST {path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn post_as(server: &TestServer, path: &str, accept: &str, body: Value) -> Response {
    let request = server.http.post(server.path(path)).header("Accept", accept).json(&body);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let found = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(found.starts_with(accept), "{found}");
    response
}

async fn refused(server: &TestServer, path: &str, body: Value, expected: &[&str]) -> String {
    let response = server.post(path, "application/json", body.to_string()).await;
    let problem = problem(response, 422, "invalid_request").await;
    assert_eq!(pointers(&problem), expected, "{problem}");
    problem.to_string()
}

#[tokio::test]
async fn the_lessons_graph_has_the_lessons_numbers_paths_and_worked_line() {
    let server = TestServer::start(&[]).await;
    let inputs = json!({ "a": -1, "b": 3, "c": 4 });
    for expression in ["(a + b) * (b + c)", "x = a + b; y = b + c; x * y"] {
        let body = json!({ "expression": expression, "inputs": inputs });
        let answer = post(&server, "/v1/graph", body).await;
        assert_eq!(answer["value"], 14.0);
        assert_eq!(answer["gradients"], json!({ "a": 7.0, "b": 9.0, "c": 2.0 }));
        let products: Vec<&Value> =
            answer["paths"]["b"].as_array().expect("paths").iter().map(|path| &path["product"]).collect();
        assert_eq!(products, [7.0, 2.0]);
        assert!(answer["max_relative_error"].as_f64().expect("a number") < 1e-8);
        assert!(answer["steps"].as_array().expect("steps").len() >= 6);
    }
    let body = json!({ "expression": "x = a + b; y = b + c; x * y", "inputs": inputs });
    let text = post_as(&server, "/v1/graph", "text/plain", body.clone()).await.text().await.expect("text");
    assert!(text.contains("∂f/∂b = ∂f/∂x·∂x/∂b + ∂f/∂y·∂y/∂b = 7·1 + 2·1 = 9"), "{text}");
    let svg = post_as(&server, "/v1/graph", "image/svg+xml", body.clone()).await.text().await.expect("text");
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") || svg.ends_with("</svg>"), "{svg}");
    let dot = post_as(&server, "/v1/graph", "text/vnd.graphviz", body).await.text().await.expect("text");
    assert!(dot.starts_with("digraph"), "{dot}");
    server.stop().await;
}

#[tokio::test]
async fn bad_expressions_are_refused_at_their_column() {
    let server = TestServer::start(&[]).await;
    for (expression, column) in [("", 1), ("a + ", 5), ("(a", 3), ("a / 0", 3), ("a + b", 5), ("log(-1)", 1)]
    {
        let body = json!({ "expression": expression, "inputs": { "a": 1 } });
        let text = refused(&server, "/v1/graph", body, &["/expression"]).await;
        assert!(text.contains(&format!("column {column}: ")), "{expression:?}: {text}");
    }
    let deep = "(".repeat(100_000);
    refused(&server, "/v1/graph", json!({ "expression": deep }), &["/expression"]).await;
    refused(&server, "/v1/graph", json!({ "inputs": { "a": "1" } }), &["/expression", "/inputs/a"]).await;
    refused(&server, "/v1/graph", json!({ "expression": "1", "inputs": { "2": 1 } }), &["/inputs/2"]).await;
    let response =
        server.post("/v1/graph", "application/json", r#"{"expression": "a", "inputs": {"a": 1e999}}"#).await;
    problem(response, 400, "invalid_json").await;
    let huge = json!({ "expression": "a+".repeat(500_000) });
    let response = server.post("/v1/graph", "application/json", huge.to_string()).await;
    problem(response, 413, "body_too_large").await;
    server.stop().await;
}

#[tokio::test]
async fn the_affine_layer_works_on_a_sample_and_on_a_batch_with_every_shape_told() {
    let server = TestServer::start(&[]).await;
    let sample = json!({ "x": [1, 2], "w": [[1, 3, 5], [2, 4, 6]], "b": [1, 2, 3], "dy": [1, 10, 100] });
    let answer = post(&server, "/v1/affine", sample).await;
    assert_eq!(answer["y"], json!([6.0, 13.0, 20.0]));
    assert_eq!(answer["dx"], json!([531.0, 642.0]));
    assert_eq!(answer["dw"], json!([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]));
    assert_eq!(answer["db"], json!([1.0, 10.0, 100.0]));
    assert_eq!(answer["shapes"]["dx"], json!([2]));
    assert!(answer["products"].to_string().contains("dw = xᵀ·dy: (2, 1)·(1, 3) = (2, 3)"), "{answer}");

    let batch = json!({ "x": [[1, 0, 2], [3, 1, 0]], "w": [[1, 2], [3, 4], [5, 6]], "b": [0.5, -0.5], "dy": [[1, 2], [3, 4]] });
    let answer = post(&server, "/v1/affine", batch).await;
    assert_eq!(answer["y"], json!([[11.5, 13.5], [6.5, 9.5]]));
    assert_eq!(answer["dx"], json!([[5.0, 11.0, 17.0], [11.0, 25.0, 39.0]]));
    assert_eq!(answer["dw"], json!([[10.0, 14.0], [3.0, 4.0], [2.0, 4.0]]));
    assert_eq!(answer["db"], json!([4.0, 6.0]));

    let forward = post(&server, "/v1/affine", json!({ "x": [2], "w": [[3]] })).await;
    assert_eq!((&forward["y"], &forward["dx"], &forward["db"]), (&json!([6.0]), &Value::Null, &Value::Null));
    let text = refused(&server, "/v1/affine", json!({ "x": [1, 2, 3], "w": [[1], [2]] }), &["/w"]).await;
    assert!(text.contains("(3,)") && text.contains("(2, 1)"), "{text}");
    refused(&server, "/v1/affine", json!({ "x": [[1, 2], [3]], "w": [[1]], "z": 1 }), &["/x/1", "/z"]).await;
    refused(
        &server,
        "/v1/affine",
        json!({ "x": [1], "w": [[1]], "dy": [1, 2], "b": [1, 2] }),
        &["/b", "/dy"],
    )
    .await;
    let text = refused(&server, "/v1/affine", json!({ "x": [1e308], "w": [[1e308]] }), &[""]).await;
    assert!(text.contains("beyond what f64 holds"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn softmax_with_a_loss_is_stable_and_its_gradient_is_softmax_minus_target() {
    let server = TestServer::start(&[]).await;
    let path = "/v1/softmax-cross-entropy";
    let answer = post(&server, path, json!({ "logits": [1, 2, 3], "target": 2 })).await;
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number")).collect()
    };
    let (p, gradient) = (numbers(&answer["probabilities"]), numbers(&answer["gradient"]));
    let expected = [0.090_030_573_170_380_46, 0.244_728_471_054_797_64, 0.665_240_955_774_821_9];
    for class in 0..3 {
        assert!((p[class] - expected[class]).abs() < 1e-12);
        let target = f64::from(u8::from(class == 2));
        assert!((gradient[class] - (p[class] - target)).abs() < 1e-12);
    }
    assert!((answer["loss"].as_f64().expect("a loss") - 0.407_605_964_444_380_1).abs() < 1e-12);
    let same = post(&server, path, json!({ "logits": [1, 2, 3], "target": [0, 0, 1] })).await;
    assert_eq!(same, answer);

    let answer = post(&server, path, json!({ "logits": [1e4, -1e4], "target": 1 })).await;
    assert_eq!((&answer["loss"], &answer["probabilities"]), (&json!(20_000.0), &json!([1.0, 0.0])));
    let batch = json!({ "logits": [[0, 0], [0, 0]], "target": [0, 1] });
    let answer = post(&server, path, batch).await;
    assert_eq!(answer["gradient"], json!([[-0.25, 0.25], [0.25, -0.25]]));
    let soft = post(&server, path, json!({ "logits": [0, 0], "target": [0.25, 0.75] })).await;
    assert_eq!(soft["gradient"], json!([0.25, -0.25]));

    refused(&server, path, json!({ "logits": [1, 2], "target": 2 }), &["/target"]).await;
    refused(&server, path, json!({ "logits": [1, 2], "target": [0.5, 0.6] }), &["/target"]).await;
    refused(&server, path, json!({ "logits": [[1, 2]], "target": [0, 1] }), &["/target"]).await;
    refused(&server, path, json!({ "logits": "x" }), &["/logits", "/target"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_convolution_by_hand_has_the_sums_one_finds_on_paper() {
    let server = TestServer::start(&[]).await;
    let path = "/v1/convolution";
    let small = json!({ "input": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "filter": [[1, 0], [0, -1]], "dy": [[1, 2], [3, 4]] });
    let answer = post(&server, path, small).await;
    assert_eq!(answer["y"], json!([[-4.0, -4.0], [-4.0, -4.0]]));
    assert_eq!(answer["dx"], json!([[1.0, 2.0, 0.0], [3.0, 3.0, -2.0], [0.0, -3.0, -4.0]]));
    assert_eq!(answer["dfilter"], json!([[37.0, 47.0], [67.0, 77.0]]));
    assert_eq!(answer["dbias"], json!([10.0]));

    let padded = json!({ "input": [[1, 2], [3, 4]], "filter": [[1, 1], [1, 1]], "padding": 1, "stride": 2, "bias": [10], "dy": [[1, 2], [3, 4]] });
    let answer = post(&server, path, padded).await;
    assert_eq!(answer["y"], json!([[11.0, 12.0], [13.0, 14.0]]));
    assert_eq!(answer["dx"], json!([[1.0, 2.0], [3.0, 4.0]]));
    assert_eq!(answer["dfilter"], json!([[16.0, 9.0], [4.0, 1.0]]));
    let same =
        json!({ "input": [[1, 2], [3, 4]], "filter": [[0, 0, 0], [0, 2, 0], [0, 0, 0]], "padding": "same" });
    assert_eq!(post(&server, path, same).await["y"], json!([[2.0, 4.0], [6.0, 8.0]]));

    let text =
        refused(&server, path, json!({ "input": [[1, 2]], "filter": [[1, 2], [3, 4]] }), &["/filter"]).await;
    assert!(text.contains("2×2") && text.contains("1×2×1"), "{text}");
    refused(
        &server,
        path,
        json!({ "input": [[1, 2]], "filter": [[1, 2]], "stride": 0 }),
        &["/stride", "/filter"],
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn activations_are_curves_with_their_derivative_and_where_they_saturate() {
    let server = TestServer::start(&[]).await;
    let list = server.get_json("/v1/activations").await;
    assert_eq!(list["activations"].as_array().expect("a list").len(), 5);
    let curve = server.get_json("/v1/activations/sigmoid?from=-2&to=2&points=5").await;
    let points = curve["points"].as_array().expect("points");
    assert_eq!(points.len(), 5);
    assert_eq!(points[2], json!({ "x": 0.0, "value": 0.5, "derivative": 0.25 }));
    assert!((curve["saturation"]["above"].as_f64().expect("a place") - 4.585).abs() < 2e-3, "{curve}");
    let relu = server.get_json("/v1/activations/relu?from=-1&to=1&points=3").await;
    assert_eq!(relu["points"][1]["derivative"], 0.0);
    assert!(relu["note"].as_str().expect("a note").contains("some texts take 1"));
    assert_eq!(relu["saturation"]["above"], Value::Null);
    let svg =
        server.http.get(server.path("/v1/activations/gelu")).header("Accept", "image/svg+xml").send().await;
    assert!(svg.expect("an answer").text().await.expect("text").starts_with("<svg"));
    problem(server.get("/v1/activations/relo").await, 404, "unknown_activation").await;
    problem(server.get("/v1/activations/relu?from=2&to=1").await, 422, "invalid_query").await;
    problem(server.get("/v1/activations/relu?points=1").await, 422, "invalid_query").await;
    problem(server.get("/v1/activations/relu?from=NaN").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test]
async fn a_summary_counts_what_a_network_holds_and_takes() {
    let server = TestServer::start(&[]).await;
    let layers = json!([{ "type": "conv2d", "filters": 8, "kernel": 5 }, { "type": "relu" }, { "type": "max_pool2d" },
        { "type": "flatten" }, { "type": "dense", "units": 10 }]);
    let summary =
        post(&server, "/v1/networks/summary", json!({ "network": { "layers": layers }, "batch_size": 100 }))
            .await;
    let row = |index: usize| &summary["layers"][index];
    assert_eq!(row(0)["output_shape"], json!([24, 24, 8]));
    assert_eq!(row(0)["parameters"], 208);
    assert_eq!(row(2)["kept_bytes"], 12 * 12 * 8 * 100 * 4);
    assert_eq!(row(4)["layer"], "4.dense");
    assert_eq!(row(4)["parameters"], 11_530);
    assert_eq!(summary["parameters"], 208 + 11_530);
    let values = 784 + 2 * 24 * 24 * 8 + 2 * 12 * 12 * 8 + 10;
    assert_eq!(summary["kept_bytes"], values * 100 * 4);
    let text =
        post_as(&server, "/v1/networks/summary", "text/plain", json!({})).await.text().await.expect("text");
    assert!(text.contains("203\u{a0}530"), "{text}");
    refused(
        &server,
        "/v1/networks/summary",
        json!({ "network": "nlp", "batch_size": 0 }),
        &["/network", "/batch_size"],
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_running_job_shows_the_bytes_it_takes_beside_the_estimate() {
    let server = TestServer::start(&[]).await;
    for network in ["lesson", "mlp", "cnn-fast", "cnn", "cnn-best"] {
        let job = server.create(json!({ "network": network, "train_samples": 600, "epochs": 1 })).await;
        let job = server.ended(job["id"].as_str().expect("an id")).await;
        let memory = &job["progress"]["memory"];
        let bytes = |name: &str| memory[name].as_f64().expect("bytes");
        let ratio = bytes("estimated_bytes") / bytes("measured_bytes");
        assert!((0.8..1.2).contains(&ratio), "{network}: {memory}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_gradient_check_reports_both_gradients_and_what_each_takes() {
    let server = TestServer::start(&[]).await;
    for request in [
        json!({}),
        json!({ "network": "lesson", "samples": 3, "seed": 7, "loss": "mean_squared_error" }),
        json!({ "network": "cnn-fast", "samples": 2 }),
        json!({ "network": { "layers": [{ "type": "dense", "units": 8 }, { "type": "batch_norm" }, { "type": "sigmoid" },
            { "type": "dense", "units": 10 }] }, "parameters": 20 }),
    ] {
        let check = post(&server, "/v1/gradient-check", request.clone()).await;
        assert!(check["max_relative_error"].as_f64().expect("a number") < 1e-4, "{request}: {check}");
        assert!(check["ratio"].as_f64().expect("a number") > 10.0, "{check}");
        for layer in check["layers"].as_array().expect("layers") {
            assert!(layer["checked"].as_u64() > Some(0), "{layer}");
            assert!(layer["worst"]["backpropagation"].is_number() && layer["worst"]["numerical"].is_number());
        }
    }
    let wide = json!({ "network": { "layers": [{ "type": "dense", "units": 16_000 }, { "type": "dense", "units": 16_000 },
        { "type": "dense", "units": 10 }] } });
    let text = refused(&server, "/v1/gradient-check", wide, &["", ""]).await;
    assert!(text.contains("floating-point operations") && text.contains("bytes of memory"), "{text}");
    refused(
        &server,
        "/v1/gradient-check",
        json!({ "network": "mlp", "model": "digits", "samples": 0, "x": 1 }),
        &["/model", "/samples", "/x"],
    )
    .await;
    refused(&server, "/v1/gradient-check", json!({ "model": "digits" }), &["/model"]).await;
    server.with_model().await;
    let check = post(&server, "/v1/gradient-check", json!({ "model": "digits" })).await;
    assert!(check["max_relative_error"].as_f64().expect("a number") < 1e-4, "{check}");
    server.stop().await;
}

#[tokio::test]
async fn a_trace_shows_every_layer_and_an_update_that_lowers_the_loss() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let example = json!({ "example": { "index": 8 }, "learning_rate": 0.01 });
    let trace = post(&server, "/v1/models/digits/trace", example.clone()).await;
    assert_eq!(
        (&trace["model"], &trace["version"], &trace["label"]),
        (&json!("digits"), &json!(1), &json!(5))
    );
    assert!(trace["loss_after"].as_f64() < trace["loss_before"].as_f64(), "{trace}");
    let layers = trace["layers"].as_array().expect("layers");
    assert_eq!(
        layers.iter().map(|layer| &layer["layer"]).collect::<Vec<_>>(),
        ["0.dense", "1.relu", "2.dense"]
    );
    assert!(layers[0]["weight_gradient"]["norm"].as_f64() > Some(0.0), "{trace}");
    assert_eq!(layers[0]["output"]["array"], Value::Null);
    assert_eq!(layers[1]["weight_gradient"], Value::Null);

    let with_arrays = post(&server, "/v1/models/digits/trace?arrays=true", example.clone()).await;
    let layer = &with_arrays["layers"][2];
    let error: Vec<f64> = serde_json::from_value(layer["error"]["array"].clone()).expect("numbers");
    let probabilities: Vec<f64> = serde_json::from_value(trace["probabilities"].clone()).expect("numbers");
    for (class, (error, p)) in error.iter().zip(&probabilities).enumerate() {
        let target = f64::from(u8::from(class == 5));
        assert!((error - (p - target)).abs() < 1e-6, "{error} {p}");
    }
    assert_eq!(layer["bias_gradient"]["array"], layer["error"]["array"]);
    // Nothing was kept of the update.
    assert_eq!(post(&server, "/v1/models/digits/trace", example).await, trace);

    let path = "/v1/models/digits/trace";
    refused(&server, path, json!({ "example": { "index": 10_000 } }), &["/example/index"]).await;
    refused(&server, path, json!({ "image": [1, 2] }), &["/image", "/label"]).await;
    refused(
        &server,
        path,
        json!({ "label": 10, "learning_rate": 0 }),
        &["/learning_rate", "/label", "/image"],
    )
    .await;
    let png =
        post_as(&server, &format!("{path}?layer=1.relu"), "image/png", json!({ "example": { "index": 8 } }))
            .await;
    assert!(png.bytes().await.expect("a body").starts_with(b"\x89PNG"));
    problem(server.post("/v1/models/nothing/trace", "application/json", "{}").await, 404, "unknown_model")
        .await;
    server.stop().await;
}

#[tokio::test]
async fn the_microscope_explains_one_parameter_of_a_real_network() {
    let server = TestServer::start(&[]).await;
    let layers = json!([{ "type": "conv2d", "filters": 4, "kernel": 3, "stride": 2 }, { "type": "batch_norm" },
        { "type": "relu" }, { "type": "dense", "units": 10 }]);
    let job =
        server.create(json!({ "network": { "layers": layers }, "train_samples": 1_000, "epochs": 1 })).await;
    server.ended(job["id"].as_str().expect("an id")).await;
    let path = "/v1/models/digits/microscope";
    for (layer, parameter, index) in [
        ("0.conv2d", "weight", json!([1, 1, 0, 2])),
        ("0.conv2d", "bias", json!(3)),
        ("1.batch_norm", "weight", json!([2])),
        ("1.batch_norm", "bias", json!([2])),
        ("3.dense", "weight", json!([300, 7])),
        ("3", "weight", json!(3_007)),
        ("3.dense", "bias", json!([7])),
    ] {
        let body =
            json!({ "example": { "index": 0 }, "layer": layer, "parameter": parameter, "index": index });
        let found = post(&server, path, body).await;
        assert!(found["relative_error"].as_f64().expect("a number") < 1e-6, "{found}");
        let uses = found["uses"].as_u64().expect("a count");
        assert_eq!(uses, if layer.starts_with('3') { 1 } else { 13 * 13 }, "{found}");
        let term = &found["terms"][0];
        let product = term["input"].as_f64().expect("x") * term["error"].as_f64().expect("dy");
        assert_eq!(term["product"], product);
        for path in found["paths"].as_array().expect("paths") {
            let locals = path["steps"]
                .as_array()
                .expect("steps")
                .iter()
                .map(|step| step["local"].as_f64().expect("a number"));
            let product: f64 = locals.product();
            let told = path["product"].as_f64().expect("a number");
            assert!((product - told).abs() <= 1e-9 * told.abs(), "{path}");
            assert_eq!(path["steps"].as_array().expect("steps").last().expect("the loss")["layer"], "loss");
        }
    }
    let body = json!({ "example": { "index": 0 }, "layer": "3.dense", "index": [300, 7] });
    let text = post_as(&server, path, "text/plain", body).await.text().await.expect("text");
    assert!(text.contains("∂L/∂w[300, 7] = x·∂L/∂y[7] = "), "{text}");
    let image = json!({ "example": { "index": 0 } });
    let with = |more: Value| {
        let mut body = image.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    refused(&server, path, with(json!({ "layer": "2.relu", "index": 0 })), &["/layer"]).await;
    refused(&server, path, with(json!({ "layer": "9.dense", "index": 0 })), &["/layer"]).await;
    refused(&server, path, with(json!({ "layer": "3.dense", "index": [676, 0] })), &["/index"]).await;
    refused(&server, path, with(json!({ "layer": "3.dense", "index": [-1, 0] })), &["/index"]).await;
    refused(&server, path, image, &["/layer", "/index"]).await;
    server.stop().await;
}

#[tokio::test]
async fn weights_are_shown_as_figures_and_pictures() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let weights = server.get_json("/v1/models/digits/layers/0.dense/weights").await;
    assert_eq!(weights["shape"], json!([784, 256]));
    let counts: Vec<usize> = serde_json::from_value(weights["histogram"]["counts"].clone()).expect("counts");
    assert_eq!(counts.iter().sum::<usize>(), 784 * 256);
    assert_eq!(weights["histogram"]["edges"].as_array().expect("edges").len(), counts.len() + 1);
    let picture = |name: &str| {
        let path = server.path(&format!("/v1/models/digits/layers/{name}/weights"));
        server.http.get(path).header("Accept", "image/png").send()
    };
    let png = picture("0.dense").await.expect("an answer").bytes().await.expect("a body");
    assert!(png.starts_with(b"\x89PNG"));
    problem(picture("1.relu").await.expect("an answer"), 404, "no_parameters").await;
    problem(server.get("/v1/models/digits/layers/7/weights").await, 404, "unknown_layer").await;
    server.stop().await;
}

#[tokio::test]
async fn an_explanation_has_the_gradients_that_differences_find_and_adds_up() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let pixels = mnist::dataset().test.image(0).to_vec();
    let answer = post(&server, "/v1/models/digits/explain", json!({ "image": pixels })).await;
    let found = &answer["explanations"][0];
    assert_eq!(found["label"], 7);
    assert_eq!(found["saliency"].as_array().expect("rows").len(), 28);
    assert!(
        found["completeness"]["relative_error"].as_f64().expect("a number") < 0.01,
        "{}",
        found["completeness"]
    );
    let request = server.http.post(server.path("/v1/models/digits/explain")).header("Accept", "image/png");
    let png = request.json(&json!({ "images": [pixels, pixels] })).send().await.expect("an answer");
    assert!(png.bytes().await.expect("a body").starts_with(b"\x89PNG"));
    let many: Vec<&Vec<u8>> = vec![&pixels; 17];
    refused(&server, "/v1/models/digits/explain", json!({ "images": many }), &["/images"]).await;
    problem(
        server.post("/v1/models/digits/explain?class=10", "application/octet-stream", pixels).await,
        422,
        "invalid_query",
    )
    .await;
    server.stop().await;
}

#[test]
fn saliency_is_the_derivative_of_the_score() {
    let spec = crate::reproducible::spec(json!({ "network": "cnn-fast" }));
    let mut network = Network::<f32>::new(INPUT, &spec.network.layers, 3).expect("layers that fit");
    for (_, bias) in network.layers_mut().iter_mut().filter_map(|layer| layer.parameters_mut()) {
        bias.iter_mut().enumerate().for_each(|(unit, bias)| *bias = 0.03 * (unit + 1) as f32);
    }
    let wide: Network<f64> = network.converted();
    let image: Vec<f32> =
        mnist::dataset().test.image(1).iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    let found = lab::explain(&network, &image, None);
    let score = |pixel: usize, step: f64| {
        let mut x: Vec<f64> = image.iter().copied().map(f64::from).collect();
        x[pixel] += step;
        let x = Array2::from_shape_vec((1, x.len()), x).expect("a row");
        Tape::forward(&wide, x).scores()[[0, found.label]]
    };
    // Beside a pixel of an empty part two windows are alike, and which is larger is no matter of slope.
    let of_digit = |pixel: &usize| image[*pixel] > 0.3;
    for pixel in (0..image.len()).filter(of_digit).step_by(5) {
        let numerical = (score(pixel, 1e-6) - score(pixel, -1e-6)) / 2e-6;
        let saliency = f64::from(found.saliency[pixel / 28][pixel % 28]);
        assert!(
            (saliency - numerical).abs() < 0.01 * numerical.abs().max(0.1),
            "{pixel}: {saliency} {numerical}"
        );
    }
    // Known bad: the derivative of another class's score is another.
    let other = lab::explain(&network, &image, Some((found.label + 1) % 10));
    assert_ne!(other.saliency, found.saliency);
}

async fn findings(server: &TestServer, request: Value) -> Vec<String> {
    let job = server.create(request).await;
    let id = job["id"].as_str().expect("an id").to_owned();
    server.ended(&id).await;
    let metrics = server.get_json(&format!("/v1/jobs/{id}/metrics")).await;
    let findings = metrics["findings"].as_array().expect("findings");
    for finding in findings {
        assert!(finding["threshold"].is_number() && finding["source"].is_string(), "{finding}");
    }
    findings.iter().map(|finding| finding["code"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test]
async fn bad_jobs_are_found_out_and_the_default_one_is_not() {
    let server = TestServer::start(&[]).await;
    assert_eq!(findings(&server, json!({})).await, Vec::<String>::new());

    let mut deep: Vec<Value> = Vec::new();
    for _ in 0..8 {
        deep.extend([
            json!({ "type": "dense", "units": 32, "init": "xavier" }),
            json!({ "type": "sigmoid" }),
        ]);
    }
    deep.push(json!({ "type": "dense", "units": 10 }));
    let request = json!({ "network": { "layers": deep }, "train_samples": 4_000, "epochs": 1,
        "optimizer": { "type": "sgd", "learning_rate": 0.1 } });
    assert!(findings(&server, request).await.contains(&"vanishing_gradient".to_owned()));

    let sgd = |rate: f64| {
        json!({ "train_samples": 4_000, "epochs": 3, "schedule": { "type": "constant" },
        "optimizer": { "type": "sgd", "learning_rate": rate } })
    };
    assert!(findings(&server, sgd(1e5)).await.contains(&"learning_rate_too_high".to_owned()));
    assert!(findings(&server, sgd(20.0)).await.contains(&"dead_relus".to_owned()));
    let memorised =
        json!({ "train_samples": 300, "epochs": 30, "batch_size": 32, "validation_fraction": 0.3 });
    assert_eq!(findings(&server, memorised).await, ["overfitting"]);
    server.stop().await;
}
