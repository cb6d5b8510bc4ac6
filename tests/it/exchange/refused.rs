//! Files that are refused, each with its reason, and without harm.

use std::collections::HashMap;

use chainrule::artifact::onnx::{onnx_bytes, read_onnx, seeded_images};
use chainrule::artifact::{ModelFormat, UploadLimits, read_upload, upload_bytes, write_model};
use chainrule::nn::{Init, LayerSpec, LengthError, Network, Predictor, Shape};
use reqwest::StatusCode;

use super::{fixture, upload, uploaded};
use crate::counting::most_held;
use crate::server::{TestServer, problem};

const PATH: &str = "/v1/models/digits/versions";

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_network_are_refused_and_nothing_is_stored() {
    let server = TestServer::start(&[]).await;
    let good = fixture("torch_mlp_script.onnx");
    let long_header = [&(1_u64 << 60).to_le_bytes()[..], b"{}", &[b' '; 64]].concat();
    let nodes = [&b"\x08\x08\x3a"[..], &varint(2_000_000), &b"\x0a\x00".repeat(1_000_000)].concat();
    for (file, expected) in [
        (b"no network".to_vec(), "not an ONNX file"),
        (good[..good.len() / 2].to_vec(), "not an ONNX file"),
        (long_header, "not an ONNX file"),
        (nodes, "more than 100000 nodes"),
        (br#"{"images": []}"#.to_vec(), "not an ONNX file"),
    ] {
        let answer = problem(upload(&server, "digits", file).await, 422, "invalid_model").await;
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(expected)), "{answer}");
    }
    let softplus = replaced(&good, b"Erf", b"Exp");
    let answer = problem(upload(&server, "digits", softplus).await, 422, "invalid_model").await;
    let detail = "node \"/2/Erf\" (Exp): this operator is not supported";
    assert_eq!(answer["detail"], detail);
    let as_safetensors = server.post(PATH, "application/vnd.safetensors", good.clone()).await;
    problem(as_safetensors, 422, "invalid_model").await;

    problem(upload(&server, "digits", Vec::new()).await, 400, "empty_body").await;
    problem(server.post(PATH, "application/json", "{}").await, 415, "unsupported_media_type").await;
    problem(upload(&server, "digits@3", good.clone()).await, 400, "invalid_model_reference").await;
    problem(upload(&server, "..%2f..%2fetc", good.clone()).await, 400, "invalid_model_reference").await;
    let scale = server.post(&format!("{PATH}?scale=huge"), "application/onnx", good.clone()).await;
    problem(scale, 422, "invalid_query").await;
    for digest in ["sha-256=:AAAA:", "sha-256=nothing", &format!("sha-256=:{}=:", "A".repeat(43))] {
        let request = server.http.post(server.path(PATH)).header("Content-Type", "application/onnx");
        let request = request.header("Repr-Digest", digest).body(good.clone());
        problem(request.send().await.expect("an answer"), 400, "digest_mismatch").await;
    }
    problem(server.get("/v1/models/digits").await, 404, "unknown_model").await;
    problem(server.get("/v1/models/digits/export").await, 404, "unknown_model").await;
    uploaded(&server, "digits", good).await;
    problem(server.get("/v1/models/digits/export?format=pickle").await, 422, "invalid_query").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_limits() {
    let flags = ["--versions-max", "2", "--layers-max", "8", "--body-bytes-max", "40000"];
    let server = TestServer::start(&flags).await;
    let large = upload(&server, "digits", fixture("torch_mlp_script.onnx")).await;
    problem(large, 413, "body_too_large").await;
    let deep =
        problem(upload(&server, "digits", fixture("torch_cnn_script.onnx")).await, 422, "invalid_model")
            .await;
    assert_eq!(deep["detail"], "it has 11 layers; 1 to 8 are accepted");
    for _ in 0..2 {
        uploaded(&server, "digits", fixture("torch_bytes_script.onnx")).await;
    }
    let third = upload(&server, "others", fixture("torch_bytes_script.onnx")).await;
    problem(third, 409, "too_many_versions").await;
    assert_eq!(server.delete("/v1/models/digits@1").await.status(), StatusCode::NO_CONTENT);
    uploaded(&server, "others", fixture("torch_bytes_script.onnx")).await;
    server.stop().await;

    let server = TestServer::start(&["--min-free-bytes", &u64::MAX.to_string()]).await;
    problem(upload(&server, "digits", fixture("torch_bytes_script.onnx")).await, 507, "disk_full").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_onnx_export_that_would_give_other_probabilities_is_refused() {
    let server = TestServer::start(&[]).await;
    // Differences of large numbers, of which 32 bits have lost the digits that matter.
    let layers =
        vec![LayerSpec::Dense { units: 64, init: Init::He }, LayerSpec::Dense { units: 10, init: Init::He }];
    let mut network =
        Network::new(Shape { height: 28, width: 28, channels: 1 }, &layers, 1).expect("layers that fit");
    let mut tensors: HashMap<String, Vec<f32>> =
        network.tensors().map(|(name, _, values)| (name, values.to_vec())).collect();
    tensors.get_mut("0.bias").expect("a tensor")[..2].fill(1e7);
    let weight = tensors.get_mut("1.weight").expect("a tensor");
    for class in 0..10 {
        weight[class] = class as f32;
        weight[10 + class] = -weight[class];
    }
    network.set_tensors::<LengthError>(|name| Ok(tensors[name].clone())).expect("tensors");
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    uploaded(&server, "coarse", write_model(&network, &layers, &classes).expect("a file")).await;
    let answer =
        problem(server.get("/v1/models/coarse/export?format=onnx").await, 422, "export_differs").await;
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("1e-5 is allowed")), "{answer}");
    assert_eq!(server.get("/v1/models/coarse/export").await.status(), StatusCode::OK);
    server.stop().await;
}

