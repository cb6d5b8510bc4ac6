//! Models as files: what is exported can be used elsewhere, and what comes from elsewhere is a model like any other.

mod refused;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chainrule::artifact::onnx::read_onnx;
use chainrule::artifact::read_model;
use chainrule::blobs::digest;
use chainrule::data::{mnist, picture};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::process::{Process, output, text};
use crate::server::TestServer;

/// Largest difference of a probability between this server and the program that wrote a file.
const CLOSE: f64 = 5e-6;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/engine/tests/fixtures/onnx")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).expect("a fixture")
}

async fn upload(server: &TestServer, name: &str, file: Vec<u8>) -> Response {
    server.post(&format!("/v1/models/{name}/versions"), "application/octet-stream", file).await
}

/// Uploads a file that is accepted. Returns the version.
async fn uploaded(server: &TestServer, name: &str, file: Vec<u8>) -> Value {
    let response = upload(server, name, file).await;
    let (status, location) = (response.status(), response.headers().get("location").cloned());
    let version: Value = response.json().await.expect("JSON");
    assert_eq!(status, StatusCode::CREATED, "{version}");
    let location = location.expect("a location");
    assert_eq!(location, &format!("/v1/models/{name}@{}", version["version"]));
    version
}

async fn exported(server: &TestServer, reference: &str, format: &str) -> Vec<u8> {
    let response = server.get(&format!("/v1/models/{reference}/export?format={format}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.bytes().await.expect("bytes").to_vec()
}

/// Returns the probabilities of the first `count` test digits.
async fn probabilities(server: &TestServer, reference: &str, count: usize) -> Vec<Vec<f64>> {
    let mnist = mnist::dataset();
    let images: Vec<u8> = (0..count).flat_map(|index| mnist.test.image(index).to_vec()).collect();
    let path = format!("/v1/models/{reference}/predict");
    let response = server.post(&path, "application/octet-stream", images).await;
    let answer: Value = response.json().await.expect("JSON");
    let rows = answer["predictions"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    rows.map(|row| serde_json::from_value(row["probabilities"].clone()).expect("numbers")).collect()
}

fn largest_difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_file_with_its_digest_and_a_receipt() {
    let server = TestServer::start(&[]).await;
    let job = server.with_model().await;
    for format in ["safetensors", "onnx"] {
        let path = format!("/v1/models/digits@1/export?format={format}");
        let response = server.get(&path).await;
        let headers = response.headers().clone();
        let bytes = response.bytes().await.expect("bytes").to_vec();
        assert_eq!(headers["content-type"], "application/octet-stream");
        assert_eq!(headers["content-disposition"], &format!("attachment; filename=\"digits-1.{format}\""));
        assert_eq!(headers["etag"], &format!("\"{}\"", digest(&bytes)));
        let announced = headers["repr-digest"].to_str().expect("text");
        let encoded = announced.strip_prefix("sha-256=:").and_then(|rest| rest.strip_suffix(':'));
        let decoded = STANDARD.decode(encoded.expect("a digest")).expect("base64");
        assert_eq!(decoded.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), digest(&bytes));
        assert!(exported(&server, "digits", format).await == bytes, "equal models give equal bytes");
        let again = server.http.get(server.path(&path)).header("If-None-Match", &headers["etag"]).send();
        assert_eq!(again.await.expect("an answer").status(), StatusCode::NOT_MODIFIED);

        let find = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(find(job["id"].as_str().expect("an id").as_bytes()), "{format} has no receipt");
    }
    // Without a format, it is this program's own.
    let plain = server.get("/v1/models/digits/export").await.bytes().await.expect("bytes");
    assert!(plain == exported(&server, "digits", "safetensors").await);

    let length = u64::from_le_bytes(plain[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&plain[8..8 + length]).expect("JSON");
    let receipt = header["__metadata__"]["receipt"].as_str().expect("a receipt");
    let receipt: Value = serde_json::from_str(receipt).expect("JSON");
    let shown = server.get_json("/v1/models/digits@1").await["versions"][0].clone();
    assert_eq!((&receipt["model"], &receipt["model_sha256"]), (&json!("digits@1"), &shown["sha256"]));
    assert_eq!((&receipt["spec"], &receipt["dataset"]), (&job["spec"], &json!("mnist")));
    assert_eq!((&receipt["source"], &receipt["job_id"]), (&json!("job"), &job["id"]));
    assert_eq!(receipt["test_accuracy"], shown["test_accuracy"]);
    for field in ["program", "processor", "published_at"] {
        assert!(receipt[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {receipt}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_becomes_a_version_that_predicts_the_same() {
    let server = TestServer::start(&[]).await;
    server.with_model().await;
    let before = probabilities(&server, "digits@1", 50).await;
    let parts = [("safetensors", 2, 0.0), ("onnx", 3, 1e-6)];
    for (format, number, allowed) in parts {
        let file = exported(&server, "digits@1", format).await;
        let version = uploaded(&server, "digits", file.clone()).await;
        assert_eq!((&version["version"], &version["source"]), (&json!(number), &json!("upload")));
        assert!(version["job_id"].is_null() && version["test_accuracy"].is_null(), "{version}");
        let first = server.get_json("/v1/models/digits@1").await["versions"][0].clone();
        for field in ["parameters", "classes", "layers"] {
            assert_eq!(version[field], first[field], "{format}");
        }
        let after = probabilities(&server, &format!("digits@{number}"), 50).await;
        assert!(largest_difference(&before, &after) <= allowed, "{format}");
        // The file differs only by its receipt.
        let again = exported(&server, &format!("digits@{number}"), "safetensors").await;
        assert!(
            read_model(&again).expect("a model").1
                == read_model(&exported(&server, "digits@1", "safetensors").await).expect("a model").1
        );
        // With the media type of the format, and its digest.
        let media_type = if format == "onnx" { "application/onnx" } else { "application/vnd.safetensors" };
        let hex = digest(&file);
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect();
        let request = server.http.post(server.path("/v1/models/copies/versions")).body(file);
        let request = request.header("Content-Type", media_type);
        let request =
            request.header("Repr-Digest", format!("md5=:AAAA:, sha-256=:{}:", STANDARD.encode(bytes)));
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::CREATED);
    }
    assert_eq!(server.get_json("/v1/models/copies").await["version_count"], 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_of_pytorch_and_keras_are_models_like_any_other() {
    let server = TestServer::start(&[]).await;
    let recorded = std::fs::read_to_string(fixtures().join("probabilities.json")).expect("a fixture");
    let recorded: std::collections::BTreeMap<String, Vec<Vec<f64>>> =
        serde_json::from_str(&recorded).expect("JSON");
    for (number, (file, expected)) in recorded.iter().enumerate() {
        let version = uploaded(&server, "foreign", fixture(file)).await;
        assert_eq!(
            (&version["version"], &version["classes"][9]),
            (&json!(number + 1), &json!("9")),
            "{file}"
        );
        let found = probabilities(&server, &format!("foreign@{}", number + 1), expected.len()).await;
        let difference = largest_difference(&found, expected);
        assert!(difference <= CLOSE, "{file}: {difference}");
    }
    // Keras' cnn, which has most kinds of layers.
    uploaded(&server, "cnn", fixture("keras_cnn.onnx")).await;
    let png = picture::to_png(mnist::dataset().test.image(0));
    let explained = server.post("/v1/models/cnn/explain?prepare=none", "image/png", png).await;
    assert_eq!(explained.status(), StatusCode::OK);
    let example = json!({ "example": { "index": 0 } }).to_string();
    let traced = server.post("/v1/models/cnn/trace", "application/json", example).await;
    assert_eq!(traced.status(), StatusCode::OK);
    let weights = server.get("/v1/models/cnn/layers/0.conv2d/weights").await;
    assert_eq!(weights.status(), StatusCode::OK);

    let layers = server.get_json("/v1/models/cnn").await["versions"][0]["layers"].clone();
    let tuning = json!({
        "model": "cnn", "initial_model": "cnn@1", "network": { "layers": layers }, "epochs": 1, "train_samples": 2_000,
        "optimizer": { "type": "sgd", "learning_rate": 0.001 },
    });
    // So few and small steps would not take a new network far.
    let job = server.create(tuning).await;
    let job = server.ended(job["id"].as_str().expect("an id")).await;
    assert_eq!(job["result"]["version"], 2, "{job}");
    assert!(job["result"]["test_accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.8), "{job}");
    for reference in ["cnn@1", "cnn@2"] {
        let onnx = read_onnx(&exported(&server, reference, "onnx").await, None).expect("an ONNX file");
        let own = read_model(&exported(&server, reference, "safetensors").await).expect("a model");
        assert!(onnx.network == own.1, "{reference}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scale_of_pixels_can_be_said() {
    let server = TestServer::start(&[]).await;
    let file = || fixture("torch_mlp_script.onnx");
    uploaded(&server, "guessed", file()).await;
    let path = "/v1/models/said/versions?scale=byte";
    let said = server.post(path, "application/onnx", file()).await;
    assert_eq!(said.status(), StatusCode::CREATED);
    let guessed = probabilities(&server, "guessed", 4).await;
    let said = probabilities(&server, "said", 4).await;
    assert!(largest_difference(&guessed, &said) > 0.01, "pixels up to 255 are another input");
    server.stop().await;
}

#[test]
fn the_command_line_exports_and_imports() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::serve(&folder.path().join("data"));
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let run = |arguments: &[&str]| {
        let printed = output(&[arguments, &["--server", &process.url]].concat());
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        text(&printed.stdout).to_owned()
    };
    let keras = fixtures().join("keras_mlp.onnx");
    let keras = keras.to_str().expect("UTF-8");
    let imported = run(&["models", "import", "digits", keras]);
    assert!(imported.contains("is digits@1: 4 layers, 12762 parameters, 10 classes"), "{imported}");
    assert_eq!(run(&["models", "import", "digits", keras, "-q"]), "digits@2\n");
    let version: Value =
        serde_json::from_str(&run(&["models", "import", "digits", keras, "--json"])).expect("JSON");
    assert_eq!((&version["version"], &version["source"]), (&json!(3), &json!("upload")));
    for name in ["digits.onnx", "digits.safetensors"] {
        let told: Value =
            serde_json::from_str(&run(&["models", "export", "digits@1", &file(name), "--json"]))
                .expect("JSON");
        let bytes = std::fs::read(file(name)).expect("a file");
        assert_eq!((&told["sha256"], &told["size_bytes"]), (&json!(digest(&bytes)), &json!(bytes.len())));
        assert_eq!(told["format"], name.split('.').nth(1).expect("an extension"));
        run(&["models", "import", "copies", &file(name)]);
    }
    let shown = run(&["models", "export", "digits@1", &file("x"), "--format", "onnx"]);
    assert!(shown.starts_with("digits@1 is in ") && shown.contains(": onnx, "), "{shown}");
    let piped = output(&["models", "export", "digits@1", "-", "--server", &process.url]);
    assert!(piped.stdout == std::fs::read(file("digits.safetensors")).expect("a file"));

    let broken = file("broken.onnx");
    std::fs::write(&broken, b"no network").expect("a file");
    let refused = output(&["models", "import", "digits", &broken, "--server", &process.url]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not an ONNX file"), "{}", text(&refused.stderr));
}
