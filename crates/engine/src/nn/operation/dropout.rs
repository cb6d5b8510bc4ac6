use ndarray::{ArrayView2, ArrayViewMut2, Zip};

use crate::nn::group::{BufferSize, Pass, Rows, Values};
use crate::nn::kernel::Parts;
use crate::nn::plan::Plan;
use crate::nn::{Dropout, Float};

/// A `dropout`. It draws a new mask for each example and epoch.
pub(in crate::nn) struct DropoutOperation<T> {
    layer: usize,
    dropout: Dropout,
    /// The masks of the rows.
    masks: Parts<Values<T>>,
}

fn mask_size(plan: &Plan, number: usize) -> BufferSize {
    plan.buffer_size(plan.ops[number].input.len(), plan.is_kept(number))
}

pub(super) fn numbers_of(plan: &Plan, number: usize) -> f64 {
    plan.groups as f64 * mask_size(plan, number).numbers()
}

impl<T: Float> DropoutOperation<T> {
    pub fn new(plan: &Plan, number: usize, dropout: Dropout) -> Self {
        let masks = Parts::new(plan.groups, || Values::zeros(mask_size(plan, number)));
        Self { layer: plan.ops[number].layers.start, dropout, masks }
    }

    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        if !pass.is_training {
            y.assign(&x);
            return;
        }
        let mut masks = self.masks.take(rows.group);
        let mut masks = masks.of_mut(rows.chunk);
        for (mut mask, &example) in masks.rows_mut().into_iter().zip(rows.examples) {
            let mask = mask.as_slice_mut().expect("masks are in row-major order");
            self.dropout.mask(pass.batch.draw, self.layer, example, mask);
        }
        Zip::from(&mut y).and(x).and(&masks).for_each(|y, &x, &mask| *y = x * mask);
    }

    pub fn backward(&self, rows: Rows, dy: ArrayView2<T>, mut dx: ArrayViewMut2<T>) {
        let masks = self.masks.take(rows.group);
        Zip::from(&mut dx).and(dy).and(masks.of(rows.chunk)).for_each(|dx, &dy, &mask| *dx = dy * mask);
    }
}
