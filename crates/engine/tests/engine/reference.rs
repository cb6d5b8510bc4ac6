//! A training step with fused layers, skipped zeros and groups of rows gives the same loss and gradients as the layers
//! one by one, computed from the formulas of a textbook.

use chainrule_engine::nn::testing::tape_of_step;
use chainrule_engine::nn::{
    Activation, Batch, Draw, Float, Images, Init, LayerSpec, Loss, LossKind, Network, Padding, Plan, Shape,
    ThreadPool, Workspace, shapes,
};
use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const DRAW: Draw = Draw { seed: 5, epoch: 2 };

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A network whose biases, scales and shifts differ from their initial 0 and 1.
fn network(input: Shape, layers: &[LayerSpec], seed: u64) -> Network<f64> {
    let mut network = Network::new(input, layers, seed).expect("layers that fit");
    for (number, value) in network.parameters_mut().flatten().enumerate() {
        *value += 0.03 * (number % 7) as f64 - 0.08;
    }
    network
}

/// Random examples. About `nonzero` of every ten values are not 0.
fn examples(rows: usize, columns: usize, nonzero: usize, seed: u64) -> Array2<f64> {
    let mut x = Init::He.weight::<f64>(2, 2, [rows, columns], seed, 77);
    for (place, x) in x.iter_mut().enumerate() {
        if (place * 7 + place / columns) % 10 >= nonzero {
            *x = 0.0;
        }
    }
    x
}

/// The difference between a training step and the layers one by one, ‖a − b‖ / ‖b‖: the largest of the loss and the
/// gradients of all tensors.
fn difference<T: Float>(network: &Network<T>, x: &Array2<T>, loss: &Loss, nonzero: f64) -> f64
where
    for<'a> ArrayView2<'a, T>: Images<T>,
{
    let labels: Vec<u16> = (0..x.nrows()).map(|row| (row * 5 % network.outputs()) as u16).collect();
    let order: Vec<u32> = (0..x.nrows() as u32).rev().collect();
    let view = x.view();
    let batch = Batch { images: &view, labels: &labels, rows: &order, draw: DRAW };
    let plan = Plan::new(&network.kinds(), network.shapes(), order.len(), nonzero);
    let mut workspace = Workspace::planned(network, plan);
    let found = workspace.backpropagate(network, loss, batch, &ThreadPool::new(2));

    let places: Vec<usize> = order.iter().map(|&row| row as usize).collect();
    let labels: Vec<u16> = places.iter().map(|&row| labels[row]).collect();
    let mut tape = tape_of_step(network, x.select(Axis(0), &places), &order, DRAW);
    let mut dscores = Array2::zeros(tape.scores().dim());
    let loss_sum = loss.backward(tape.scores(), &labels, order.len(), dscores.view_mut());
    tape.backward(network, dscores);

    let relative = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
        let (apart, size) =
            pairs.fold((0.0, 0.0), |(apart, size), (a, b)| (apart + (a - b).powi(2), size + b * b));
        // A gradient of exactly 0, such as that of a bias before a normalisation, is computed as rounding error only. The
        // floor keeps that from counting as a difference.
        apart.sqrt() / size.sqrt().max(1e-2)
    };
    assert_eq!(workspace.gradients().len(), tape.gradients.len());
    let gradients = workspace.gradients().iter().zip(&tape.gradients).flat_map(|(found, expected)| {
        assert_eq!(found.layer, expected.layer);
        let wide = |(a, b): (&T, &T)| (a.wide(), b.wide());
        [
            relative(&mut found.weight.iter().zip(&expected.weight).map(wide)),
            relative(&mut found.bias.iter().zip(&expected.bias).map(wide)),
        ]
    });
    gradients.fold(relative(&mut [(found.loss_sum, loss_sum)].into_iter()), f64::max)
}

fn assert_same(
    network: &Network<f64>,
    x: &Array2<f64>,
    loss: &Loss,
    nonzero: f64,
) -> Result<(), TestCaseError> {
    let exact = difference(network, x, loss, nonzero);
    prop_assert!(exact < 1e-10, "{exact} in f64");
    let rounded = difference(&network.converted::<f32>(), &x.mapv(|x| x as f32), loss, nonzero);
    prop_assert!(rounded < 1e-2, "{rounded} in f32");
    Ok(())
}

