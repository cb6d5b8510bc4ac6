use ndarray::{ArrayView2, ArrayViewMut2};

use super::GradientSum;
use crate::nn::group::Rows;
use crate::nn::kernel::Parts;
use crate::nn::packed::Packed;
use crate::nn::plan::{Op, Plan};
use crate::nn::{Float, Gradient, Layer, LayerKind, Network};

/// A layer without an operation of its own. It uses the passes of [`Layer`].
pub(in crate::nn) struct SingleLayer<T> {
    layer: usize,
    /// The gradient of each group, summed over its rows so far. `None` without parameters.
    gradients: Option<Parts<Gradient<T>>>,
}

pub(super) fn numbers_of(plan: &Plan, kind: LayerKind) -> f64 {
    let numbers = |(rows, columns)| (rows + 1) as f64 * columns as f64;
    plan.groups as f64 * kind.weight_dim().map_or(0.0, numbers)
}

impl<T: Float> SingleLayer<T> {
    pub fn new(plan: &Plan, op: &Op, kind: LayerKind) -> Self {
        let layer = op.layers.start;
        let gradients = |dim| Parts::new(plan.groups, || Gradient::of_shape(layer, dim));
        Self { layer, gradients: kind.weight_dim().map(gradients) }
    }

    fn layer<'a>(&self, network: &'a Network<T>) -> &'a Layer<T> {
        &network.layers()[self.layer]
    }

    pub fn begin(&mut self) {
        self.gradients.iter_mut().flat_map(Parts::iter_mut).for_each(Gradient::clear);
    }

    pub fn forward(&self, network: &Network<T>, x: ArrayView2<T>, y: ArrayViewMut2<T>) {
        self.layer(network).forward(&Packed::None, x, y, None);
    }

    pub fn backward(
        &self,
        network: &Network<T>,
        rows: Rows,
        [x, y, dy]: [ArrayView2<T>; 3],
        dx: Option<ArrayViewMut2<T>>,
    ) {
        if let Some(gradients) = &self.gradients {
            self.layer(network).backward_parameters(x, dy, &mut gradients.take(rows.group));
        }
        if let Some(dx) = dx {
            self.layer(network).backward_input(&Packed::None, [x, y, dy], dx, None);
        }
    }

    /// The terms of the gradient. `None` without parameters.
    pub fn gradient(&mut self) -> Option<GradientSum<'_, T>> {
        self.gradients.as_mut().map(|gradients| GradientSum::Groups(gradients.all()))
    }
}
