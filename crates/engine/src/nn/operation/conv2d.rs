use ndarray::{ArrayView2, ArrayViewMut2};

use super::{GradientSum, conv2d};
use crate::nn::conv2d::{ConvScratch, numbers_of_scratch};
use crate::nn::group::Rows;
use crate::nn::kernel::{Parts, vectorized};
use crate::nn::packed::{PackedConv2d, numbers_of_conv2d};
use crate::nn::plan::{Plan, PlanOp};
use crate::nn::rows::{image, image_mut};
use crate::nn::shape::Window;
use crate::nn::{Float, Gradient, Network};

/// A `conv2d` layer that is computed image by image.
pub(in crate::nn) struct ConvOperation<T> {
    layer: usize,
    pub(in crate::nn) packed: PackedConv2d<T>,
    scratches: Parts<ConvScratch<T>>,
    /// The gradient of each group, summed over its rows so far.
    gradients: Parts<Gradient<T>>,
}

/// The shape of the weight: (elements of a window, filters).
fn weight_dim(op: &PlanOp, window: Window) -> (usize, usize) {
    (window.kernel * window.kernel * window.input.channels, op.output.channels)
}

pub(super) fn numbers_of(plan: &Plan, op: &PlanOp, window: Window) -> f64 {
    let (inputs, filters) = weight_dim(op, window);
    let of_group = numbers_of_scratch(window, filters) + (inputs + 1) as f64 * filters as f64;
    numbers_of_conv2d(window, filters, op.has_dx) + plan.groups as f64 * of_group
}

impl<T: Float> ConvOperation<T> {
    pub fn new(plan: &Plan, op: &PlanOp, window: Window) -> Self {
        let (layer, filters) = (op.layers.start, op.output.channels);
        Self {
            layer,
            packed: PackedConv2d::new(window, filters, op.has_dx),
            scratches: Parts::new(plan.groups, || ConvScratch::new(window, filters)),
            gradients: Parts::new(plan.groups, || Gradient::of_shape(layer, weight_dim(op, window))),
        }
    }

    pub fn pack(&mut self, network: &Network<T>) {
        self.packed.fill(conv2d(network, self.layer));
    }

    pub fn pack_one(&mut self, network: &Network<T>, row: usize, column: usize) {
        self.packed.fill_one(conv2d(network, self.layer), row, column);
    }

    pub fn begin(&mut self) {
        self.gradients.iter_mut().for_each(Gradient::clear);
    }

    pub fn forward(&self, network: &Network<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        let conv = conv2d(network, self.layer);
        let scratch = &mut *self.scratches.take(rows.group);
        for row in 0..x.nrows() {
            let (x, y) = (image(&x, row), image_mut(&mut y, row));
            vectorized!(conv.forward_image(x, &self.packed.weight, scratch, y));
        }
    }

    pub fn backward(
        &self,
        network: &Network<T>,
        rows: Rows,
        [x, dy]: [ArrayView2<T>; 2],
        dx: Option<ArrayViewMut2<T>>,
    ) {
        let conv = conv2d(network, self.layer);
        let scratch = &mut *self.scratches.take(rows.group);
        let gradient = &mut *self.gradients.take(rows.group);
        for row in 0..x.nrows() {
            vectorized!(conv.backward_parameters(image(&x, row), image(&dy, row), scratch, gradient));
        }
        if let Some(mut dx) = dx {
            let transposed = self.packed.transposed();
            for row in 0..dy.nrows() {
                conv.backward_input(image(&dy, row), transposed, scratch, image_mut(&mut dx, row));
            }
        }
    }

    /// The terms of the gradient.
    pub fn gradient(&mut self) -> GradientSum<'_, T> {
        GradientSum::Groups(self.gradients.all())
    }
}
