use ndarray::{ArrayView2, ArrayViewMut2};

use super::{GradientSum, Trained, dense};
use crate::nn::kernel::{Panels, Parts, vectorized};
use crate::nn::packed::{PackedDense, PanelsSize, numbers_of_dense};
use crate::nn::plan::{Plan, PlanOp};
use crate::nn::{Dense, Float, Network};

/// A `dense` layer. Its gradient `dW = xᵀ dy` is computed in parts of W. Each part is one product over all rows of a
/// group, so dy is packed after the last row.
pub(in crate::nn) struct DenseOperation<T> {
    layer: usize,
    pub(in crate::nn) packed: PackedDense<T>,
    /// dy of all rows, packed.
    dys: Parts<Panels<T>>,
}

fn dy_size(plan: &Plan, op: &PlanOp) -> PanelsSize {
    PanelsSize(plan.rows, op.output.len())
}

pub(super) fn numbers_of(plan: &Plan, op: &PlanOp) -> f64 {
    let packed = numbers_of_dense(op.input.len(), op.output.len(), op.has_dx);
    packed + plan.groups as f64 * dy_size(plan, op).numbers()
}

impl<T: Float> DenseOperation<T> {
    pub fn new(plan: &Plan, op: &PlanOp) -> Self {
        Self {
            layer: op.layers.start,
            packed: PackedDense::new(op.input.len(), op.output.len(), op.has_dx),
            dys: Parts::new(plan.groups, || dy_size(plan, op).zeros()),
        }
    }

    pub fn pack(&mut self, network: &Network<T>) {
        self.packed.fill(dense(network, self.layer));
    }

    pub fn pack_one(&mut self, network: &Network<T>, row: usize, column: usize) {
        self.packed.fill_one(dense(network, self.layer), row, column);
    }

    pub fn forward(&self, network: &Network<T>, x: ArrayView2<T>, y: ArrayViewMut2<T>) {
        dense(network, self.layer).forward_into(x, &self.packed.weight, y);
    }

    pub fn backward(&self, dy: ArrayView2<T>, dx: ArrayViewMut2<T>) {
        Dense::backward_input(dy, self.packed.transposed(), dx);
    }

    /// Packs dy of all rows of a group.
    pub fn keep_dy(&self, group: usize, dy: ArrayView2<T>) {
        let panels = &mut *self.dys.take(group);
        vectorized!(panels.fill(dy));
    }

    /// The packed weight, and the terms of the gradient.
    pub fn trained(&mut self) -> Trained<'_, T> {
        let sum = GradientSum::Dense(self.dys.all());
        Trained { packed: Some(&mut self.packed), blocks: None, sum }
    }
}
