use ndarray::{ArrayView2, ArrayViewMut2};

use super::GradientSum;
use crate::nn::group::{Pass, Rows};
use crate::nn::kernel::Parts;
use crate::nn::layer::TrainingRows;
use crate::nn::packed::Packed;
use crate::nn::plan::{Plan, PlanOp};
use crate::nn::{Float, Gradient, Layer, LayerKind, Network};

/// A layer without an operation of its own. It uses the passes of [`Layer`]. A layer with statistics of the whole batch
/// needs its own operation, because each group sees only its own rows of the batch.
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
    pub fn new(plan: &Plan, op: &PlanOp, kind: LayerKind) -> Self {
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

    fn training<'a>(&self, pass: &Pass<T>, rows: Rows<'a>) -> Option<TrainingRows<'a>> {
        let Rows { examples, .. } = rows;
        let rows = TrainingRows { examples, draw: pass.batch.draw, layer: self.layer };
        pass.is_training.then_some(rows)
    }

    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, y: ArrayViewMut2<T>) {
        self.layer(pass.network).forward(&Packed::None, self.training(pass, rows), x, y);
    }

    pub fn backward(
        &self,
        pass: &Pass<T>,
        rows: Rows,
        [x, y, dy]: [ArrayView2<T>; 3],
        dx: Option<ArrayViewMut2<T>>,
    ) {
        let (layer, training) = (self.layer(pass.network), self.training(pass, rows));
        if let Some(gradients) = &self.gradients {
            layer.backward_parameters(training, x, dy, &mut gradients.take(rows.group));
        }
        if let Some(dx) = dx {
            layer.backward_input(&Packed::None, training, [x, y, dy], dx);
        }
    }

    /// The terms of the gradient. `None` without parameters.
    pub fn gradient(&mut self) -> Option<GradientSum<'_, T>> {
        self.gradients.as_mut().map(|gradients| GradientSum::Groups(gradients.all()))
    }
}
