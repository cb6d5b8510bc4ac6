//! Random networks of every layer, written and read.

use chainrule_engine::artifact::onnx::{EXPORT_DIFFERENCE_MAX, OnnxError, read_onnx, seeded_images};
use chainrule_engine::nn::{Activation, Init, LayerSpec, Network, Padding, Shape, shapes};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{names, written};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn dense(units: usize) -> LayerSpec {
    LayerSpec::Dense { units, init: Init::He }
}

fn layer() -> impl Strategy<Value = LayerSpec> {
    let padding = prop::sample::select(&[Padding::Valid, Padding::Same]);
    prop_oneof![
        3 => (1usize..7, 1usize..5, padding, 1usize..4).prop_map(|(filters, kernel, padding, stride)| {
            LayerSpec::Conv2d { filters, kernel, padding, stride, init: Init::He }
        }),
        1 => Just(LayerSpec::BatchNorm),
        1 => (1usize..4).prop_map(|size| LayerSpec::MaxPool2d { size }),
        1 => (1usize..4).prop_map(|size| LayerSpec::AvgPool2d { size }),
        1 => Just(LayerSpec::Dropout { rate: 0.4 }),
        3 => prop::sample::select(&Activation::ALL).prop_map(LayerSpec::from),
    ]
}

/// Layers for the end of a network, with or without a layer that flattens.
fn end() -> impl Strategy<Value = Vec<LayerSpec>> {
    let hidden = (1usize..9, prop::sample::select(&Activation::ALL)).prop_map(|(units, activation)| {
        vec![dense(units), LayerSpec::BatchNorm, activation.into(), LayerSpec::Dropout { rate: 0.25 }]
    });
    let conv =
        LayerSpec::Conv2d { filters: 5, kernel: 1, padding: Padding::Valid, stride: 1, init: Init::He };
    let flat = prop::sample::select(vec![
        vec![],
        vec![LayerSpec::Flatten],
        vec![LayerSpec::Flatten, LayerSpec::BatchNorm],
        vec![LayerSpec::Flatten, LayerSpec::Gelu, LayerSpec::Flatten],
        vec![LayerSpec::Flatten, conv],
    ]);
    (flat, prop::option::of(hidden)).prop_map(|(flat, hidden)| {
        flat.into_iter().chain(hidden.into_iter().flatten()).chain([dense(4)]).collect()
    })
}

/// A network whose parameters are all unlike those of a new one.
fn network(input: Shape, layers: &[LayerSpec], seed: u64) -> Network<f32> {
    let mut network = Network::new(input, layers, seed).expect("layers that fit");
    let mut number = seed as usize;
    network
        .set_tensors::<chainrule_engine::nn::LengthError>({
            let known: Vec<(String, Vec<f32>)> =
                network.tensors().map(|(name, _, values)| (name, values.to_vec())).collect();
            move |name| {
                let found = known.iter().find(|(known, _)| known == name).expect("a tensor");
                let mut odd = |value: &f32| {
                    number += 1;
                    value + 0.03 * (number % 7) as f32 + if name.ends_with("var") { 0.1 } else { -0.08 }
                };
                Ok(found.1.iter().map(&mut odd).collect())
            }
        })
        .expect("tensors of the same length");
    network
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_written_network_gives_the_same_probabilities_and_is_read_as_the_same_network(
        (height, width) in (2usize..11, 2usize..11),
        channels in prop_oneof![3 => Just(1_usize), 1 => Just(2)],
        layers in prop::collection::vec(layer(), 0..5),
        end in end(),
        seed in 0u64..1_000,
    ) {
        let input = Shape { height, width, channels };
        let layers: Vec<LayerSpec> = layers.into_iter().chain(end).collect();
        prop_assume!(shapes(input, &layers).is_ok());
        let network = network(input, &layers, seed);
        let images = seeded_images(input, 4);
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let (bytes, difference) = written(&network, &images).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(difference <= EXPORT_DIFFERENCE_MAX / 4.0, "{difference}");
        let begins_with_gelu = layers.iter().find(|layer| **layer != LayerSpec::Flatten) == Some(&LayerSpec::Gelu);
        match read_onnx(&bytes, None) {
            Ok(read) => {
                // A filter of 1 × 1 on a vector is written as the dense layer that it is.
                let shapes = shapes(input, &layers).expect("layers that fit");
                let expected: Vec<&str> = layers.iter().zip(&shapes).map(|(layer, shape)| match layer {
                    LayerSpec::Conv2d { .. } if shape.places() == 1 && layers[..].contains(&LayerSpec::Flatten) => "*",
                    layer => layer.name(),
                }).collect();
                let found = names(&read.layers);
                prop_assert!(found.len() == expected.len(), "{found:?}, not {expected:?}");
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!(found == expected || *expected == "*", "{found:?}, not {expected:?}");
                }
                for ((name, _, ours), (_, _, theirs)) in network.tensors().zip(read.network.tensors()) {
                    prop_assert!(ours == theirs, "{name}");
                }
                let again = written(&read.network, &images).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(again.1 <= EXPORT_DIFFERENCE_MAX);
            }
            Err(OnnxError::Graph(detail)) if channels > 1 => prop_assert!(detail.contains("grey"), "{detail}"),
            Err(OnnxError::Node { detail, .. }) if begins_with_gelu => prop_assert!(detail.contains("gelu"), "{detail}"),
            Err(error) => prop_assert!(false, "{error} for {:?}", names(&layers)),
        }
    }
}
