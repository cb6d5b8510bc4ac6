use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use super::Float;
use super::kernel::vectorized;
use super::rows::{all, all_mut, filled};

/// Slope of the leaky relu below 0. PyTorch uses the same.
pub(crate) const LEAK: f64 = 0.01;

/// A function applied to every element, `y = f(x)`. Its gradient is `dx = dy · f′(x)`. x, y, dx and dy have shape (n,
/// values).
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::Activation::Relu};
///
/// let (x, dy) = (array![[-2.0, 3.0]], array![[5.0, 7.0]]);
/// assert_eq!(Relu.forward(x.view()), array![[0.0, 3.0]]);
/// assert_eq!(Relu.backward(x.view(), dy.view()), array![[0.0, 7.0]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x if x > 0, else 0.01 x` (Maas et al., *Rectifier Nonlinearities*, 2013).
    LeakyRelu,
    /// `x Φ(x)`, where `Φ(x) = (1 + erf(x / √2)) / 2` is the cumulative distribution function of the standard normal
    /// distribution (Hendrycks, Gimpel, *Gaussian Error Linear Units*, 2016). This is the exact form, not the
    /// approximation by tanh.
    Gelu,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `(e^x − e^−x) / (e^x + e^−x)`.
    Tanh,
}

impl Activation {
    /// Every activation function.
    pub const ALL: [Self; 5] = [Self::Relu, Self::LeakyRelu, Self::Gelu, Self::Sigmoid, Self::Tanh];

    /// The name of the activation in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::LeakyRelu => "leaky_relu",
            Self::Gelu => "gelu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
        }
    }

    /// `y = f(x)` for each element. NaN stays NaN, so that divergence is detected.
    pub fn forward<T: Float>(self, x: ArrayView2<T>) -> Array2<T> {
        let x = x.as_standard_layout();
        filled(x.dim(), |y| self.forward_into(x.view(), y))
    }

    /// `dx = dy · f′(x)`, where `f′` is computed from `y = f(x)` if possible:
    ///
    /// relu `1 if y > 0, else 0`; leaky relu `1 if y > 0, else 0.01`; sigmoid `y (1 − y)`; tanh `1 − y²`;
    /// gelu `Φ(x) + x φ(x)` with the normal density `φ(x) = e^(−x²/2) / √(2π)`. At exactly 0, relu and leaky
    /// relu use the second case, as the frameworks do.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn backward<T: Float>(self, x: ArrayView2<T>, dy: ArrayView2<T>) -> Array2<T> {
        assert_eq!(x.dim(), dy.dim(), "x and dy");
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let y = self.forward(x.view());
        filled(x.dim(), |dx| self.backward_into([x.view(), y.view(), dy.view()], dx))
    }

    /// Writes [`Self::forward`] to y.
    pub(super) fn forward_into<T: Float>(self, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        let (x, y) = (all(&x), all_mut(&mut y));
        vectorized!(self.forward_values(x, y));
    }

    /// Writes [`Self::backward`] to dx. y is the output of the forward pass.
    pub(super) fn backward_into<T: Float>(self, [x, y, dy]: [ArrayView2<T>; 3], mut dx: ArrayViewMut2<T>) {
        let (x, y, dy, dx) = (all(&x), all(&y), all(&dy), all_mut(&mut dx));
        vectorized!(self.backward_values(x, y, dy, dx));
    }

    /// [`Self::forward`] of values in a slice.
    #[inline(always)]
    pub(crate) fn forward_values<T: Float>(self, x: &[T], y: &mut [T]) {
        let zero = T::zero();
        match self {
            Self::Relu => each(x, y, |x| if x <= zero { zero } else { x }),
            Self::LeakyRelu => {
                let leak = T::of(LEAK);
                each(x, y, |x| if x > zero { x } else { leak * x });
            }
            Self::Gelu => each(x, y, |x| x * normal_cdf(x)),
            Self::Sigmoid => each(x, y, sigmoid),
            Self::Tanh => each(x, y, |x| x.hyperbolic_tangent()),
        }
    }

    /// [`Self::backward`] of values in slices. y is the output of the forward pass.
    #[inline(always)]
    pub(crate) fn backward_values<T: Float>(self, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let (zero, one) = (T::zero(), T::one());
        match self {
            Self::Relu => each2(y, dy, dx, |y, dy| if y > zero { dy } else { zero }),
            Self::LeakyRelu => {
                let leak = T::of(LEAK);
                each2(y, dy, dx, |y, dy| if y > zero { dy } else { leak * dy });
            }
            Self::Gelu => each2(x, dy, dx, |x, dy| {
                let density = (-x * x / T::of(2.0)).e_to_the() / T::of(std::f64::consts::TAU.sqrt());
                dy * (normal_cdf(x) + x * density)
            }),
            Self::Sigmoid => each2(y, dy, dx, |y, dy| dy * y * (one - y)),
            Self::Tanh => each2(y, dy, dx, |y, dy| dy * (one - y * y)),
        }
    }
}

#[inline(always)]
fn each<T: Float>(x: &[T], y: &mut [T], f: impl Fn(T) -> T) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x));
}

#[inline(always)]
fn each2<T: Float>(a: &[T], b: &[T], c: &mut [T], f: impl Fn(T, T) -> T) {
    c.iter_mut().zip(a).zip(b).for_each(|((c, &a), &b)| *c = f(a, b));
}

/// The logistic function, without overflow for large magnitudes.
#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    let decay = (-x.abs()).e_to_the();
    let of_magnitude = T::one() / (T::one() + decay);
    if x < T::zero() { T::one() - of_magnitude } else { of_magnitude }
}

/// `Φ(x)`, without cancellation below 0.
fn normal_cdf<T: Float>(x: T) -> T {
    (-x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erfc() / T::of(2.0)
}
