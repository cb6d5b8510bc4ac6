//! Backpropagation compared with numerical differentiation, and the numerical safety of the losses.

use chainrule_engine::data::mnist;
use chainrule_engine::nn::testing::{training_loss, update};
use chainrule_engine::nn::{
    Activation, Batch, Draw, GradientCheck, Init, Layer, LayerSpec, Loss, LossKind, Network, Optimizer,
    OptimizerSpec, Padding, Plan, Predictor, Shape, Tape, ThreadPool, Trainer, Workspace, clip_scale,
    gradient_check, shapes, softmax,
};
use ndarray::{Array2, ArrayView2, arr2};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Largest relative error of a correct gradient. Rounding and truncation cause about 10⁻⁸.
const ERROR_MAX: f64 = 1e-6;

const DRAW: Draw = Draw { seed: 3, epoch: 1 };

fn values(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let weight = Init::Xavier.weight::<f64>(rows, columns, [rows, columns], seed, 99);
    weight.mapv(|value| value * 2.0 + 0.1)
}

/// A network with nonzero biases.
fn network(input: Shape, layers: &[LayerSpec], seed: u64) -> Network<f64> {
    let mut network = Network::new(input, layers, seed).expect("layers that fit");
    for (index, layer) in network.layers_mut().iter_mut().enumerate() {
        if let Some((_, bias)) = layer.parameters_mut() {
            let start = |(unit, bias): (usize, &mut f64)| *bias = 0.05 * (unit + index) as f64 - 0.12;
            bias.iter_mut().enumerate().for_each(start);
        }
    }
    network
}

fn dense(units: usize) -> LayerSpec {
    LayerSpec::Dense { units, init: Init::Xavier }
}

fn worst(checks: &[GradientCheck]) -> f64 {
    checks.iter().map(GradientCheck::max_relative_error).fold(0.0, f64::max)
}

fn labels(rows: usize, classes: usize, seed: u64) -> Vec<u16> {
    (0..rows).map(|row| ((row as u64 * 3 + seed) % classes as u64) as u16).collect()
}

fn check(network: &Network<f64>, loss: &Loss, rows: usize, seed: u64) -> Vec<GradientCheck> {
    let x = values(rows, network.input().len(), seed + 1);
    let (labels, order) = (labels(rows, network.outputs(), seed), (0..rows as u32).rev().collect::<Vec<_>>());
    let batch = Batch { images: &x.view(), labels: &labels, rows: &order, draw: DRAW };
    gradient_check(network, loss, batch, &ThreadPool::new(2))
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn padding() -> impl Strategy<Value = Padding> {
    prop::sample::select(&[Padding::Valid, Padding::Same])
}

/// A few filters, or about as many as a register has elements.
fn filters() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..5, 1 => Just(16), 1 => Just(17)]
}

