//! A training step allocates nothing, and the memory of a job is close to its estimate.

use std::convert::Infallible;

use chainrule_engine::artifact::{ArtifactError, write_checkpoint};
use chainrule_engine::data::{self, Dataset, Split, mnist};
use chainrule_engine::nn::{
    Batch, Draw, Loss, LossKind, Network, Optimizer, OptimizerSpec, Plan, ThreadPool, Trainer, Workspace,
};
use chainrule_engine::train::{
    EpochMetrics, Observer, Outcome, SpecLimits, StepReport, TrainSpec, TrainState, parse, run,
};
use ndarray::s;
use serde_json::{Value, json};

use crate::counting::{allocations, allocations_so_far, most_held};

fn spec(request: Value) -> TrainSpec {
    parse(&request, &data::shapes(), &SpecLimits::default()).expect("a valid request")
}

/// A job with `batch_norm` before relu and pool, before relu alone, and alone.
fn normalised() -> Value {
    let conv = |filters| json!({ "type": "conv2d", "filters": filters, "kernel": 3, "padding": "same" });
    let (norm, relu) = (json!({ "type": "batch_norm" }), json!({ "type": "relu" }));
    json!({ "network": { "layers": [
        conv(16), norm, relu, { "type": "max_pool2d" }, conv(32), norm, relu, conv(24), norm, { "type": "gelu" },
        { "type": "avg_pool2d" }, { "type": "dropout", "rate": 0.3 }, { "type": "dense", "units": 10 },
    ] } })
}

#[test]
fn a_training_step_allocates_nothing() {
    let dataset = mnist::dataset();
    let (train, nonzero_fraction) = (&dataset.train, dataset.statistics().nonzero_fraction);
    let pixels = train.images().view();
    let rows: Vec<u32> = (0..128).collect();
    // With one thread, all work of a step runs on this thread, which counts its allocations.
    let pool = ThreadPool::new(1);
    let jobs = OptimizerSpec::NAMES.map(|optimizer| json!({ "optimizer": { "type": optimizer } }));
    let others = [json!({ "network": "cnn-fast" }), json!({ "network": "cnn-best" }), normalised()];
    for request in jobs.into_iter().chain(others) {
        let spec = spec(request);
        let mut network =
            Network::<f32>::new(mnist::shape().input, &spec.network.layers, 1).expect("layers that fit");
        let mut optimizer = Optimizer::new(spec.optimizer, &network);
        let plan = Plan::new(&network.kinds(), network.shapes(), 128, nonzero_fraction);
        let mut workspace = Workspace::planned(&network, plan);
        let loss = Loss { kind: LossKind::CrossEntropy, label_smoothing: 0.1 };
        let mut trainer = Trainer::new(&mut workspace, &mut network, &mut optimizer);
        for (size, clip) in [(128, None), (100, Some(1.0)), (1, None)] {
            let counted = allocations(|| {
                let (draw, rows) = (Draw::default(), &rows[..size]);
                let batch = Batch { images: &pixels, labels: train.labels(), rows, draw };
                trainer.step(&loss, batch, 0.01, clip, &pool);
            });
            assert_eq!(counted, 0, "{:?}, batch of {size}", spec.optimizer);
        }
    }
}

/// Counts the allocations between two steps of an epoch.
#[derive(Default)]
struct BetweenSteps {
    before: Option<usize>,
    counts: Vec<usize>,
}

impl Observer for BetweenSteps {
    type Error = Infallible;

    fn step(&mut self, _: &StepReport) -> bool {
        let now = allocations_so_far();
        if let Some(before) = self.before {
            self.counts.push(now - before);
        }
        // The allocations of this list are not counted.
        self.before = Some(allocations_so_far());
        true
    }

    fn epoch(&mut self, _: &EpochMetrics, _: &TrainState) -> Result<(), Infallible> {
        self.before = None;
        Ok(())
    }
}

/// The job also augments images, averages the weights and collects the statistics of units.
#[test]
fn a_job_allocates_nothing_from_step_to_step() {
    let spec = spec(json!({
        "network": "cnn-fast", "train_samples": 500, "batch_size": 64, "epochs": 2, "ema_decay": 0.9,
        "augment": { "shift_pixels": 2, "rotate_degrees": 10, "scale": 0.1, "shear": 0.1, "elastic": { "alpha": 8, "sigma": 3 } },
    }));
    let mut between = BetweenSteps::default();
    let state = TrainState::new(&spec, mnist::shape().input).expect("layers that fit");
    run(&spec, &mnist::dataset(), state, &ThreadPool::new(1), &mut between).expect("a run that converges");
    assert_eq!(between.counts, [0; 14]);
}

/// Writes a checkpoint after each epoch, as a worker does.
struct Checkpoints;

impl Observer for Checkpoints {
    type Error = ArtifactError;

    fn epoch(&mut self, _: &EpochMetrics, state: &TrainState) -> Result<(), ArtifactError> {
        write_checkpoint(state).map(drop)
    }
}

#[test]
fn a_job_takes_the_memory_it_was_estimated_to_within_a_fifth() {
    // More test images would take more time, but not more memory.
    let all = mnist::dataset();
    let test = all.test.images().slice(s![..1_000, ..]).to_owned();
    let test = Split::new(test, all.test.labels()[..1_000].to_vec()).expect("an image for each label");
    let dataset =
        Dataset::new(all.name.clone(), all.classes.clone(), all.train.clone(), test).expect("a data set");
    let conv = json!({ "type": "conv2d", "filters": 40, "kernel": 3, "padding": "same" });
    let odd = json!([conv, { "type": "tanh" }, conv, { "type": "avg_pool2d" }, { "type": "dropout", "rate": 0.2 },
        { "type": "dense", "units": 70 }, { "type": "relu" }, { "type": "dense", "units": 10 }]);
    let wide =
        json!([{ "type": "dense", "units": 1_000 }, { "type": "gelu" }, { "type": "dense", "units": 10 }]);
    let requests =
        ["lesson", "mlp", "cnn-fast", "cnn", "cnn-best"].map(|preset| json!({ "network": preset }));
    let others = [
        json!({ "network": { "layers": odd }, "batch_size": 512 }),
        json!({ "network": { "layers": wide } }),
        normalised(),
    ];
    for mut request in requests.into_iter().chain(others) {
        request["train_samples"] = json!(600);
        request["epochs"] = json!(1);
        let spec = spec(request);
        let estimated = spec.cost(&dataset.shape()).memory_bytes;
        let (measured, outcome) = most_held(|| {
            let state = TrainState::new(&spec, mnist::shape().input).expect("layers that fit");
            run(&spec, &dataset, state, &ThreadPool::new(1), &mut Checkpoints)
        });
        assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
        let measured = measured as f64;
        let ratio = estimated / measured;
        assert!((0.8..1.2).contains(&ratio), "{ratio:.2}: {estimated} for {measured} of {:?}", spec.network);
    }
}
