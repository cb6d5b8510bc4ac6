use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};

use super::kernel::{Panels, Start, matmul};
use super::layer::values;
use super::rows::filled;
use super::{Float, Gradient};

/// A fully connected layer, `y = x W + b`. By the chain rule, its gradients are
///
/// ```text
/// dx = dy Wᵀ      dW = xᵀ dy      db = Σ dy, over the rows
/// ```
///
/// with x (n, inputs) and y (n, units). Each gradient has the shape of its value (Rumelhart, Hinton, Williams, 1986).
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::Dense};
///
/// let layer = Dense { weight: array![[1.0, 2.0], [3.0, 4.0]], bias: array![0.5, 0.0] };
/// let (x, dy) = (array![[1.0, -1.0]], array![[1.0, 0.0]]);
/// assert_eq!(layer.forward(x.view()), array![[-1.5, -2.0]]);
/// let (dx, dweight, dbias) = layer.backward(x.view(), dy.view());
/// assert_eq!(dx, array![[1.0, 3.0]]);
/// assert_eq!((dweight, dbias), (array![[1.0, 0.0], [-1.0, 0.0]], array![1.0, 0.0]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// W, shape (inputs, units).
    pub weight: Array2<T>,
    /// b, shape (units).
    pub bias: Array1<T>,
}

impl<T: Float> Dense<T> {
    /// `y = x W + b`.
    pub fn forward(&self, x: ArrayView2<T>) -> Array2<T> {
        let weight = Panels::of(self.weight.view());
        filled((x.nrows(), self.bias.len()), |y| self.forward_into(x, &weight, y))
    }

    /// `dx = dy Wᵀ`, `dW = xᵀ dy` and `db = Σ dy`.
    pub fn backward(&self, x: ArrayView2<T>, dy: ArrayView2<T>) -> (Array2<T>, Array2<T>, Array1<T>) {
        let transposed = Panels::of(self.weight.t());
        let dx = filled(x.dim(), |dx| Self::backward_input(dy, &transposed, dx));
        let mut gradient = Gradient::zeros(0, &self.weight, &self.bias);
        Self::backward_parameters(x, dy, &mut gradient);
        (dx, gradient.weight, gradient.bias)
    }

    /// [`Self::forward`] with W packed into panels.
    pub(super) fn forward_into(&self, x: ArrayView2<T>, weight: &Panels<T>, mut y: ArrayViewMut2<T>) {
        matmul([(x, weight)], &mut y, Start::Row(values(&self.bias)));
    }

    /// `dx = dy Wᵀ`. `transposed` is Wᵀ packed into panels.
    pub(super) fn backward_input(dy: ArrayView2<T>, transposed: &Panels<T>, mut dx: ArrayViewMut2<T>) {
        matmul([(dy, transposed)], &mut dx, Start::Zero);
    }

    /// Adds `dW = xᵀ dy` and `db = Σ dy` to `gradient`.
    pub(super) fn backward_parameters(x: ArrayView2<T>, dy: ArrayView2<T>, gradient: &mut Gradient<T>) {
        matmul([(x.t(), &Panels::of(dy))], &mut gradient.weight.view_mut(), Start::Target);
        gradient.bias += &dy.sum_axis(Axis(0));
    }
}
