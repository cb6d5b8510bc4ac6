use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2};

use super::Float;
use super::kernel::{Panels, Start, matmul};
use super::layer::values;

/// A fully connected layer: `weight` (inputs, units), `bias` (units).
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// W, shape (inputs, units).
    pub weight: Array2<T>,
    /// b, shape (units).
    pub bias: Array1<T>,
}

impl<T: Float> Dense<T> {
    /// `y = x W + b`: x (n, inputs), y (n, units). `weight` is W in panels.
    pub fn forward(&self, x: ArrayView2<T>, weight: &Panels<T>, mut y: ArrayViewMut2<T>) {
        matmul([(x, weight)], &mut y, Start::Row(values(&self.bias)));
    }

    /// `dx = dy Wᵀ`: dy (n, units), dx (n, inputs). `transposed` is Wᵀ in panels.
    pub fn backward_input(dy: ArrayView2<T>, transposed: &Panels<T>, mut dx: ArrayViewMut2<T>) {
        matmul([(dy, transposed)], &mut dx, Start::Zero);
    }
}