#[test]
fn reading_a_file_takes_no_more_memory_than_its_price() {
    const LIMITS: UploadLimits = UploadLimits { layers_max: 64, units_max: 16_384, flops_max: 1e10 };
    let input = Shape { height: 28, width: 28, channels: 1 };
    let layers = [1_000, 10].map(|units| LayerSpec::Dense { units, init: Init::He });
    let wide = Network::new(input, &layers, 1).expect("fits");
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let own = write_model(&wide, &layers, &classes).expect("a file");
    let labels =
        chainrule::artifact::onnx::Labels { model: "wide", version: 1, classes: &classes, metadata: &[] };
    let samples = chainrule::artifact::onnx::Samples { source: "none", images: &[] };
    let predictor = Predictor::new(wide);
    let onnx =
        chainrule::artifact::onnx::write_onnx(&predictor, &labels, &samples, &|| true).expect("a file").0;
    for file in [own, onnx, fixture("torch_cnn_dynamo.onnx"), fixture("keras_cnn.onnx")] {
        let format = ModelFormat::of(&file);
        let (told, price) = most_held(|| upload_bytes(&file, format).expect("a price"));
        assert_eq!(told, 0, "a price is told without memory");
        let images = |shape: Shape| seeded_images(shape, 2);
        let (held, read) = most_held(|| {
            let read = read_upload(&file, format, &LIMITS, None, images, &|| true).expect("a network");
            let written = write_model(read.predictor.network(), &read.layers, &read.classes);
            (read, written.expect("a file"))
        });
        assert!(held <= price, "{held} bytes, told to be {price}, for {format:?} of {} bytes", file.len());
        drop(read);
    }
    // Files that decode to much more than they are.
    let packed = [&b"\x3a"[..], &varint(1_000_000), &vec![1; 1_000_000], b"\x10\x07"].concat();
    for (what, part) in [
        ("nodes", b"\x0a\x00".repeat(90_000)),
        ("names", [&b"\x0a"[..], &varint(2_000_000), &b"\x0a\x00".repeat(1_000_000)].concat()),
        ("dims", [&b"\x2a"[..], &varint(2_000_000), &b"\x08\x00".repeat(1_000_000)].concat()),
        ("packed numbers", [&b"\x2a"[..], &varint(packed.len()), &packed].concat()),
        ("values", b"\x62\x00".repeat(90_000)),
    ] {
        let file = [&b"\x3a"[..], &varint(part.len()), &part].concat();
        let price = onnx_bytes(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (held, _) = most_held(|| read_onnx(&file, None).expect_err("no network"));
        assert!(held <= price, "{what}: {held} bytes, told to be {price}");
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value > 0x7f {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

/// The file with every `from` replaced by `to`, which is as long.
fn replaced(file: &[u8], from: &[u8; 3], to: &[u8; 3]) -> Vec<u8> {
    let mut file = file.to_vec();
    // The operator of a node has the tag 4 and the length of its name in front.
    let pattern = [&[0x22, 3][..], from].concat();
    let at = file.windows(pattern.len()).position(|window| window == pattern).expect("an operator");
    file[at + 2..at + 5].copy_from_slice(to);
    file
}
