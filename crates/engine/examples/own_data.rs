//! Trains on 28×28 images of your own, in four files in the format of MNIST (IDX, gzip):
//!
//! ```sh
//! cargo run --release --example own_data -- FOLDER '{"network": "mlp", "seed": 1}'
//! ```
//!
//! Prints the test accuracy and the training time in seconds as JSON.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use chainrule_engine::data::idx::{IdxLimits, parse_images, parse_labels};
use chainrule_engine::data::{Dataset, Split};
use chainrule_engine::nn::ThreadPool;
use chainrule_engine::train::{Outcome, SpecLimits, TrainState, parse, run};
use serde_json::json;

const NAME: &str = "own";
const LIMITS: IdxLimits = IdxLimits { examples_max: 1_000_000 };

fn read(folder: &Path, prefix: &str) -> Result<Split, Box<dyn Error>> {
    let file = |rest: &str| fs::read(folder.join(format!("{prefix}-{rest}-ubyte.gz")));
    let images = parse_images(&file("images-idx3")?, LIMITS)?;
    Ok(Split::new(images, parse_labels(&file("labels-idx1")?, LIMITS)?)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: own_data FOLDER [REQUEST]")?;
    let (train, test) = (read(folder.as_ref(), "train")?, read(folder.as_ref(), "t10k")?);
    let classes = train.labels().iter().chain(test.labels()).max().map_or(0, |&most| usize::from(most) + 1);
    let names = (0..classes).map(|class| class.to_string()).collect();
    let dataset = Dataset::new(NAME.to_owned(), names, train, test)?;

    let mut request = serde_json::from_str(&std::env::args().nth(2).unwrap_or_else(|| "{}".to_owned()))?;
    if let serde_json::Value::Object(fields) = &mut request {
        fields.insert("dataset".to_owned(), json!(NAME));
    }
    let spec = parse(&request, &[dataset.shape()], &SpecLimits::default())
        .map_err(|faults| format!("{faults:?}"))?;
    if spec.initial_model.is_some() {
        return Err("there are no models to start from here".into());
    }
    let pool = ThreadPool::new(std::thread::available_parallelism()?.get());
    let begin = Instant::now();
    if let Outcome::Finished { test, .. } =
        run(&spec, &dataset, TrainState::new(&spec, dataset.shape().input)?, &pool, &mut ())?
    {
        let train_seconds = begin.elapsed().as_secs_f64();
        println!("{}", json!({ "test_accuracy": test.accuracy, "train_seconds": train_seconds }));
    }
    Ok(())
}
