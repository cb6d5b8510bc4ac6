//! A training step allocates nothing.
#![expect(unsafe_code, reason = "an allocator that counts can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use chainrule::data::mnist;
use chainrule::nn::{
    Batch, Draw, Loss, LossKind, Network, Optimizer, OptimizerSpec, Plan, Pool, Trainer, Workspace,
};
use chainrule::train::INPUT;
use serde_json::json;

use crate::reproducible::spec;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all is left to the system's allocator; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_training_step_allocates_nothing() {
    let dataset = mnist::dataset();
    let (train, nonzero_fraction) = (&dataset.train, dataset.statistics().nonzero_fraction);
    let pixels = train.images().view();
    let rows: Vec<u32> = (0..128).collect();
    // With one thread all of a step's work is on this one, whose allocations are counted.
    let pool = Pool::new(1);
    let jobs = OptimizerSpec::NAMES.map(|optimizer| json!({ "optimizer": { "type": optimizer } }));
    for request in jobs.into_iter().chain([json!({ "network": "cnn-fast" }), json!({ "network": "cnn" })]) {
        let spec = spec(request);
        let mut network = Network::<f32>::new(INPUT, &spec.network.layers, 1).expect("layers that fit");
        let mut optimizer = Optimizer::new(spec.optimizer, &network);
        let plan = Plan::new(&network, 128, nonzero_fraction);
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

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}
