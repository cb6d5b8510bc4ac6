use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};

use super::kernel::{Panels, Start, matmul};
use super::layer::values;
use super::{Float, Gradient};

/// A fully connected layer, `y = x W + b`. By the chain rule, its gradients are
///
/// ```text
/// dx = dy Wᵀ      dW = xᵀ dy      db = Σ dy, over the rows
/// ```
///
/// with x (n, inputs) and y (n, units). Each gradient has the shape of its value (Rumelhart, Hinton, Williams, 1986).
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// W, shape (inputs, units).
    pub weight: Array2<T>,
    /// b, shape (units).
    pub bias: Array1<T>,
}

impl<T: Float> Dense<T> {
    /// `y = x W + b`, with x (n, inputs) and y (n, units). `weight` is W packed into panels.
    pub fn forward(&self, x: ArrayView2<T>, weight: &Panels<T>, mut y: ArrayViewMut2<T>) {
        matmul([(x, weight)], &mut y, Start::Row(values(&self.bias)));
    }

    /// `dx = dy Wᵀ`, with dy (n, units) and dx (n, inputs). `transposed` is Wᵀ packed into panels.
    pub fn backward_input(dy: ArrayView2<T>, transposed: &Panels<T>, mut dx: ArrayViewMut2<T>) {
        matmul([(dy, transposed)], &mut dx, Start::Zero);
    }

    /// Adds `dW = xᵀ dy` and `db = Σ dy` to `gradient`, with x (n, inputs) and dy (n, units).
    pub fn backward_parameters(x: ArrayView2<T>, dy: ArrayView2<T>, gradient: &mut Gradient<T>) {
        matmul([(x.t(), &Panels::of(dy))], &mut gradient.weight.view_mut(), Start::Target);
        gradient.bias += &dy.sum_axis(Axis(0));
    }
}
