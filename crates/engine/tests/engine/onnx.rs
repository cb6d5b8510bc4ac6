//! ONNX files: those that this crate writes, and those of PyTorch and Keras (`fixtures/onnx`).

mod hostile;
mod messages;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use chainrule_engine::artifact::onnx::{Labels, OnnxError, Pixels, Samples, read_onnx, write_onnx};
use chainrule_engine::data::mnist;
use chainrule_engine::ndarray::Array2;
use chainrule_engine::nn::{LayerSpec, Network, Predictor};

/// Largest difference of a probability from what PyTorch or Keras gave, which compute in 32 bits.
const CLOSE: f64 = 5e-6;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).expect("a fixture")
}

/// The names of the layers.
fn names(layers: &[LayerSpec]) -> Vec<&'static str> {
    layers.iter().map(|layer| layer.name()).collect()
}

/// Writes a network with the class names 0, 1 …
fn written(network: &Network<f32>, images: &[&[u8]]) -> Result<(Vec<u8>, f64), OnnxError> {
    let classes: Vec<String> = (0..network.outputs()).map(|class| class.to_string()).collect();
    let metadata = [("note", "a test".to_owned())];
    let labels = Labels { model: "tried", version: 3, classes: &classes, metadata: &metadata };
    write_onnx(&Predictor::new(network.clone()), &labels, &Samples { source: "a test", images }, &|| true)
}

/// The pixels of images as rows from 0 to 1.
fn unit(images: &[&[u8]]) -> Array2<f32> {
    let columns = images[0].len();
    let values = images.concat().into_iter().map(|pixel| f32::from(pixel) / 255.0).collect();
    Array2::from_shape_vec((images.len(), columns), values).expect("equal rows")
}

#[test]
fn networks_of_pytorch_and_keras_are_read_and_give_the_probabilities_that_they_gave_there() {
    let recorded = fs::read_to_string(fixtures().join("probabilities.json")).expect("a fixture");
    let recorded: BTreeMap<String, Vec<Vec<f64>>> = serde_json::from_str(&recorded).expect("JSON");
    assert_eq!(recorded.len(), 10);
    let mnist = mnist::dataset();
    for (name, expected) in recorded {
        let images: Vec<&[u8]> = (0..expected.len()).map(|index| mnist.test.image(index)).collect();
        let read = read_onnx(&fixture(&name), None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let largest = if name.contains("torch_mlp") || name.contains("torch_cnn") {
            Pixels::Unit
        } else {
            Pixels::Byte
        };
        assert_eq!(read.pixels, largest, "{name}");
        let predictor = Predictor::new(read.network.clone());
        let probabilities = predictor.probabilities(unit(&images).view());
        for (index, (ours, theirs)) in probabilities.rows().into_iter().zip(&expected).enumerate() {
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(
                    (f64::from(*ours) - theirs).abs() < CLOSE,
                    "{name}, image {index}: {ours} and {theirs}"
                );
            }
        }
        read.check(&predictor, &images, &|| true).unwrap_or_else(|error| panic!("{name}: {error}"));
        // What was read can be written, and is then read as the same network.
        let (bytes, _) = written(&read.network, &images).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = read_onnx(&bytes, None).expect("our own file");
        assert!(again.network == read.network && again.layers == read.layers, "{name}: {:?}", again.layers);
    }
}

#[test]
fn the_layers_of_other_programs_are_those_that_one_would_write_here() {
    let layers = |name: &str| names(&read_onnx(&fixture(name), None).expect(name).layers);
    for exporter in ["script", "dynamo"] {
        let mlp = layers(&format!("torch_mlp_{exporter}.onnx"));
        assert!(mlp.ends_with(&["dense", "gelu", "dense"]), "{mlp:?}");
        let bytes = layers(&format!("torch_bytes_{exporter}.onnx"));
        assert_eq!(bytes, ["conv2d", "sigmoid", "dense"]);
    }
    let cnn = [
        "conv2d",
        "relu",
        "max_pool2d",
        "conv2d",
        "tanh",
        "avg_pool2d",
        "flatten",
        "dense",
        "batch_norm",
        "leaky_relu",
        "dense",
    ];
    assert_eq!(layers("torch_cnn_script.onnx"), cnn);
    // This exporter turns `Flatten` into a reshape, and the normalisation into a part of the layer before it.
    assert_eq!(
        layers("torch_cnn_dynamo.onnx"),
        ["conv2d", "relu", "max_pool2d", "conv2d", "tanh", "avg_pool2d", "dense", "leaky_relu", "dense"]
    );
    for name in ["keras_mlp.onnx", "tf2onnx_mlp.onnx"] {
        assert_eq!(layers(name), ["dense", "relu", "batch_norm", "dense"], "{name}");
    }
    for name in ["keras_cnn.onnx", "tf2onnx_cnn.onnx"] {
        let expected = [
            "conv2d",
            "relu",
            "max_pool2d",
            "conv2d",
            "tanh",
            "avg_pool2d",
            "conv2d",
            "leaky_relu",
            "dense",
            "sigmoid",
            "dense",
        ];
        assert_eq!(layers(name), expected, "{name}");
    }
}
