//! What the library does in a second, and what this machine could do at most, as JSON:
//!
//! ```sh
//! cargo run --release --example throughput -- predict   # images, one at a time and 256 at a time
//! cargo run --release --example throughput -- peak      # multiply-adds of a core, bytes from memory
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use chainrule::data::mnist;
use chainrule::nn::kernel::{Instructions, multiply_adds, vectorized};
use chainrule::nn::{Init, LayerSpec, Network, Pool, Predictor};
use chainrule::train::INPUT;
use ndarray::Array2;
use serde_json::{Value, json};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(1);

/// More than any cache holds.
const BYTES: usize = 1 << 28;

/// Calls `work` until the time is over; how often a second.
fn rate(mut work: impl FnMut()) -> f64 {
    work();
    let (begin, mut times) = (Instant::now(), 0_u32);
    while begin.elapsed() < SPAN {
        work();
        times += 1;
    }
    f64::from(times) / begin.elapsed().as_secs_f64()
}

fn predict() -> Value {
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    let layers = [dense(128), LayerSpec::Relu, dense(10)];
    let predictor = Predictor::<f32>::new(Network::new(INPUT, &layers, 1).expect("layers that fit"));
    let test = &mnist::dataset().test;
    let images_per_second = |images: usize| {
        let x = Array2::from_shape_fn((images, INPUT.len()), |(row, pixel)| {
            f32::from(test.image(row)[pixel]) / 255.0
        });
        let calls = rate(|| drop(black_box(predictor.probabilities(black_box(x.view())))));
        calls * images as f64
    };
    json!({ "images_per_second": { "1": images_per_second(1), "256": images_per_second(256) } })
}

fn peak() -> Value {
    const STEPS: usize = 100_000;
    let instructions = Instructions::best();
    let (flops, _) = multiply_adds::<f32>(instructions, STEPS);
    let adds = rate(|| {
        black_box(multiply_adds::<f32>(instructions, black_box(STEPS)));
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(cores);
    let numbers = vec![1.0_f32; BYTES / size_of::<f32>()];
    let reads = rate(|| {
        pool.for_each(numbers.chunks(numbers.len() / (16 * cores)), |part| {
            let sum = vectorized(|| {
                part.chunks_exact(64).fold([0.0; 64], |mut sums, numbers| {
                    sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
                    sums
                })
            });
            black_box(sum);
        });
    });
    json!({
        "instructions": format!("{instructions:?}"),
        "gflops_per_core": adds * flops as f64 / 1e9,
        "gbytes_per_second": reads * BYTES as f64 / 1e9,
    })
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("predict") => println!("{}", predict()),
        Some("peak") => println!("{}", peak()),
        _ => eprintln!("usage: throughput predict|peak"),
    }
}
