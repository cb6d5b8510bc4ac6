//! Compares the matrix product with `matrixmultiply`, for the shapes of a training step: the forward pass,
//! the gradient of the weight, the gradient of the input, and a single image.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

use std::hint::black_box;

use chainrule_engine::nn::testing::{Instructions, Panels, Start, matmul_with};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// (rows, inner, columns).
const SHAPES: [(usize, usize, usize); 5] =
    [(64, 784, 128), (784, 64, 128), (64, 128, 10), (64, 512, 512), (1, 784, 128)];

fn matrix(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(row, column)| {
        ((row * 31 + column * 17) % 101) as f32 / 101.0 - 0.5
    })
}

fn products(criterion: &mut Criterion) {
    for (m, k, n) in SHAPES {
        let (a, b) = (matrix(m, k), matrix(k, n));
        let panels = Panels::of(b.view());
        let mut c = Array2::zeros((m, n));
        let mut group = criterion.benchmark_group(format!("{m}x{k}x{n}"));
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        for kind in Instructions::available() {
            group.bench_function(BenchmarkId::new("chainrule", format!("{kind:?}")), |bencher| {
                bencher.iter(|| {
                    matmul_with(kind, [(a.view(), black_box(&panels))], &mut c.view_mut(), Start::Zero)
                });
            });
        }
        group.bench_function("matrixmultiply", |bencher| {
            bencher.iter(|| ndarray::linalg::general_mat_mul(1.0, &a, black_box(&b), 0.0, &mut c));
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
