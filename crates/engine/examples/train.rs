//! Trains with the library alone, without the server:
//!
//! ```sh
//! cargo run --release --example train -- '{"network": "cnn-fast", "epochs": 2}'
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

use std::convert::Infallible;
use std::error::Error;
use std::time::Instant;

use chainrule_engine::data;
use chainrule_engine::nn::ThreadPool;
use chainrule_engine::train::{
    EpochMetrics, Observer, Outcome, SpecLimits, StepReport, TrainState, parse, run,
};

struct Report {
    begin: Instant,
    images: usize,
}

impl Observer for Report {
    type Error = Infallible;

    fn step(&mut self, report: &StepReport) -> bool {
        self.images += report.images;
        true
    }

    fn epoch(&mut self, epoch: &EpochMetrics, _: &TrainState) -> Result<(), Infallible> {
        let accuracy = epoch.validation_accuracy.unwrap_or_default();
        let rate = self.images as f64 / self.begin.elapsed().as_secs_f64();
        println!(
            "epoch {}  loss {:.4}  val {accuracy:.4}  {rate:.0} images/s",
            epoch.epoch, epoch.train_loss
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let request = std::env::args().nth(1).unwrap_or_else(|| "{}".to_owned());
    let spec = parse(&serde_json::from_str(&request)?, &data::shapes(), &SpecLimits::default())
        .map_err(|faults| format!("{faults:?}"))?;
    let dataset = data::named(&spec.dataset).ok_or("no such dataset")?;
    let pool = ThreadPool::new(std::thread::available_parallelism()?.get());
    let mut report = Report { begin: Instant::now(), images: 0 };
    let outcome = run(&spec, &dataset, TrainState::new(&spec, dataset.shape().input)?, &pool, &mut report)?;
    if let Outcome::Finished { test, .. } = outcome {
        println!("test accuracy {:.4}", test.accuracy);
    }
    Ok(())
}
