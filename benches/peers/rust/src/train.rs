//! Times a training run of 784-128-10.

use std::time::Instant;

use anyhow::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

pub const HIDDEN: usize = 128;
pub const CLASSES: usize = 10;
pub const BATCH: usize = 100;
pub const LEARNING_RATE: f64 = 0.1;

/// A network in training. MNIST is ready in the form that its library expects.
pub trait Training {
    /// Takes one step of gradient descent with these training images.
    fn step(&mut self, rows: &[u32]) -> Result<()>;

    /// Returns the fraction of the test images that are classified correctly.
    fn test_accuracy(&self) -> Result<f64>;
}

/// Returns images per second over `passes` of `steps` batches, after a warm-up pass.
pub fn measure(mut training: impl Training, images: usize, steps: usize, passes: usize) -> Result<Value> {
    let mut rng = StdRng::seed_from_u64(42);
    let mut order: Vec<u32> = (0..images as u32).collect();
    let mut pass = || -> Result<usize> {
        order.shuffle(&mut rng);
        let mut trained = 0;
        for rows in order.chunks_exact(BATCH).take(steps) {
            training.step(rows)?;
            trained += rows.len();
        }
        Ok(trained)
    };
    pass()?;
    let begin = Instant::now();
    let mut trained = 0;
    for _ in 0..passes {
        trained += pass()?;
    }
    let rate = trained as f64 / begin.elapsed().as_secs_f64();
    Ok(json!({"images_per_second": rate, "test_accuracy": training.test_accuracy()?}))
}
