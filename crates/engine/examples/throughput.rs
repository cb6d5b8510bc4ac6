//! Measures the speed of the library and the limits of this machine, and prints them as JSON:
//!
//! ```sh
//! cargo run --release --example throughput -- predict 2 # images per second on two threads, one and 256 at a time
//! cargo run --release --example throughput -- evaluate 2 # milliseconds to read the 10,000 test images on two threads
//! cargo run --release --example throughput -- peak      # multiply-adds per second of a core, bytes per second from memory
//! cargo run --release --example throughput -- memory    # memory that training takes besides the data, for 100 times MNIST
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use chainrule_engine::data::{self, Dataset, DatasetShape, Split, mnist, to_unit};
use chainrule_engine::nn::testing::{Instructions, multiply_adds, run_vectorized};
use chainrule_engine::nn::{
    Batch, Draw, Init, LayerSpec, Loss, LossKind, Network, Plan, Predictor, ThreadPool, Workspace,
};
use chainrule_engine::train::{Observer, Outcome, Preset, SpecLimits, TrainState, parse, run};
use ndarray::{Array2, Axis};
use serde_json::{Value, json};

/// Duration of each measurement.
const SPAN: Duration = Duration::from_secs(1);

/// Larger than any cache.
const BYTES: usize = 1 << 28;

/// Calls `work` until the time is over, and returns the calls per second.
fn rate(mut work: impl FnMut()) -> f64 {
    work();
    let (begin, mut times) = (Instant::now(), 0_u32);
    while begin.elapsed() < SPAN {
        work();
        times += 1;
    }
    f64::from(times) / begin.elapsed().as_secs_f64()
}

fn predict(threads: usize) -> Value {
    let pool = ThreadPool::new(threads);
    let dense = |units| LayerSpec::Dense { units, init: Init::He };
    let layers = [dense(128), LayerSpec::Relu, dense(10)];
    let predictor = Predictor::new(Network::new(mnist::shape().input, &layers, 1).expect("layers that fit"));
    let test = &mnist::dataset().test;
    let images_per_second = |images: usize| {
        let x = Array2::from_shape_fn((images, mnist::shape().input.len()), |(row, pixel)| {
            f32::from(test.image(row)[pixel]) / 255.0
        });
        let calls = rate(|| drop(black_box(predictor.probabilities_on(&pool, black_box(x.view())))));
        calls * images as f64
    };
    json!({ "images_per_second": { "1": images_per_second(1), "256": images_per_second(256) } })
}

/// Milliseconds of three passes over the test images, for each preset with random weights: the one that ends a job, the
/// predictor's with its input as numbers, and the predictor's with its input as pixels.
fn evaluate(threads: usize) -> Value {
    let pool = ThreadPool::new(threads);
    let test = &mnist::dataset().test;
    let pixels = test.images().view();
    let x: Vec<f32> = to_unit(pixels.as_slice().expect("row order")).collect();
    let x = Array2::from_shape_vec(pixels.dim(), x).expect("images");
    let rows: Vec<u32> = (0..test.len() as u32).collect();
    let milliseconds = |preset: Preset| {
        let request = json!({ "network": preset.name() });
        let spec = parse(&request, &data::shapes(), &SpecLimits::default()).expect("a preset");
        let network =
            Network::<f32>::new(mnist::shape().input, &spec.network.layers, 1).expect("layers that fit");
        let plan = Plan::new(&network.kinds(), network.shapes(), spec.batch_size, 0.2);
        let mut workspace = Workspace::planned(&network, plan);
        let loss = Loss::new(LossKind::CrossEntropy);
        let batch = Batch { images: &pixels, labels: test.labels(), rows: &rows, draw: Draw::default() };
        let of_job = rate(|| {
            black_box(workspace.evaluate(&network, &loss, batch, &pool, || true));
        });
        let predictor = Predictor::new(network.clone());
        let of_numbers = rate(|| drop(black_box(predictor.probabilities_on(&pool, black_box(x.view())))));
        let of_pixels = rate(|| drop(black_box(predictor.scores_on(&pool, black_box(pixels)))));
        (preset.name().to_owned(), json!([of_job, of_numbers, of_pixels].map(|rate| 1e3 / rate)))
    };
    Value::Object(Preset::ALL.into_iter().map(milliseconds).collect())
}

fn peak() -> Value {
    const STEPS: usize = 100_000;
    let instructions = Instructions::best();
    let (flops, _) = multiply_adds::<f32>(instructions, STEPS);
    let adds = rate(|| {
        black_box(multiply_adds::<f32>(instructions, black_box(STEPS)));
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = ThreadPool::new(cores);
    let numbers = vec![1.0_f32; BYTES / size_of::<f32>()];
    let reads = rate(|| {
        pool.for_each(numbers.chunks(numbers.len() / (16 * cores)), |part| {
            let sum = run_vectorized(
                #[inline(always)]
                || {
                    part.chunks_exact(64).fold([0.0; 64], |mut sums, numbers| {
                        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
                        sums
                    })
                },
            );
            black_box(sum);
        });
    });
    json!({
        "instructions": format!("{instructions:?}"),
        "gflops_per_core": adds * flops as f64 / 1e9,
        "gbytes_per_second": reads * BYTES as f64 / 1e9,
    })
}

/// Observes one epoch of training, as a job does.
struct Epoch;

impl Observer for Epoch {
    type Error = std::convert::Infallible;
}

/// A field of `/proc/self/status` in bytes.
fn status_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn memory() -> Value {
    const TIMES: usize = 100;
    let mnist = mnist::dataset();
    let images =
        ndarray::concatenate(Axis(0), &[mnist.train.images().view(); TIMES]).expect("images of one size");
    let labels = mnist.train.labels().repeat(TIMES);
    let data_bytes = images.len() + size_of_val(labels.as_slice());
    let train = Split::new(images, labels).expect("a label for each image");
    let shape = DatasetShape { train: train.len(), ..mnist::shape() };
    let data = Dataset::new(shape.name.clone(), mnist.classes.clone(), train, mnist.test.clone())
        .expect("a data set");
    let request = json!({ "epochs": 1, "validation_fraction": 0 });
    let spec = parse(&request, &[shape], &SpecLimits::default()).expect("a job");
    let before = status_bytes("VmRSS");
    let state = TrainState::new(&spec, mnist::shape().input).expect("layers that fit");
    let pool = ThreadPool::new(std::thread::available_parallelism().map_or(1, usize::from));
    let begin = Instant::now();
    let outcome = run(&spec, &data, state, &pool, &mut Epoch);
    assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "a finished run");
    json!({
        "images": data.train.len(),
        "data_bytes": data_bytes,
        "bytes_before": before,
        "bytes_most": status_bytes("VmHWM"),
        "images_per_second": data.train.len() as f64 / begin.elapsed().as_secs_f64(),
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = |text: &str| text.parse().ok().filter(|threads| (1..=1_024).contains(threads));
    let found = match *arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["predict", text] => threads(text).map(predict),
        ["evaluate", text] => threads(text).map(evaluate),
        ["peak"] => Some(peak()),
        ["memory"] => Some(memory()),
        _ => None,
    };
    match found {
        Some(found) => println!("{found}"),
        None => {
            eprintln!("usage: throughput predict THREADS|evaluate THREADS|peak|memory");
            std::process::exit(2);
        }
    }
}
