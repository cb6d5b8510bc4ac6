//! The accuracy that presets reach, and the conditions that end a run.

use chainrule::data::mnist;
use chainrule::nn::ThreadPool;
use chainrule::train::{Outcome, TrainError, TrainSpec, TrainState, run};
use serde_json::json;

use crate::reproducible::{Steps, spec};

fn train(spec: &TrainSpec) -> (TrainState, f64) {
    let pool = ThreadPool::new(2);
    match run(
        spec,
        &mnist::dataset(),
        TrainState::new(spec, mnist::shape().input).expect("layers that fit"),
        &pool,
        &mut Steps(u64::MAX),
    ) {
        Ok(Outcome::Finished { state, test }) => (*state, test.accuracy),
        other => panic!("{other:?}"),
    }
}

fn reaches_97_5_percent(seed: u64) {
    let (_, accuracy) = train(&spec(json!({ "seed": seed })));
    assert!(accuracy >= 0.975, "seed {seed}: {accuracy}");
}

#[test]
fn the_default_job_reaches_97_5_percent() {
    reaches_97_5_percent(1);
}

#[test]
#[ignore = "trains four more default jobs, which takes half a minute"]
fn the_default_job_reaches_97_5_percent_for_four_other_seeds() {
    (2..=5).for_each(reaches_97_5_percent);
}

#[test]
fn the_lessons_network_reaches_92_percent() {
    let (_, accuracy) = train(&spec(json!({ "network": "lesson" })));
    assert!(accuracy >= 0.92, "{accuracy}");
}

#[test]
fn a_run_ends_with_the_epoch_that_reaches_the_target() {
    let spec = spec(json!({ "target_accuracy": 0.9, "epochs": 20, "train_samples": 20_000 }));
    let (state, _) = train(&spec);
    assert!(state.epoch < 20);
    assert!(state.validation_accuracy.is_some_and(|accuracy| accuracy >= 0.9));
}

#[test]
fn a_run_that_does_not_improve_stops_early() {
    let spec = spec(json!({
        "optimizer": { "type": "adam", "learning_rate": 0.05 }, "schedule": { "type": "constant" },
        "early_stopping": { "patience": 2 }, "epochs": 100, "train_samples": 1_000,
    }));
    let (state, _) = train(&spec);
    assert_eq!(state.stale_epochs, 2);
    assert!(state.epoch < 100);
}

#[test]
fn a_run_that_diverges_says_where() {
    let spec = spec(json!({
        "optimizer": { "type": "sgd", "learning_rate": 1e6 }, "loss": "cross_entropy",
        "network": { "layers": [{ "type": "dense", "units": 32 }, { "type": "relu" }, { "type": "dense", "units": 32 },
            { "type": "relu" }, { "type": "dense", "units": 10 }] },
        "schedule": { "type": "constant" }, "train_samples": 1_000,
    }));
    let pool = ThreadPool::new(2);
    let result = run(
        &spec,
        &mnist::dataset(),
        TrainState::new(&spec, mnist::shape().input).expect("layers that fit"),
        &pool,
        &mut Steps(u64::MAX),
    );
    let Err(TrainError::Diverged { epoch: 1, step }) = result else { panic!("{result:?}") };
    assert!(step > 1);
}

#[test]
fn without_validation_the_metrics_of_validation_are_null() {
    let spec = spec(json!({ "validation_fraction": 0, "train_samples": 500, "epochs": 1 }));
    let (state, _) = train(&spec);
    assert_eq!((state.validation_accuracy, state.best_validation_loss), (None, None));
}
