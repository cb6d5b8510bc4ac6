//! The lab: the lesson's numbers over HTTP, and summaries of networks.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::server::{TestServer, pointers, problem};

pub async fn post(server: &TestServer, path: &str, body: Value) -> Value {
    let response = server.post(path, "application/json", body.to_string()).await;
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert_eq!(status, StatusCode::OK, "POST {path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

pub async fn post_as(server: &TestServer, path: &str, accept: &str, body: Value) -> Response {
    let request = server.http.post(server.path(path)).header("Accept", accept).json(&body);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let found = response.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(found.starts_with(accept), "{found}");
    response
}

pub async fn refused(server: &TestServer, path: &str, body: Value, expected: &[&str]) -> String {
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
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    let dot = post_as(&server, "/v1/graph", "text/vnd.graphviz", body).await.text().await.expect("text");
    assert!(dot.starts_with("digraph"), "{dot}");
    let weighed =
        server.http.post(server.path("/v1/graph")).json(&json!({ "expression": "a", "inputs": { "a": 1 } }));
    let weighed = weighed.header("Accept", "image/svg+xml;q=0.1, text/plain;q=0.9, application/json;q=0.5");
    let found = weighed.send().await.expect("an answer").headers()["content-type"].clone();
    assert_eq!(found, "text/plain; charset=utf-8");
    problem(server.post("/v1/graph?x=1", "application/json", "{}").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test]
async fn bad_expressions_are_refused_with_the_column() {
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
    let beyond = problem(response, 422, "invalid_request").await;
    assert_eq!(pointers(&beyond), ["/inputs/a"]);
    let huge = json!({ "expression": "a+".repeat(500_000) });
    let response = server.post("/v1/graph", "application/json", huge.to_string()).await;
    problem(response, 413, "body_too_large").await;
    server.stop().await;
}

#[tokio::test]
async fn the_affine_layer_works_on_a_sample_and_on_a_batch_and_reports_every_shape() {
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
    let mse =
        post(&server, path, json!({ "logits": [1, 2, 3], "target": 2, "loss": "mean_squared_error" })).await;
    let squares: f64 = (0..3).map(|class| (p[class] - f64::from(u8::from(class == 2))).powi(2)).sum();
    assert!((mse["loss"].as_f64().expect("a loss") - squares / 3.0).abs() < 1e-12, "{mse}");
    let spread = json!({ "logits": [0, 0], "target": [0.5, 0.5], "loss": "mean_squared_error" });
    refused(&server, path, spread, &["/target"]).await;
    let soft = post(&server, path, json!({ "logits": [0, 0], "target": [0.25, 0.75] })).await;
    assert_eq!(soft["gradient"], json!([0.25, -0.25]));

    refused(&server, path, json!({ "logits": [1, 2], "target": 2 }), &["/target"]).await;
    refused(&server, path, json!({ "logits": [1, 2], "target": [0.5, 0.6] }), &["/target"]).await;
    refused(&server, path, json!({ "logits": [[1, 2]], "target": [0, 1] }), &["/target"]).await;
    refused(&server, path, json!({ "logits": "x" }), &["/logits", "/target"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_convolution_has_the_sums_that_one_finds_on_paper() {
    let server = TestServer::start(&[]).await;
    let path = "/v1/convolution";
    let small = json!({ "input": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "filter": [[1, 0], [0, -1]], "dy": [[1, 2], [3, 4]] });
    let answer = post(&server, path, small).await;
    assert_eq!(answer["y"], json!([[-4.0, -4.0], [-4.0, -4.0]]));
    assert_eq!(answer["dx"], json!([[1.0, 2.0, 0.0], [3.0, 3.0, -2.0], [0.0, -3.0, -4.0]]));
    assert_eq!(answer["dfilter"], json!([[37.0, 47.0], [67.0, 77.0]]));
    assert_eq!(answer["dbias"], Value::Null);

    let padded = json!({ "input": [[1, 2], [3, 4]], "filter": [[1, 1], [1, 1]], "padding": 1, "stride": 2, "bias": [10], "dy": [[1, 2], [3, 4]] });
    let answer = post(&server, path, padded).await;
    assert_eq!(answer["y"], json!([[11.0, 12.0], [13.0, 14.0]]));
    assert_eq!(answer["dx"], json!([[1.0, 2.0], [3.0, 4.0]]));
    assert_eq!(answer["dbias"], json!([10.0]));
    let formula =
        "y[i, j, f] = Σ x[2i + u − 1, 2j + v − 1, c]·w[u, v, c, f] + b[f]: (2, 2) * (2, 2) = (2, 2)";
    assert_eq!(answer["products"][0], formula);
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
    problem(server.get("/v1/activations/%ff").await, 400, "invalid_path").await;
    problem(server.get("/v1/activations/relu?from=2&to=1").await, 422, "invalid_query").await;
    problem(server.get("/v1/activations/relu?points=1").await, 422, "invalid_query").await;
    problem(server.get("/v1/activations/relu?from=NaN").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test]
async fn a_summary_counts_the_parameters_and_the_cost_of_a_network() {
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
async fn a_running_job_shows_its_memory_and_the_estimate() {
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
async fn a_gradient_check_reports_both_gradients_and_their_cost() {
    let server = TestServer::start(&[]).await;
    for request in [
        json!({}),
        json!({ "network": "lesson", "samples": 3, "seed": 7, "loss": "mean_squared_error" }),
        json!({ "network": "cnn-fast", "samples": 2 }),
        // Their difference steps cross kinks of relu and max-pooling.
        json!({ "network": "cnn", "seed": 12 }),
        json!({ "network": "cnn", "seed": 7, "parameters": 50 }),
        json!({ "network": "cnn-fast", "seed": 29 }),
        json!({ "network": { "layers": [{ "type": "dense", "units": 8 }, { "type": "batch_norm" }, { "type": "sigmoid" },
            { "type": "dense", "units": 10 }] }, "parameters": 20 }),
    ] {
        let check = post(&server, "/v1/gradient-check", request.clone()).await;
        assert!(check["max_relative_error"].as_f64().expect("a number") < 1e-5, "{request}: {check}");
        assert!(check["ratio"].as_f64().expect("a number") > 10.0, "{check}");
        for layer in check["layers"].as_array().expect("layers") {
            assert!(layer["checked"].as_u64() > Some(0), "{layer}");
            assert!(layer["worst"]["backpropagation"].is_number() && layer["worst"]["numerical"].is_number());
            assert!(layer["kinks"].as_u64() < layer["checked"].as_u64(), "{layer}");
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
