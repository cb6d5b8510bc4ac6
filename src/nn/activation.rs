use ndarray::{ArrayView2, ArrayViewMut2, Zip};
use serde::{Deserialize, Serialize};

use super::Float;

/// A function applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `(e^x − e^−x) / (e^x + e^−x)`.
    Tanh,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 3] = [Self::Relu, Self::Sigmoid, Self::Tanh];

    /// `y = f(x)`, of any equal shape.
    pub fn forward<T: Float>(self, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        match self {
            Self::Relu => Zip::from(&mut y).and(&x).for_each(|y, &x| *y = x.max(T::zero())),
            Self::Sigmoid => Zip::from(&mut y).and(&x).for_each(|y, &x| *y = sigmoid(x)),
            Self::Tanh => Zip::from(&mut y).and(&x).for_each(|y, &x| *y = x.tanh()),
        }
    }

    /// `dx = dy · f′(x)`, with `f′` written in terms of `y = f(x)`:
    ///
    /// relu `1 where y > 0, else 0` (at exactly 0 this takes 0, as the frameworks do);
    /// sigmoid `y (1 − y)`; tanh `1 − y²`.
    pub fn backward<T: Float>(self, y: ArrayView2<T>, dy: ArrayView2<T>, mut dx: ArrayViewMut2<T>) {
        let one = T::one();
        let dx = Zip::from(&mut dx).and(&y).and(&dy);
        match self {
            Self::Relu => dx.for_each(|dx, &y, &dy| *dx = if y > T::zero() { dy } else { T::zero() }),
            Self::Sigmoid => dx.for_each(|dx, &y, &dy| *dx = dy * y * (one - y)),
            Self::Tanh => dx.for_each(|dx, &y, &dy| *dx = dy * (one - y * y)),
        }
    }
}

/// The logistic function, without overflow at either end.
fn sigmoid<T: Float>(x: T) -> T {
    let decay = (-x.abs()).exp();
    let of_magnitude = T::one() / (T::one() + decay);
    if x < T::zero() { T::one() - of_magnitude } else { of_magnitude }
}
