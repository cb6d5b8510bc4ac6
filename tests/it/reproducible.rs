//! The weights are a function of the spec: not of threads, stops or runs.

use std::convert::Infallible;

use chainrule::artifact::{read_checkpoint, write_checkpoint};
use chainrule::data::{self, mnist};
use chainrule::nn::Pool;
use chainrule::train::{
    EpochMetrics, Observer, Outcome, SpecLimits, StepReport, TrainSpec, TrainState, parse, run,
};
use serde_json::{Value, json};

/// Lets a run go on for some steps.
pub struct Steps(pub u64);

impl Observer for Steps {
    type Error = Infallible;

    fn step(&mut self, _: &StepReport) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }

    fn epoch(&mut self, _: &EpochMetrics, _: &TrainState) -> Result<(), Infallible> {
        Ok(())
    }
}

pub fn spec(request: Value) -> TrainSpec {
    parse(&request, &data::shapes(), &SpecLimits::default()).expect("a valid request")
}

fn small(optimizer: &str) -> TrainSpec {
    spec(json!({
        "train_samples": 700, "epochs": 3, "batch_size": 64, "gradient_clip_norm": 1.0,
        "optimizer": { "type": optimizer }, "early_stopping": { "patience": 2 },
    }))
}

fn train(spec: &TrainSpec, threads: usize, state: TrainState, steps: u64) -> Outcome {
    run(spec, &mnist::dataset(), state, &Pool::new(threads), &mut Steps(steps)).expect("a run that converges")
}

fn undisturbed(spec: &TrainSpec, threads: usize) -> (Vec<u8>, f64) {
    match train(spec, threads, TrainState::new(spec, 784), u64::MAX) {
        Outcome::Finished { state, test } => (write_checkpoint(&state).expect("a checkpoint"), test.loss),
        Outcome::Stopped { .. } => panic!("nobody stopped it"),
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let spec = small("adam");
    let one = undisturbed(&spec, 1);
    for threads in [2, 3, 7] {
        assert!(undisturbed(&spec, threads) == one, "{threads} threads");
    }
}

#[test]
fn another_seed_gives_other_weights() {
    let spec = small("sgd");
    let other = TrainSpec { seed: spec.seed + 1, ..spec.clone() };
    assert!(undisturbed(&spec, 2) != undisturbed(&other, 2));
}

#[test]
fn a_run_stopped_after_any_step_and_resumed_from_its_checkpoint_gives_the_same_bytes() {
    for optimizer in ["sgd", "momentum", "adam"] {
        let spec = small(optimizer);
        let expected = undisturbed(&spec, 2);
        for steps in [1, 3, 9, 10, 11, 12, 23, 29] {
            let state = match train(&spec, 2, TrainState::new(&spec, 784), steps) {
                Outcome::Stopped { state } | Outcome::Finished { state, .. } => state,
            };
            let bytes = write_checkpoint(&state).expect("a checkpoint");
            let state = read_checkpoint(&bytes, &spec, 784).expect("the same state");
            let Outcome::Finished { state, test } = train(&spec, 1, state, u64::MAX) else {
                panic!("nobody stopped it")
            };
            let found = (write_checkpoint(&state).expect("a checkpoint"), test.loss);
            assert!(found == expected, "{optimizer} stopped after {steps} steps");
        }
    }
}

#[test]
fn a_checkpoint_of_another_network_or_a_damaged_one_is_refused() {
    let spec = small("adam");
    let bytes = write_checkpoint(&TrainState::new(&spec, 784)).expect("a checkpoint");
    assert!(read_checkpoint(&bytes[..bytes.len() - 1], &spec, 784).is_err());
    assert!(read_checkpoint(b"", &spec, 784).is_err());
    assert!(read_checkpoint(&bytes, &spec, 100).is_err());
    assert!(read_checkpoint(&bytes, &small("momentum"), 784).is_err());
}