fn dense(units: usize) -> LayerSpec {
    LayerSpec::Dense { units, init: Init::He }
}

fn activation() -> impl Strategy<Value = LayerSpec> {
    prop::sample::select(&Activation::ALL).prop_map(LayerSpec::from)
}

fn convolution() -> impl Strategy<Value = LayerSpec> {
    let filters = prop_oneof![3 => 1usize..5, 1 => Just(16), 1 => Just(17)];
    let padding = prop::sample::select(&[Padding::Valid, Padding::Same]);
    (filters, 1usize..4, padding, 1usize..3).prop_map(|(filters, kernel, padding, stride)| {
        LayerSpec::Conv2d { filters, kernel, padding, stride, init: Init::He }
    })
}

/// A layer, or several layers that are fused.
fn block() -> impl Strategy<Value = Vec<LayerSpec>> {
    let (norm, relu, pool) = (LayerSpec::BatchNorm, LayerSpec::Relu, LayerSpec::MaxPool2d { size: 2 });
    prop_oneof![
        convolution().prop_map(|conv| vec![conv]),
        convolution().prop_map(move |conv| vec![conv, relu, pool]),
        convolution().prop_map(move |conv| vec![conv, norm, relu, pool]),
        convolution().prop_map(move |conv| vec![conv, norm, relu]),
        Just(vec![norm]),
        (1usize..3).prop_map(|size| vec![LayerSpec::MaxPool2d { size }]),
        (1usize..3).prop_map(|size| vec![LayerSpec::AvgPool2d { size }]),
        Just(vec![LayerSpec::Dropout { rate: 0.4 }]),
        activation().prop_map(|activation| vec![activation]),
    ]
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn operations_on_images_agree_with_the_layers_one_by_one(
        side in 5usize..11,
        channels in 1usize..3,
        blocks in prop::collection::vec(block(), 1..4),
        kind in prop::sample::select(&LossKind::ALL),
        rows in 2usize..40,
        seed in 0u64..1_000,
    ) {
        let input = Shape { height: side, width: side + 1, channels };
        let layers: Vec<LayerSpec> = blocks.into_iter().flatten().chain([LayerSpec::Flatten, dense(3)]).collect();
        prop_assume!(shapes(input, &layers).is_ok());
        let x = examples(rows, input.len(), 10, seed);
        assert_same(&network(input, &layers, seed), &x, &Loss::new(kind), 1.0)?;
    }

    /// With a first layer that skips zeros, and with one that does not.
    #[test]
    fn operations_on_lists_agree_with_the_layers_one_by_one(
        inputs in 1usize..150,
        hidden in prop::collection::vec((1usize..90, any::<bool>(), activation(), any::<bool>()), 1..3),
        is_flattened: bool,
        is_sparse: bool,
        label_smoothing in prop::sample::select(&[0.0, 0.1]),
        rows in 2usize..150,
        seed in 0u64..1_000,
    ) {
        let flatten = is_flattened.then_some(LayerSpec::Flatten);
        let block = |(units, has_norm, activation, is_dropped): (usize, bool, LayerSpec, bool)| {
            let norm = has_norm.then_some(LayerSpec::BatchNorm);
            let dropout = is_dropped.then_some(LayerSpec::Dropout { rate: 0.3 });
            [Some(dense(units)), norm, Some(activation), dropout].into_iter().flatten()
        };
        let layers: Vec<LayerSpec> =
            flatten.into_iter().chain(hidden.into_iter().flat_map(block)).chain([dense(4)]).collect();
        let x = examples(rows, inputs, if is_sparse { 2 } else { 10 }, seed);
        let network = network(Shape::vector(inputs), &layers, seed);
        let loss = Loss { kind: LossKind::CrossEntropy, label_smoothing };
        assert_same(&network, &x, &loss, if is_sparse { 0.2 } else { 1.0 })?;
    }
}