/// Any layer for the middle of a network of images.
fn image_layer() -> impl Strategy<Value = LayerSpec> {
    prop_oneof![
        4 => (filters(), 1usize..4, padding(), 1usize..3).prop_map(|(filters, kernel, padding, stride)| {
            LayerSpec::Conv2d { filters, kernel, padding, stride, init: Init::Xavier }
        }),
        1 => (1usize..3).prop_map(|size| LayerSpec::MaxPool2d { size }),
        1 => (1usize..3).prop_map(|size| LayerSpec::AvgPool2d { size }),
        2 => Just(LayerSpec::BatchNorm),
        1 => Just(LayerSpec::Dropout { rate: 0.4 }),
        3 => prop::sample::select(&Activation::ALL).prop_map(LayerSpec::from),
    ]
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn gradients_of_lists_agree_with_central_differences(
        activation in prop::sample::select(&Activation::ALL),
        kind in prop::sample::select(&LossKind::ALL),
        label_smoothing in prop::sample::select(&[0.0, 0.1]),
        inputs in 1usize..7,
        hidden in prop::collection::vec(1usize..6, 0..3),
        has_norm: bool,
        classes in 2usize..5,
        rows in 1usize..40,
        seed in 0u64..1_000,
    ) {
        let norm = has_norm.then_some(LayerSpec::BatchNorm);
        let block = |&units: &usize| [Some(dense(units)), norm, Some(LayerSpec::from(activation))];
        let layers: Vec<LayerSpec> = hidden.iter().flat_map(block).flatten().chain([dense(classes)]).collect();
        let checks = check(&network(Shape::vector(inputs), &layers, seed), &Loss { kind, label_smoothing }, rows, seed);
        prop_assert_eq!(checks.len(), 2 * (1 + hidden.len() * (1 + usize::from(has_norm))));
        prop_assert!(worst(&checks) < ERROR_MAX, "largest relative error {}", worst(&checks));
    }

    #[test]
    fn gradients_of_images_agree_with_central_differences_for_any_layers_in_any_order(
        height in 3usize..8,
        width in 3usize..8,
        channels in 1usize..3,
        middle in prop::collection::vec(image_layer(), 1..6),
        kind in prop::sample::select(&LossKind::ALL),
        rows in 1usize..10,
        seed in 0u64..1_000,
    ) {
        let input = Shape { height, width, channels };
        let layers: Vec<LayerSpec> = middle.into_iter().chain([LayerSpec::Flatten, dense(3)]).collect();
        prop_assume!(shapes(input, &layers).is_ok());
        let checks = check(&network(input, &layers, seed), &Loss::new(kind), rows, seed);
        prop_assert!(worst(&checks) < ERROR_MAX, "largest relative error {} of {layers:?}", worst(&checks));
    }

    /// The sequences of layers that are fused.
    #[test]
    fn gradients_of_blocks_agree_with_central_differences(
        side in 6usize..11,
        channels in 1usize..3,
        filters in prop::sample::select(&[1usize, 3, 8, 17]),
        kernel in 1usize..4,
        stride in 1usize..3,
        has_norm: bool,
        has_pool: bool,
        has_second: bool,
        rows in 1usize..10,
        seed in 0u64..1_000,
    ) {
        let conv = LayerSpec::Conv2d { filters, kernel, padding: Padding::Same, stride, init: Init::Xavier };
        let norm = has_norm.then_some(LayerSpec::BatchNorm);
        let pool = has_pool.then_some(LayerSpec::MaxPool2d { size: 2 });
        let block = [Some(conv), norm, Some(LayerSpec::Relu), pool];
        let blocks = block.iter().chain(block.iter().filter(|_| has_second)).flatten().copied();
        let layers: Vec<LayerSpec> = blocks.chain([LayerSpec::Flatten, dense(3)]).collect();
        let input = Shape { height: side, width: side + 1, channels };
        prop_assume!(shapes(input, &layers).is_ok());
        let checks = check(&network(input, &layers, seed), &Loss::new(LossKind::CrossEntropy), rows, seed);
        // After two normalisations the central differences are less accurate.
        prop_assert!(worst(&checks) < 10.0 * ERROR_MAX, "largest relative error {} of {layers:?}", worst(&checks));
    }

    /// The convolution layer compared with the textbook formula.
    #[test]
    fn a_convolution_is_the_sum_over_its_window(
        height in 1usize..9, width in 1usize..9, channels in 1usize..4, filters in 1usize..40,
        kernel in 1usize..5, padding in padding(), stride in 1usize..4, seed in 0u64..1_000,
    ) {
        let input = Shape { height, width, channels };
        let layers = [LayerSpec::Conv2d { filters, kernel, padding, stride, init: Init::Xavier }, dense(2)];
        prop_assume!(shapes(input, &layers).is_ok());
        let network = network(input, &layers, seed);
        let x = values(1, input.len(), seed);
        let Layer::Conv2d(conv) = &network.layers()[0] else { unreachable!() };
        let output = conv.output();
        let before = |length: usize, count: usize| match padding {
            Padding::Valid => 0,
            Padding::Same => ((count - 1) * stride + kernel).saturating_sub(length) / 2,
        };
        let (top, left) = (before(height, output.height), before(width, output.width));
        let pixel = |y: usize, x_: usize, c: usize| {
            let (y, x_) = (y.checked_sub(top)?, x_.checked_sub(left)?);
            (y < height && x_ < width).then(|| x[[0, (y * width + x_) * channels + c]])
        };
        let mut expected = Vec::new();
        for i in 0..output.height {
            for j in 0..output.width {
                for f in 0..filters {
                    let mut sum = conv.bias[f];
                    for (u, v, c) in (0..kernel).flat_map(|u| (0..kernel).flat_map(move |v| (0..channels).map(move |c| (u, v, c)))) {
                        let value = pixel(i * stride + u, j * stride + v, c).unwrap_or(0.0);
                        sum += value * conv.weight[[(u * kernel + v) * channels + c, f]];
                    }
                    expected.push(sum);
                }
            }
        }
        let Layer::Dense(head) = &network.layers()[1] else { unreachable!() };
        let scores = Array2::from_shape_vec((1, expected.len()), expected).expect("a row").dot(&head.weight) + &head.bias;
        let mut expected = scores;
        softmax(expected.view_mut());
        let predicted = Predictor::new(network.converted()).probabilities(x.mapv(|x| x as f32).view());
        let mut found = Tape::forward(&network, x).scores().to_owned();
        softmax(found.view_mut());
        for ((found, &predicted), expected) in found.iter().zip(&predicted).zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            prop_assert!((f64::from(predicted) - expected).abs() < 1e-5, "{predicted} {expected}");
        }
    }
}

