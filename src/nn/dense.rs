use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use super::Float;
use super::kernel::{Panels, matmul};

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
        for mut row in y.rows_mut() {
            row.assign(&self.bias);
        }
        matmul([(x, weight)], &mut y, true);
    }

    /// `dx = dy Wᵀ`: dy (n, units), dx (n, inputs). `transposed` is Wᵀ in panels.
    pub fn backward_input(dy: ArrayView2<T>, transposed: &Panels<T>, mut dx: ArrayViewMut2<T>) {
        matmul([(dy, transposed)], &mut dx, false);
    }

    /// `dW = Σ xᵀ dy` over parts of a batch, for the rows of W that each `x` has columns for: x (n,
    /// rows), dy (n, units), dW (rows, units). `dy` is in panels.
    pub fn backward_weight<'a>(
        parts: impl Iterator<Item = (ArrayView2<'a, T>, &'a Panels<T>)>,
        mut dweight: ArrayViewMut2<T>,
    ) {
        matmul(parts.map(|(x, dy)| (x.reversed_axes(), dy)), &mut dweight, false);
    }

    /// `db += Σ_n dy`: dy (n, units), db (units).
    pub fn backward_bias(dy: ArrayView2<T>, mut dbias: ArrayViewMut1<T>) {
        for row in dy.rows() {
            dbias += &row;
        }
    }
}
