//! The inside of a trained network, and what the metrics of a job say about it.

use chainrule::data::mnist;
use chainrule::lab;
use chainrule::nn::{Network, Tape};
use ndarray::Array2;
use serde_json::{Value, json};

use crate::lab::{post, post_as, refused};
use crate::server::{TestServer, problem};

#[tokio::test]
async fn a_body_without_a_whole_image_is_refused_whatever_the_form_of_the_answer() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    for accept in ["application/json", "image/png"] {
        let request = server.http.post(server.path("/v1/models/digits/explain")).header("Accept", accept);
        let request = request.header("Content-Type", "application/octet-stream").body(vec![0; 783]);
        problem(request.send().await.expect("an answer"), 422, "invalid_image_size").await;
    }
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
    // The update is not kept.
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
    assert!(width(&png.bytes().await.expect("a body")) > 256);
    let squares = json!({ "example": { "index": 8 }, "loss": "mean_squared_error" });
    let squares = post(&server, path, squares).await;
    assert!(
        squares["loss_before"].as_f64() < Some(0.21) && squares["loss"] == "mean_squared_error",
        "{squares}"
    );
    refused(&server, path, json!({ "example": { "index": 8 }, "scale": "unit" }), &["/scale"]).await;
    problem(server.post("/v1/models/nothing/trace", "application/json", "{}").await, 404, "unknown_model")
        .await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_too_expensive_is_refused_with_the_estimate() {
    let server = TestServer::start(&["--lab-flops-max", "1e5"]).await;
    server.with_model().await;
    let example = json!({ "example": { "index": 0 }, "layer": "0", "index": 0 });
    let pixels = mnist::dataset().test.image(0).to_vec();
    for (path, body) in [
        ("/v1/models/digits/trace", json!({ "example": { "index": 0 } })),
        ("/v1/models/digits/microscope", example),
        ("/v1/models/digits/explain", json!({ "image": pixels })),
        ("/v1/gradient-check", json!({ "model": "digits" })),
        ("/v1/gradient-check", json!({})),
    ] {
        let text = refused(&server, path, body, &[""]).await;
        assert!(text.contains("floating-point operations, this server gives 1.0e5"), "{text}");
    }
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
            let reported = path["product"].as_f64().expect("a number");
            assert!((product - reported).abs() <= 1e-9 * reported.abs(), "{path}");
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
    for (layer, pixels) in [("0.dense", 16 * 28), ("2.dense", 256)] {
        let png = picture(layer).await.expect("an answer").bytes().await.expect("a body");
        assert!((pixels..4 * pixels).contains(&width(&png)), "{layer}: {}", width(&png));
    }
    problem(picture("1.relu").await.expect("an answer"), 404, "no_parameters").await;
    problem(server.get("/v1/models/digits/layers/7/weights").await, 404, "unknown_layer").await;
    server.stop().await;
}

#[tokio::test]
async fn an_explanation_adds_up_and_has_the_numerical_gradients() {
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
    assert!(width(&png.bytes().await.expect("a body")) > 4 * 28);
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
    let mut network =
        Network::<f32>::new(mnist::shape().input, &spec.network.layers, 3).expect("layers that fit");
    for (_, bias) in network.layers_mut().iter_mut().filter_map(|layer| layer.parameters_mut()) {
        bias.iter_mut().enumerate().for_each(|(unit, bias)| *bias = 0.03 * (unit + 1) as f32);
    }
    let wide: Network<f64> = network.converted();
    let image: Vec<f32> =
        mnist::dataset().test.image(1).iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    let found = lab::explain(&network, &[&image], None, &|| true).expect("nobody stops it").remove(0);
    let score = |pixel: usize, step: f64| {
        let mut x: Vec<f64> = image.iter().copied().map(f64::from).collect();
        x[pixel] += step;
        let x = Array2::from_shape_vec((1, x.len()), x).expect("a row");
        Tape::forward(&wide, x).scores()[[0, found.label]]
    };
    // Next to a pixel of an empty area, two values of a pooling window are equal. There the maximum has a kink
    // and no derivative.
    let of_digit = |pixel: &usize| image[*pixel] > 0.3;
    for pixel in (0..image.len()).filter(of_digit).step_by(5) {
        let numerical = (score(pixel, 1e-6) - score(pixel, -1e-6)) / 2e-6;
        let saliency = f64::from(found.saliency[pixel / 28][pixel % 28]);
        assert!(
            (saliency - numerical).abs() < 0.01 * numerical.abs().max(0.1),
            "{pixel}: {saliency} {numerical}"
        );
    }
    // Known bad: the derivative of the score of another class.
    let other = lab::explain(&network, &[&image], Some((found.label + 1) % 10), &|| true)
        .expect("nobody stops it")
        .remove(0);
    assert_ne!(other.saliency, found.saliency);
}

/// Returns the width of a PNG (RFC 2083, section 11.2.2).
fn width(png: &[u8]) -> u32 {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
    u32::from_be_bytes(png[16..20].try_into().expect("four bytes"))
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
async fn problems_of_bad_jobs_are_found_and_the_default_job_has_none() {
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
        json!({ "train_samples": 400, "epochs": 30, "batch_size": 32, "validation_fraction": 0.3 });
    assert_eq!(findings(&server, memorised).await, ["overfitting"]);
    server.stop().await;
}