#[test]
fn the_gradient_check_catches_a_gradient_that_lacks_one_image() {
    let network = network(Shape::vector(5), &[dense(4), LayerSpec::Tanh, dense(3)], 7);
    let x = values(6, 5, 8);
    let x = x.view();
    let labels = [0, 1, 2, 0, 1, 2];
    let loss = Loss::new(LossKind::CrossEntropy);
    let pool = ThreadPool::new(1);
    let batch = |rows: &'static [u32]| Batch { images: &x, labels: &labels, rows, draw: DRAW };
    let mut checks = gradient_check(&network, &loss, batch(&[0, 1, 2, 3, 4, 5]), &pool);
    assert!(worst(&checks) < ERROR_MAX);

    let mut workspace = Workspace::new(&network, 6);
    workspace.backpropagate(&network, &loss, batch(&[0, 1, 2, 3, 4]), &pool);
    let without_one = workspace.gradients()[0].weight.mapv(|gradient| gradient * 5.0 / 6.0);
    checks[0].analytic = without_one.iter().copied().collect();
    assert!(checks[0].max_relative_error() > 1e-2);
}

/// Over many draws, dropout keeps the mean and drops its share of the values.
#[test]
fn dropout_sets_its_share_to_0_and_keeps_the_mean() {
    let layers = [dense(1), LayerSpec::Dropout { rate: 0.25 }, dense(2)];
    let mut network = network(Shape::vector(1), &layers, 1);
    // The score of class 1 is the dropped value itself, and that of class 0 is 0.
    for (index, layer) in network.layers_mut().iter_mut().enumerate() {
        if let Some((weight, bias)) = layer.parameters_mut() {
            weight.fill(0.0);
            bias.fill(0.0);
            if index == 0 { bias.fill(3.0) } else { weight[[0, 1]] = 1.0 }
        }
    }
    let rows: Vec<u32> = (0..4_000).collect();
    let (x, labels) = (Array2::<f64>::zeros((4_000, 1)), vec![0; 4_000]);
    let view = x.view();
    let batch = Batch { images: &view, labels: &labels, rows: &rows, draw: DRAW };
    let mut workspace = Workspace::new(&network, 4_000);
    let loss = Loss::new(LossKind::CrossEntropy);
    let found = training_loss(&mut workspace, &network, &loss, batch, &ThreadPool::new(2)).loss_sum / 4_000.0;
    // ln(1 + e^z), with z = 0 in a quarter of the rows and 3 / 0.75 in the others.
    let expected = 0.25 * 2_f64.ln() + 0.75 * (1.0 + 4_f64.exp()).ln();
    assert!((found - expected).abs() < 0.1, "{found} {expected}");
}

