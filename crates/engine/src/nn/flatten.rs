use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::Float;
use super::rows::filled;

/// Turns an image into a vector of its elements, `y = x`, with x (n, h · w · c) and y (n, h · w · c). An image is stored
/// row by row with its channels last, so both have the same elements in the same order. Only the shape that the next layer
/// sees is another. The gradient is `dx = dy`.
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::Flatten};
///
/// assert_eq!(Flatten.forward(array![[1.0, 2.0]].view()), array![[1.0, 2.0]]);
/// assert_eq!(Flatten.backward(array![[3.0, 4.0]].view()), array![[3.0, 4.0]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

impl Flatten {
    /// `y = x`.
    pub fn forward<T: Float>(self, x: ArrayView2<T>) -> Array2<T> {
        filled(x.dim(), |y| self.copy(x, y))
    }

    /// `dx = dy`.
    pub fn backward<T: Float>(self, dy: ArrayView2<T>) -> Array2<T> {
        filled(dy.dim(), |dx| self.copy(dy, dx))
    }

    /// `to = from`, which is the forward pass of x and the backward pass of dy.
    pub(super) fn copy<T: Float>(self, from: ArrayView2<T>, mut to: ArrayViewMut2<T>) {
        to.assign(&from);
    }
}
