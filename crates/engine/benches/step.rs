//! Compares a training step and a prediction of 784-128-10 with the same in plain ndarray, which uses
//! matrixmultiply with its AVX-512 kernels enabled.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

use std::hint::black_box;

use chainrule_engine::data::mnist;
use chainrule_engine::nn::{
    Batch, Dense, Draw, Init, Layer, LayerSpec, Loss, LossKind, Network, Optimizer, OptimizerSpec, Plan,
    Predictor, ThreadPool, Trainer, Workspace, softmax,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array2, Axis};

const BATCH: usize = 100;
const LEARNING_RATE: f64 = 0.1;

fn network() -> Network<f32> {
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    Network::new(mnist::shape().input, &[dense(128), LayerSpec::Relu, dense(10)], 1).expect("layers that fit")
}

fn dense(layer: &Layer<f32>) -> &Dense<f32> {
    let Layer::Dense(dense) = layer else { panic!("a dense layer") };
    dense
}

fn dense_mut(layer: &mut Layer<f32>) -> &mut Dense<f32> {
    let Layer::Dense(dense) = layer else { panic!("a dense layer") };
    dense
}

fn floats(rows: usize) -> Array2<f32> {
    let images = &mnist::dataset().test;
    Array2::from_shape_fn((rows, 784), |(row, pixel)| f32::from(images.image(row)[pixel]) / 255.0)
}

/// Scores and hidden values, as in a textbook.
fn plain_forward(network: &Network<f32>, x: &Array2<f32>) -> (Array2<f32>, Array2<f32>) {
    let (first, second) = (dense(&network.layers()[0]), dense(&network.layers()[2]));
    let hidden = (x.dot(&first.weight) + &first.bias).mapv(|value| value.max(0.0));
    let z = hidden.dot(&second.weight) + &second.bias;
    (hidden, z)
}

fn plain_step(network: &mut Network<f32>, x: &Array2<f32>, labels: &[u16]) {
    let (hidden, mut dz) = plain_forward(network, x);
    softmax(dz.view_mut());
    for (mut row, &label) in dz.rows_mut().into_iter().zip(labels) {
        row[usize::from(label)] -= 1.0;
        row /= BATCH as f32;
    }
    let rate = LEARNING_RATE as f32;
    let [first, _, second] = network.layers_mut() else { return };
    let (first, second) = (dense_mut(first), dense_mut(second));
    let mut dhidden = dz.dot(&second.weight.t());
    dhidden.zip_mut_with(&hidden, |d, &y| *d = if y > 0.0 { *d } else { 0.0 });
    second.weight.scaled_add(-rate, &hidden.t().dot(&dz));
    second.bias.scaled_add(-rate, &dz.sum_axis(Axis(0)));
    first.weight.scaled_add(-rate, &x.t().dot(&dhidden));
    first.bias.scaled_add(-rate, &dhidden.sum_axis(Axis(0)));
}

fn step(criterion: &mut Criterion) {
    let test = &mnist::dataset().test;
    let rows: Vec<u32> = (0..BATCH as u32).collect();
    let pixels = test.images().view();
    let mut group = criterion.benchmark_group("step, batch 100");
    group.throughput(Throughput::Elements(BATCH as u64));
    for threads in [1, 2] {
        let mut network = network();
        let spec = OptimizerSpec::Sgd { learning_rate: LEARNING_RATE, weight_decay: 0.0 };
        let mut optimizer = Optimizer::new(spec, &network);
        let plan = Plan::new(
            &network.kinds(),
            network.shapes(),
            BATCH,
            mnist::dataset().statistics().nonzero_fraction,
        );
        let mut workspace = Workspace::planned(&network, plan);
        let mut trainer = Trainer::new(&mut workspace, &mut network, &mut optimizer);
        let pool = ThreadPool::new(threads);
        let loss = Loss::new(LossKind::CrossEntropy);
        group.bench_function(format!("chainrule, {threads} threads"), |bencher| {
            bencher.iter(|| {
                let batch = Batch {
                    images: &pixels,
                    labels: test.labels(),
                    rows: black_box(&rows),
                    draw: Draw::default(),
                };
                trainer.step(&loss, batch, LEARNING_RATE, None, &pool)
            });
        });
    }
    let (mut network, x) = (network(), floats(BATCH));
    group.bench_function("plain ndarray, 1 thread", |bencher| {
        bencher.iter(|| plain_step(&mut network, black_box(&x), &test.labels()[..BATCH]));
    });
    group.finish();
}

fn predict(criterion: &mut Criterion) {
    let predictor = Predictor::new(network());
    for rows in [1, 256] {
        let x = floats(rows);
        let mut group = criterion.benchmark_group(format!("predict, {rows} images"));
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function("chainrule", |bencher| {
            bencher.iter(|| predictor.probabilities(black_box(x.view())))
        });
        group.bench_function("plain ndarray", |bencher| {
            bencher.iter(|| {
                let (_, mut z) = plain_forward(predictor.network(), black_box(&x));
                softmax(z.view_mut());
                z
            });
        });
        group.finish();
    }
}

criterion_group!(benches, step, predict);
criterion_main!(benches);