#[test]
fn layers_are_adopted_by_index_kind_and_shape_whatever_their_stride_and_padding() {
    let conv = |padding, stride| LayerSpec::Conv2d { filters: 3, kernel: 3, padding, stride, init: Init::He };
    let input = Shape { height: 7, width: 7, channels: 1 };
    let old = network(input, &[conv(Padding::Valid, 1), LayerSpec::Tanh, dense(4)], 1);
    let mut new = network(input, &[conv(Padding::Same, 2), LayerSpec::Tanh, dense(4)], 2);
    let before = new.clone();
    new.adopt(&old);
    assert_eq!(new.layers()[0].parameters(), old.layers()[0].parameters());
    assert_eq!(new.layers()[2], before.layers()[2], "its inputs are others");
    assert!(worst(&check(&new, &Loss::new(LossKind::CrossEntropy), 3, 5)) < ERROR_MAX);
}

#[test]
fn at_inference_a_normalisation_folds_away_and_dropout_does_nothing() {
    let conv = LayerSpec::Conv2d { filters: 3, kernel: 3, padding: Padding::Same, stride: 1, init: Init::He };
    let with = [conv, LayerSpec::BatchNorm, LayerSpec::Relu, LayerSpec::Dropout { rate: 0.5 }, dense(4)];
    let mut network = network(Shape { height: 6, width: 5, channels: 2 }, &with, 3);
    let x = values(9, 60, 4);
    let view = x.view();
    let (labels, rows) = (labels(9, 4, 1), (0..9).collect::<Vec<u32>>());
    let batch = Batch { images: &view, labels: &labels, rows: &rows, draw: DRAW };
    let loss = Loss::new(LossKind::CrossEntropy);
    let pool = ThreadPool::new(2);
    let mut workspace = Workspace::new(&network, 9);
    for _ in 0..5 {
        workspace.backpropagate(&network, &loss, batch, &pool);
        workspace.track_statistics(&mut network);
    }
    let folded = network.folded();
    assert!(folded.layers().len() == with.len() - 1 && network.layers().len() == with.len());
    let predicted = Predictor::new(network.converted()).probabilities(x.mapv(|x| x as f32).view());
    let mut probabilities = Tape::forward(&folded, x.clone()).scores().to_owned();
    softmax(probabilities.view_mut());
    let loss_of = |p: ArrayView2<f64>| -> f64 {
        p.rows().into_iter().zip(&labels).map(|(p, &label)| -p[usize::from(label)].ln()).sum()
    };
    let evaluated = workspace.evaluate(&network, &loss, batch, &pool, || true).expect("measured").loss_sum;
    assert!((loss_of(probabilities.view()) - evaluated).abs() < 1e-12 * evaluated.abs().max(1.0));
    let predicted = loss_of(predicted.mapv(f64::from).view());
    assert!((predicted - evaluated).abs() < 1e-5 * evaluated.abs().max(1.0));
}

/// Images that are mostly 0, among others without zeros. Alone, the two kinds take different paths.
#[test]
fn an_image_gets_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads() {
    let network = Network::new(Shape::vector(50), &[dense(33), LayerSpec::Relu, dense(10)], 7)
        .expect("layers that fit");
    let predictor = Predictor::new(network);
    for sparse in [2, 10] {
        let mut x = values(300, 50, 8).mapv(|x| x as f32);
        for (row, mut x) in x.rows_mut().into_iter().enumerate().filter(|(row, _)| row % sparse != 0) {
            x.iter_mut()
                .enumerate()
                .filter(|(column, _)| (column + row) % 10 != 0)
                .for_each(|(_, x)| *x = 0.0);
        }
        let together = predictor.probabilities(x.view());
        for (row, expected) in together.rows().into_iter().enumerate() {
            let alone = predictor.probabilities(x.slice(ndarray::s![row..=row, ..]));
            assert_eq!(alone.row(0), expected, "image {row}");
        }
        for threads in [1, 2, 3, 7] {
            assert_eq!(
                predictor.probabilities_on(&ThreadPool::new(threads), x.view()),
                together,
                "{threads} threads"
            );
        }
    }
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
    let dense = network(Shape::vector(3), &[dense(2)], 1);
    let x = arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let batch = Batch { images: &x.view(), labels: &[0, 1], rows: &[0, 1], draw: DRAW };
    let mut workspace = Workspace::new(&dense, 2);
    let loss = Loss::new(LossKind::CrossEntropy);
    workspace.backpropagate(&dense, &loss, batch, &ThreadPool::new(1));
    let gradient = &workspace.gradients()[0];
    assert_eq!((gradient.weight.dim(), gradient.bias.dim()), ((3, 2), 2));
    // Each row of softmax − target sums to 0, and so does db.
    assert!(gradient.bias.sum().abs() < 1e-12);
}

