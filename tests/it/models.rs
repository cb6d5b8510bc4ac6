//! Published models and their predictions.

use chainrule::blobs::Blobs;
use chainrule::data::{mnist, picture};
use chainrule::model::ModelRef;
use chainrule::registry::{Registry, RegistryError};
use chainrule::store::Store;
use reqwest::Response;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::server::{TestServer, pointers, problem, quick};

const PREDICT: &str = "/v1/models/digits/predict";

fn digit(index: usize) -> Vec<u8> {
    mnist::dataset().test.image(index).to_vec()
}

async fn predictions(response: Response) -> Value {
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(status, 200, "{body}");
    body["predictions"].clone()
}

async fn json_predictions(server: &TestServer, body: Value) -> Value {
    predictions(server.post(PREDICT, "application/json", body.to_string()).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_with_their_newest_version_and_shown_by_reference() {
    let server = TestServer::start(&[]).await;
    let first = server.with_model().await;
    server.with_model().await;
    let list = server.get_json("/v1/models").await;
    assert_eq!((&list["models"][0]["name"], &list["next_cursor"]), (&json!("digits"), &Value::Null));
    assert_eq!(list["models"][0]["version_count"], 2);
    assert_eq!(list["models"][0]["versions"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["models"][0]["versions"][0]["version"], 2);
    let model = server.get_json("/v1/models/digits").await;
    assert_eq!(
        model["versions"].as_array().expect("versions").iter().map(|v| &v["version"]).collect::<Vec<_>>(),
        [2, 1]
    );
    let version = &server.get_json("/v1/models/digits@1").await["versions"][0];
    assert_eq!((&version["version"], &version["job_id"]), (&json!(1), &first["id"]));
    assert_eq!(version["parameters"], json!(785 * 256 + 257 * 10));
    assert_eq!(version["classes"], json!(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]));
    assert_eq!(version["layers"][0], json!({ "type": "dense", "units": 256, "init": "he" }));
    assert!(version["size_bytes"].as_u64().is_some_and(|bytes| bytes > 4 * 785 * 256));
    assert_eq!(version["sha256"].as_str().map(str::len), Some(64));
    problem(server.get("/v1/models/digits@3").await, 404, "unknown_version").await;
    problem(server.get("/v1/models/digits@champion").await, 404, "unknown_alias").await;
    let problem = problem(server.get("/v1/models/digit").await, 404, "unknown_model").await;
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("did you mean \"digits\"")),
        "{problem}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_body_gives_the_same_prediction() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let pixels = digit(0);
    let rows: Vec<&[u8]> = pixels.chunks(28).collect();
    let unit: Vec<f64> = pixels.iter().map(|&pixel| f64::from(pixel) / 255.0).collect();
    let expected = json_predictions(&server, json!({ "image": rows })).await;
    assert_eq!(expected[0]["label"], 7);
    assert_eq!(
        (&expected[0]["class"], expected[0]["probabilities"].as_array().map(Vec::len)),
        (&json!("7"), Some(10))
    );
    assert_eq!(expected[0]["confidence"], expected[0]["probabilities"][7]);
    let sum: f64 =
        expected[0]["probabilities"].as_array().expect("ten").iter().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-5);

    assert_eq!(json_predictions(&server, json!({ "image": pixels })).await, expected);
    assert_eq!(json_predictions(&server, json!({ "images": [rows] })).await, expected);
    let by_unit = json_predictions(&server, json!({ "image": unit, "scale": "unit" })).await;
    assert_eq!(by_unit[0]["label"], 7);
    let raw = server.post(PREDICT, "application/octet-stream", pixels.clone()).await;
    assert_eq!(predictions(raw).await, expected);
    let png = picture::to_png(&pixels);
    let as_is = server.post(&format!("{PREDICT}?prepare=none"), "image/png", png.clone()).await;
    assert_eq!(predictions(as_is).await, expected);
    let prepared = predictions(server.post(PREDICT, "image/png", png.clone()).await).await;
    assert_eq!(prepared[0]["label"], 7);
    let part = || Part::bytes(png.clone()).file_name("digit.png");
    let form = Form::new().part("image", part()).part("image", part());
    let request = server.http.post(server.path(PREDICT)).multipart(form);
    let twice = predictions(request.send().await.expect("an answer")).await;
    assert_eq!(twice, json!([prepared[0], prepared[0]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_images_are_answered_in_order_and_as_if_each_were_alone() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let images: Vec<Vec<u8>> = (0..20).map(digit).collect();
    let all = predictions(server.post(PREDICT, "application/octet-stream", images.concat()).await).await;
    for (index, image) in images.iter().enumerate() {
        let alone = json_predictions(&server, json!({ "image": image })).await;
        assert_eq!(all[index], alone[0], "image {index}");
    }
    let top = server.post(&format!("{PREDICT}?top=3"), "application/octet-stream", images[0].clone()).await;
    let top = predictions(top).await;
    let best: Vec<f64> =
        top[0]["probabilities"].as_array().expect("three").iter().filter_map(Value::as_f64).collect();
    assert!(best.len() == 3 && best.is_sorted_by(|a, b| a >= b));
    assert_eq!(top[0]["labels"][0], top[0]["label"]);
    for top in ["0", "11", "x"] {
        let response =
            server.post(&format!("{PREDICT}?top={top}"), "application/octet-stream", images[0].clone()).await;
        problem(response, 422, "invalid_query").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_the_wrong_shape_or_value_are_refused_with_their_pointer() {
    let server = TestServer::start(&["--images-max", "5"]).await;
    server.with_model().await;
    let image = vec![0.0; 784];
    let rows = vec![vec![0.0; 28]; 28];
    let with = |index: usize, value: Value| {
        let mut image: Vec<Value> = vec![json!(0); 784];
        image[index] = value;
        Value::Array(image)
    };
    let in_row = |value: Value| {
        let mut rows = vec![vec![json!(0); 28]; 28];
        rows[3][5] = value;
        json!(rows)
    };
    let mut ragged = rows.clone();
    ragged[9].pop();
    let mut long = rows.clone();
    long[9].extend([0.0; 40]);
    let cases = [
        (json!({ "image": image[1..] }), "/image"),
        (json!({ "image": [image.clone()] }), "/image/0"),
        (json!({ "image": rows[1..] }), "/image"),
        (json!({ "image": ragged }), "/image/9"),
        (json!({ "image": long }), "/image/9"),
        (json!({ "image": [] }), "/image"),
        (json!({ "image": "7" }), "/image"),
        (json!({ "image": null }), "/image"),
        (json!({ "image": with(5, json!("0")) }), "/image/5"),
        (json!({ "image": with(5, json!(null)) }), "/image/5"),
        (json!({ "image": with(5, json!(256)) }), "/image/5"),
        (json!({ "image": with(783, json!(-1)) }), "/image/783"),
        (json!({ "image": with(5, json!(1e39)) }), "/image/5"),
        (json!({ "image": in_row(json!(256)) }), "/image/3/5"),
        (json!({ "image": in_row(json!({})) }), "/image/3/5"),
        (json!({ "images": [image, with(7, json!(300))] }), "/images/1/7"),
        (json!({ "image": with(783, json!([])) }), "/image/783"),
        (json!({ "image": with(5, json!(1.5)), "scale": "unit" }), "/image/5"),
        (json!({ "image": image, "scale": "percent" }), "/scale"),
        (json!({ "image": image, "images": [image] }), ""),
        (json!({ "images": [] }), "/images"),
        (json!({ "images": vec![&image; 6] }), "/images"),
        (json!({ "images": 3 }), "/images"),
        (json!({ "picture": image, "image": image }), "/picture"),
        (json!({}), "/image"),
        (json!([image]), ""),
    ];
    for (request, pointer) in cases {
        let response = server.post(PREDICT, "application/json", request.to_string()).await;
        let problem = problem(response, 422, "invalid_request").await;
        assert_eq!(pointers(&problem), [pointer], "{problem}");
    }
    let not_a_number = format!("{{\"image\": [NaN{}]}}", ",0".repeat(783));
    problem(server.post(PREDICT, "application/json", not_a_number).await, 400, "invalid_json").await;
    problem(server.post(PREDICT, "application/json", "").await, 400, "empty_body").await;
    for bytes in [0, 783, 785, 6 * 784] {
        let response = server.post(PREDICT, "application/octet-stream", vec![0; bytes]).await;
        problem(response, 422, "invalid_image_size").await;
    }
    problem(server.post(PREDICT, "text/plain", "7").await, 415, "unsupported_media_type").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_can_not_be_read_are_refused() {
    let server = TestServer::start(&["--pictures-max", "2"]).await;
    server.with_model().await;
    let png = picture::to_png(&digit(0));
    let truncated = png[..png.len() / 2].to_vec();
    problem(server.post(PREDICT, "image/png", truncated).await, 422, "invalid_picture").await;
    problem(server.post(PREDICT, "image/png", "seven").await, 422, "invalid_picture").await;
    problem(server.post(PREDICT, "image/png", "").await, 422, "invalid_picture").await;
    problem(server.post(PREDICT, "image/png", huge_png()).await, 422, "picture_too_large").await;
    problem(server.post(PREDICT, "image/png", picture::to_png(&[0; 784])).await, 422, "blank_picture").await;

    let send = async |form: Form| {
        server.http.post(server.path(PREDICT)).multipart(form).send().await.expect("an answer")
    };
    let part = || Part::bytes(png.clone()).file_name("digit.png");
    problem(send(Form::new()).await, 400, "invalid_multipart").await;
    problem(send(Form::new().part("file", part())).await, 422, "invalid_request").await;
    let text = Part::bytes(b"seven".as_slice()).file_name("seven.png");
    let second =
        problem(send(Form::new().part("image", part()).part("image", text)).await, 422, "invalid_picture")
            .await;
    assert!(second["detail"].as_str().is_some_and(|detail| detail.starts_with("picture 2 of 2")), "{second}");
    let three = Form::new().part("image", part()).part("image", part()).part("image", part());
    problem(send(three).await, 422, "too_many_pictures").await;
    problem(server.post(PREDICT, "multipart/form-data", "x").await, 400, "invalid_multipart").await;
    server.stop().await;
}

/// Returns a PNG whose header claims 60,000 × 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut png = picture::to_png(&[0; 784]);
    let side = 60_000_u32.to_be_bytes();
    png[16..20].copy_from_slice(&side);
    png[20..24].copy_from_slice(&side);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    png
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_answers_at_once_and_the_old_one_stays_reachable() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let body = || digit(0);
    let stop = tokio_util::sync::CancellationToken::new();
    let asking = async {
        let mut versions = Vec::new();
        while !stop.is_cancelled() {
            let response = server.post(PREDICT, "application/octet-stream", body()).await;
            assert_eq!(response.status(), 200);
            versions
                .push(response.json::<Value>().await.expect("JSON")["version"].as_u64().expect("a number"));
        }
        versions
    };
    let publishing = async {
        let job = server.create(quick()).await;
        server.ended(job["id"].as_str().expect("an id")).await;
        let response = server.post(PREDICT, "application/octet-stream", body()).await;
        assert_eq!(response.json::<Value>().await.expect("JSON")["version"], 2);
        stop.cancel();
    };
    let (versions, ()) = tokio::join!(asking, publishing);
    assert!(versions.is_sorted() && versions.first() == Some(&1), "{versions:?}");
    let old = server.post("/v1/models/digits@1/predict", "application/octet-stream", body()).await;
    assert_eq!(old.json::<Value>().await.expect("JSON")["version"], 1);
    server.stop().await;
}

/// Requests may ask for any number of models, but models never take more memory than they may.
#[tokio::test(flavor = "multi_thread")]
async fn no_model_is_loaded_while_models_in_use_fill_the_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    for model in ["a", "b"] {
        let request = json!({ "model": model, "train_samples": 500, "epochs": 1 });
        let id = server.create(request).await["id"].as_str().expect("an id").to_owned();
        server.ended(&id).await;
    }
    server.stop().await;
    let store = Store::open(&folder.path().join("chainrule.db")).await.expect("rows");
    let blobs = Blobs::open(&folder.path().join("blobs")).expect("bytes");
    // There is memory for one of them.
    let registry = Registry::open(store.clone(), blobs, 2_000_000, 1).await.expect("models");
    let of = |name: &str| name.parse::<ModelRef>().expect("a reference");
    let held = registry.get(&of("a"), ()).await.expect("a model");
    assert!(matches!(registry.get(&of("b"), ()).await, Err(RegistryError::InUse)));
    assert!(registry.get(&of("a"), ()).await.is_ok());
    drop(held);
    assert!(registry.get(&of("b"), ()).await.is_ok());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_beyond_the_memory_limit_are_loaded_again_on_demand() {
    let server = TestServer::start(&["--model-bytes-max", "1"]).await;
    for model in ["a", "b"] {
        let job = server.create(json!({ "model": model, "train_samples": 500, "epochs": 1 })).await;
        server.ended(job["id"].as_str().expect("an id")).await;
    }
    for _ in 0..2 {
        for model in ["a", "b"] {
            let response = server
                .post(&format!("/v1/models/{model}/predict"), "application/octet-stream", digit(0))
                .await;
            assert_eq!(response.json::<Value>().await.expect("JSON")["model"], model);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_convolutional_job_is_trained_and_published_and_predicts_the_same_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start_in(folder.path(), &[]).await;
    let request = json!({
        "train_samples": 3_000, "epochs": 2, "ema_decay": 0.9, "augment": { "shift_pixels": 1 },
        "optimizer": { "type": "adamw", "learning_rate": 0.01 },
        "network": { "layers": [
            { "type": "conv2d", "filters": 8, "kernel": 5, "stride": 2 }, { "type": "batch_norm" }, { "type": "leaky_relu" },
            { "type": "avg_pool2d" }, { "type": "dropout", "rate": 0.1 }, { "type": "flatten" },
            { "type": "dense", "units": 32 }, { "type": "gelu" }, { "type": "dense", "units": 10 } ] },
    });
    let job = server.create(request.clone()).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert!(job["result"]["test_accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.8), "{job}");
    let read = async |server: &TestServer| {
        predictions(server.post(PREDICT, "application/octet-stream", digit(0).to_vec()).await).await
    };
    let before = read(&server).await;
    server.stop().await;
    let server = TestServer::start_in(folder.path(), &[]).await;
    assert_eq!(read(&server).await, before);

    let mut tuned = request.clone();
    tuned["initial_model"] = json!("digits");
    tuned["epochs"] = json!(1);
    tuned["seed"] = json!(9);
    let tuned = server.create(tuned).await;
    assert_eq!(tuned["spec"]["initial_model"], "digits@1", "pinned to the version it means now");
    let tuned = server.ended(tuned["id"].as_str().expect("an id")).await;
    let losses = |id: &Value| {
        let path = format!("/v1/jobs/{}/metrics", id.as_str().expect("an id"));
        let server = &server;
        async move { server.get_json(&path).await["epochs"][0]["train_loss"].as_f64().expect("a loss") }
    };
    assert!(losses(&tuned["id"]).await < losses(&job["id"]).await / 2.0, "it goes on where the model was");

    let other =
        json!({ "initial_model": "digits", "network": { "layers": [{ "type": "dense", "units": 10 }] } });
    let refused = server.post("/v1/jobs", "application/json", other.to_string()).await;
    let refused = problem(refused, 422, "invalid_request").await;
    assert_eq!(pointers(&refused), ["/initial_model"], "{refused}");
    server.stop().await;
}
