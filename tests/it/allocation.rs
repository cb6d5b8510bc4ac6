//! A training step allocates nothing, and the memory of a job is close to its estimate.
#![expect(unsafe_code, reason = "an allocator that counts can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;

use chainrule::artifact::{ArtifactError, write_checkpoint};
use chainrule::data::mnist;
use chainrule::nn::{OptimizerSpec, Pool};
use chainrule::train::{EpochMetrics, Observer, Outcome, StepReport, TrainState, run};
use serde_json::{Value, json};

use crate::reproducible::spec;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread holds; `MOST_HELD` is their maximum so far.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST_HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator. The counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        HELD.set(HELD.get() + layout.size() as isize);
        MOST_HELD.set(MOST_HELD.get().max(HELD.get()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts the allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Returns the largest growth of this thread's memory while `work` ran, in bytes, and the result of `work`.
pub fn most_held<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST_HELD.set(before);
    let made = work();
    (usize::try_from(MOST_HELD.get() - before).expect("at least what was held before"), made)
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

/// Counts the allocations between two steps of an epoch.
#[derive(Default)]
struct BetweenSteps {
    before: Option<usize>,
    counts: Vec<usize>,
}

impl Observer for BetweenSteps {
    type Error = Infallible;

    fn step(&mut self, _: &StepReport) -> bool {
        let now = ALLOCATIONS.get();
        if let Some(before) = self.before {
            self.counts.push(now - before);
        }
        // The allocations of this list are not counted.
        self.before = Some(ALLOCATIONS.get());
        true
    }

    fn epoch(&mut self, _: &EpochMetrics, _: &TrainState) -> Result<(), Infallible> {
        self.before = None;
        Ok(())
    }
}

/// Returns how often each step of a run after the first of its epoch allocates.
fn allocations_between_steps(request: Value) -> Vec<usize> {
    let spec = spec(request);
    let mut between = BetweenSteps::default();
    let state = TrainState::new(&spec, mnist::shape().input).expect("layers that fit");
    // With one thread, all work of a step runs on this thread, which counts its allocations.
    run(&spec, &mnist::dataset(), state, &Pool::new(1), &mut between).expect("a run that converges");
    between.counts
}

/// The last batch is smaller.
#[test]
fn a_training_step_allocates_nothing() {
    let jobs = OptimizerSpec::NAMES.map(|optimizer| json!({ "optimizer": { "type": optimizer } }));
    let others = [json!({ "network": "cnn-fast" }), json!({ "network": "cnn-best" }), normalised()];
    for (number, mut request) in jobs.into_iter().chain(others).enumerate() {
        request["train_samples"] = json!(500);
        request["epochs"] = json!(1);
        request["label_smoothing"] = json!(0.1);
        request["gradient_clip_norm"] = if number % 2 == 0 { json!(null) } else { json!(1.0) };
        assert_eq!(allocations_between_steps(request.clone()), [0; 3], "{request}");
    }
}

/// The job also augments images, averages the weights and collects the statistics of units.
#[test]
fn a_job_allocates_nothing_from_step_to_step() {
    let request = json!({
        "network": "cnn-fast", "train_samples": 500, "batch_size": 64, "epochs": 2, "ema_decay": 0.9,
        "augment": { "shift_pixels": 2, "rotate_degrees": 10, "scale": 0.1, "shear": 0.1, "elastic": { "alpha": 8, "sigma": 3 } },
    });
    assert_eq!(allocations_between_steps(request), [0; 14]);
}

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
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
    let dataset = mnist::dataset();
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
        let estimated = spec.cost(&mnist::shape()).memory_bytes;
        let (measured, outcome) = most_held(|| {
            let state = TrainState::new(&spec, mnist::shape().input).expect("layers that fit");
            run(&spec, &dataset, state, &Pool::new(1), &mut Checkpoints)
        });
        assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
        let measured = measured as f64;
        let ratio = estimated / measured;
        assert!((0.8..1.2).contains(&ratio), "{ratio:.2}: {estimated} for {measured} of {:?}", spec.network);
    }
}
