//! The values and errors that a tape records for every layer, compared with numerical differentiation.

use chainrule_engine::nn::{
    Init, Layer, LayerSpec, Loss, LossKind, Network, Padding, Shape, Tape, central_difference,
    strongest_paths,
};
use ndarray::{Array2, ArrayView2};

const INPUT: Shape = Shape { height: 6, width: 5, channels: 2 };
const LABEL: u16 = 1;

fn conv(filters: usize, padding: Padding, stride: usize) -> LayerSpec {
    LayerSpec::Conv2d { filters, kernel: 3, padding, stride, init: Init::Xavier }
}

fn dense(units: usize) -> LayerSpec {
    LayerSpec::Dense { units, init: Init::Xavier }
}

/// Every kind of layer, with nonzero biases and with running statistics that differ from their initial
/// values.
fn network() -> Network<f64> {
    let layers = [
        conv(3, Padding::Same, 1),
        LayerSpec::BatchNorm,
        LayerSpec::Tanh,
        LayerSpec::MaxPool2d { size: 2 },
        conv(2, Padding::Same, 2),
        LayerSpec::LeakyRelu,
        LayerSpec::AvgPool2d { size: 1 },
        LayerSpec::Dropout { rate: 0.5 },
        LayerSpec::Flatten,
        dense(4),
        LayerSpec::Gelu,
        dense(3),
    ];
    let mut network = Network::new(INPUT, &layers, 5).expect("layers that fit");
    let mut number = 0;
    for layer in network.layers_mut() {
        if let Layer::BatchNorm(norm) = layer {
            norm.running_mean.fill(0.3);
            norm.running_var.fill(1.7);
        }
        if let Some((_, bias)) = layer.parameters_mut() {
            bias.iter_mut().for_each(|bias| {
                number += 1;
                *bias = 0.01 * f64::from(number) - 0.05;
            });
        }
    }
    network
}

fn image() -> Array2<f64> {
    Array2::from_shape_fn((1, INPUT.len()), |(_, at)| ((at * 37 % 23) as f64 / 11.0 - 1.0).sin())
}

const LOSS: Loss = Loss { kind: LossKind::CrossEntropy, label_smoothing: 0.0 };

fn loss(scores: ArrayView2<f64>) -> f64 {
    LOSS.forward(scores, &[LABEL])
}

fn passed(network: &Network<f64>) -> Tape<f64> {
    let mut tape = Tape::forward(network, image());
    let mut dscores = Array2::zeros((1, network.outputs()));
    LOSS.backward(tape.scores(), &[LABEL], 1, dscores.view_mut());
    tape.backward(network, dscores);
    tape
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-7 * a.abs().max(b.abs()).max(1e-2)
}

const STEP: f64 = 1e-5;

#[test]
fn every_parameter_and_every_pixel_has_the_gradient_that_central_differences_find() {
    let network = network();
    let tape = passed(&network);
    let analytic: Vec<f64> = tape
        .gradients
        .iter()
        .flat_map(|gradient| gradient.weight.iter().chain(&gradient.bias).copied().collect::<Vec<_>>())
        .collect();
    let mut at = 0;
    let tensors = network.parameters().count();
    for tensor in 0..tensors {
        let length = network.parameters().nth(tensor).expect("a tensor").2.len();
        for element in 0..length {
            let loss_at = |step: f64| {
                let mut moved = network.clone();
                moved.parameters_mut().nth(tensor).expect("a tensor")[element] += step;
                loss(Tape::forward(&moved, image()).scores())
            };
            let numerical = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            assert!(
                near(analytic[at], numerical),
                "tensor {tensor}[{element}]: {} and {numerical}",
                analytic[at]
            );
            at += 1;
        }
    }
    assert_eq!(at, analytic.len());
    for pixel in 0..INPUT.len() {
        let loss_at = |step: f64| {
            let mut x = image();
            x[[0, pixel]] += step;
            loss(Tape::forward(&network, x).scores())
        };
        let numerical = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
        let analytic = tape.errors[0][[0, pixel]];
        assert!(near(analytic, numerical), "pixel {pixel}: {analytic} and {numerical}");
    }
}

#[test]
fn a_pass_continues_from_a_layer_that_has_changed() {
    let mut network = network();
    let mut tape = Tape::forward(&network, image());
    let Some((weight, _)) = network.layers_mut()[4].parameters_mut() else { panic!("a convolution") };
    weight[[3, 1]] += 0.5;
    let again = tape.forward_from(&network, 4).to_owned();
    assert_eq!(again, Tape::forward(&network, image()).scores());
}

/// The strongest paths from every use of a parameter. All of them, if `most` is large enough.
fn paths(
    network: &Network<f64>,
    tape: &Tape<f64>,
    layer: usize,
    row: Option<usize>,
    column: usize,
    most: usize,
) -> Vec<f64> {
    let mut uses = Vec::new();
    network.layers()[layer].for_each_use(row, column, tape.values[layer + 1].len(), |from, to| {
        uses.push((to, from.map_or(1.0, |from| tape.values[layer][[0, from]])));
    });
    strongest_paths(network, tape, layer, uses.into_iter(), most)
        .iter()
        .map(|path| {
            let product: f64 = path.locals.iter().product();
            assert!(near(product, path.product), "{path:?}");
            path.product
        })
        .collect()
}

#[test]
fn all_paths_of_a_parameter_to_the_loss_add_up_to_its_gradient() {
    let network = network();
    let tape = passed(&network);
    let mut checked = 0;
    for (gradient, layer) in [(0, 0), (2, 4), (3, 9), (4, 11)] {
        let gradient = &tape.gradients[gradient];
        assert_eq!(gradient.layer, layer);
        for (row, column) in [(Some(0), 0), (Some(gradient.weight.nrows() - 1), 1), (None, 1)] {
            let expected = row.map_or(gradient.bias[column], |row| gradient.weight[[row, column]]);
            let all = paths(&network, &tape, layer, row, column, 20_000);
            let sum: f64 = all.iter().sum();
            assert!(near(sum, expected), "layer {layer} {row:?} {column}: {sum} and {expected}");
            assert!(all.windows(2).all(|pair| pair[0].abs() >= pair[1].abs()), "strongest first");
            if expected == 0.0 {
                assert!(all.is_empty(), "a weight over the border alone");
                continue;
            }
            // Known bad: without its strongest path the sum differs.
            assert!(!near(sum - all[0], expected));
            checked += 1;
            let few = paths(&network, &tape, layer, row, column, 5);
            assert_eq!(few, all[..few.len()]);
            assert_eq!(few.len(), all.len().min(5));
        }
    }
    assert!(checked >= 9, "{checked} parameters");
}

#[test]
fn a_central_difference_detects_a_kink_and_avoids_one_nearby() {
    let smooth = |x: f64| (3.0 * x).sin() + 200.0 * x * x;
    let slope = central_difference(smooth(0.0), smooth).expect("a slope");
    assert!((slope - 3.0).abs() < 1e-6, "{slope}");
    assert_eq!(central_difference(0.0, f64::abs), None);
    assert_eq!(central_difference(0.0, |x| 5.0 * x + 1e-3 * x.abs()), None);
    // The kink is closer than the first step.
    let beside = |x: f64| (x - 3e-7).max(0.0) + 2.0 * x;
    let slope = central_difference(beside(0.0), beside).expect("a slope");
    assert!((slope - 2.0).abs() < 1e-6, "{slope}");
    // Known bad: the single step that reaches across it.
    let naive = (beside(1e-5) - beside(-1e-5)) / 2e-5;
    assert!((naive - 2.0).abs() > 0.4, "{naive}");
}