/// Fused layers, skipped zeros and packed weights give the same bits as forward, backward and update of each
/// layer in turn.
#[test]
fn a_trainer_equals_its_parts_bit_for_bit() {
    let conv = LayerSpec::Conv2d { filters: 5, kernel: 3, padding: Padding::Same, stride: 1, init: Init::He };
    let pool = LayerSpec::MaxPool2d { size: 2 };
    let sparse = vec![dense(70), LayerSpec::Relu, dense(33), LayerSpec::Tanh, dense(10)];
    let images =
        vec![conv, LayerSpec::BatchNorm, LayerSpec::Relu, pool, conv, LayerSpec::Relu, pool, dense(10)];
    let train = &mnist::dataset().train;
    let pixels = train.images().view();
    let loss = Loss::new(LossKind::CrossEntropy);
    let workers = ThreadPool::new(2);
    let rules =
        OptimizerSpec::NAMES.into_iter().flat_map(|rule| [(&sparse, rule, None), (&sparse, rule, Some(0.5))]);
    for (layers, rule, clip) in rules.chain([(&images, "adam", None)]) {
        let network = Network::<f32>::new(mnist::shape().input, layers, 1).expect("layers that fit");
        let optimizer = Optimizer::new(OptimizerSpec::named(rule).expect("a rule"), &network);
        let mut parts = (network.clone(), optimizer.clone(), Workspace::new(&network, 50));
        let mut whole = (
            network.clone(),
            optimizer,
            Workspace::planned(&network, Plan::new(&network.kinds(), network.shapes(), 50, 0.2)),
        );
        let mut trainer = Trainer::new(&mut whole.2, &mut whole.0, &mut whole.1);
        for step in 0..5 {
            trainer.watch(step == 2);
            let rows: Vec<u32> = (step * 50..step * 50 + 50 - step).collect();
            let batch = Batch { images: &pixels, labels: train.labels(), rows: &rows, draw: DRAW };
            let found = trainer.step(&loss, batch, 0.01, clip, &workers);
            let (network, optimizer, workspace) = &mut parts;
            assert_eq!(found, workspace.backpropagate(network, &loss, batch, &workers));
            let scale = clip_scale(clip, workspace.gradients());
            update(optimizer, network, workspace.gradients(), 0.01, scale, &workers);
            workspace.track_statistics(network);
            if step < 4 {
                assert!(trainer.network() == &*network, "step {step} of {layers:?} by {rule}");
            }
        }
        drop(trainer);
        assert!((&whole.0, &whole.1) == (&parts.0, &parts.1), "the end of {layers:?} by {rule}");
    }
}

/// More rows than pass the layers together, so that values read after the groups synchronise must be kept.
#[test]
fn statistics_of_a_batch_reach_every_chunk_of_it() {
    let conv =
        LayerSpec::Conv2d { filters: 3, kernel: 3, padding: Padding::Valid, stride: 1, init: Init::He };
    let (norm, relu, pool) = (LayerSpec::BatchNorm, LayerSpec::Relu, LayerSpec::MaxPool2d { size: 2 });
    let blocks: [&[LayerSpec]; 5] = [
        &[norm, conv, LayerSpec::Tanh],
        &[norm, relu, conv],
        &[conv, norm, relu, pool, LayerSpec::Flatten],
        &[conv, norm, relu, LayerSpec::Flatten],
        &[conv, norm, LayerSpec::Gelu, LayerSpec::Flatten],
    ];
    for block in blocks {
        let layers = [block, &[dense(3)]].concat();
        let network = network(Shape { height: 6, width: 7, channels: 2 }, &layers, 11);
        let checks = check(&network, &Loss::new(LossKind::CrossEntropy), 75, 12);
        assert!(worst(&checks) < 10.0 * ERROR_MAX, "largest relative error {} of {layers:?}", worst(&checks));
    }
}
