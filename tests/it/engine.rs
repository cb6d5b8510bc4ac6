//! Backpropagation against numerical differentiation, and the safety of the losses.

use chainrule::nn::{
    Activation, Batch, Examples, GradientCheck, Init, LayerSpec, Loss, LossKind, Network, Pool, Workspace,
    gradient_check, softmax,
};
use ndarray::{Array2, arr2};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Largest relative error of a gradient that is right: rounding and truncation leave some 10⁻⁸.
const ERROR_MAX: f64 = 1e-6;

fn values(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let weight = Init::Xavier.weight::<f64>(rows, columns, seed, 99);
    weight.mapv(|value| value * 2.0 + 0.1)
}

/// A network with every layer kind between `inputs` and `classes`.
fn network(
    inputs: usize,
    hidden: &[usize],
    classes: usize,
    activation: Activation,
    seed: u64,
) -> Network<f64> {
    let dense = |units| LayerSpec::Dense { units, init: Init::Xavier };
    let mut layers: Vec<LayerSpec> =
        hidden.iter().flat_map(|&units| [dense(units), LayerSpec::from(activation)]).collect();
    layers.push(dense(classes));
    let mut network = Network::new(inputs, &layers, seed);
    for (index, dense) in network.dense_mut().enumerate() {
        dense
            .bias
            .iter_mut()
            .enumerate()
            .for_each(|(unit, bias)| *bias = 0.05 * (unit + index) as f64 - 0.12);
    }
    network
}

fn worst(checks: &[GradientCheck]) -> f64 {
    checks.iter().map(GradientCheck::max_relative_error).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gradients_agree_with_central_differences_for_every_layer_activation_and_loss(
        activation in prop::sample::select(&Activation::ALL),
        kind in prop::sample::select(&LossKind::ALL),
        label_smoothing in prop::sample::select(&[0.0, 0.1]),
        inputs in 1usize..7,
        hidden in prop::collection::vec(1usize..6, 0..3),
        classes in 2usize..5,
        rows in 1usize..40,
        seed in 0u64..1_000,
    ) {
        let network = network(inputs, &hidden, classes, activation, seed);
        let x = values(rows, inputs, seed + 1);
        let labels: Vec<u8> = (0..rows).map(|row| ((row as u64 * 3 + seed) % classes as u64) as u8).collect();
        let order: Vec<u32> = (0..rows as u32).rev().collect();
        let batch = Batch { examples: Examples::Values(x.view()), labels: &labels, rows: &order };
        let checks = gradient_check(&network, &Loss { kind, label_smoothing }, batch, &Pool::new(2));
        prop_assert_eq!(checks.len(), 2 * (hidden.len() + 1));
        prop_assert!(worst(&checks) < ERROR_MAX, "largest relative error {}", worst(&checks));
    }
}

#[test]
fn the_gradient_check_catches_a_gradient_that_lacks_one_image() {
    let network = network(5, &[4], 3, Activation::Tanh, 7);
    let x = values(6, 5, 8);
    let labels = [0, 1, 2, 0, 1, 2];
    let loss = Loss::new(LossKind::CrossEntropy);
    let pool = Pool::new(1);
    let batch = |rows: &'static [u32]| Batch { examples: Examples::Values(x.view()), labels: &labels, rows };
    let mut checks = gradient_check(&network, &loss, batch(&[0, 1, 2, 3, 4, 5]), &pool);
    assert!(worst(&checks) < ERROR_MAX);

    let mut workspace = Workspace::new(&network, 6);
    workspace.backpropagate(&network, &loss, batch(&[0, 1, 2, 3, 4]), &pool);
    let without_one = workspace.gradients()[0].weight.mapv(|gradient| gradient * 5.0 / 6.0);
    checks[0].analytic = without_one.iter().copied().collect();
    assert!(checks[0].max_relative_error() > 1e-2);
}

#[test]
fn losses_and_their_gradients_are_finite_for_scores_of_ten_thousand() {
    let z = arr2(&[[1e4_f32, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]]);
    for kind in LossKind::ALL {
        for label_smoothing in [0.0, 0.1] {
            let loss = Loss { kind, label_smoothing };
            assert!(loss.forward(z.view(), &[1, 0, 2]).is_finite(), "{kind:?}");
            let mut dz = Array2::zeros((3, 3));
            loss.backward(z.view(), &[1, 0, 2], 3, dz.view_mut());
            assert!(dz.iter().all(|dz| dz.is_finite()), "{kind:?}");
        }
    }
    let mut p = z;
    softmax(p.view_mut());
    assert_eq!(p.row(0).to_vec(), [1.0, 0.0, 0.0]);
}

#[test]
fn the_lessons_affine_layer_gives_the_lessons_shapes_and_sums() {
    let dense = Network::<f64>::new(3, &[LayerSpec::Dense { units: 2, init: Init::He }], 1);
    let x = arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let batch = Batch { examples: Examples::Values(x.view()), labels: &[0, 1], rows: &[0, 1] };
    let mut workspace = Workspace::new(&dense, 2);
    let loss = Loss::new(LossKind::CrossEntropy);
    workspace.backpropagate(&dense, &loss, batch, &Pool::new(1));
    let gradient = &workspace.gradients()[0];
    assert_eq!((gradient.weight.dim(), gradient.bias.dim()), ((3, 2), 2));
    // Each row of softmax − target sums to 0, and so does db.
    assert!(gradient.bias.sum().abs() < 1e-12);
}
