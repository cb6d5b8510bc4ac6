use ndarray::{Array1, Array2, ArrayView2};

use super::kernel::vectorized;
use super::layer::{values, values_mut};
use super::operation::{Moments, affine};
use super::rows::{all, all_mut, filled};
use super::{Float, Gradient};

/// ε. PyTorch uses the same value.
pub(crate) const EPS: f64 = 1e-5;

/// The weight of a batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Normalises each channel to mean 0 and variance 1 over the batch and all pixels, then scales and shifts it:
/// `y = γ x̂ + β`, `x̂ = (x − μ) / √(σ² + ε)` (Ioffe, Szegedy, *Batch Normalization*, 2015). x and y have shape (images,
/// pixels · channels). Each Σ is over the n values of a channel: those of all images and pixels.
///
/// ```text
/// training   dx = γ / √(σ² + ε) (dy − Σdy / n − x̂ Σ(dy x̂) / n)
/// inference  dx = γ / √(σ² + ε) dy
/// both       dγ = Σ dy x̂      dβ = Σ dy
/// ```
///
/// In training, μ and σ² are those of the batch. At inference, they are running statistics, which are constants.
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::BatchNorm};
///
/// let layer = BatchNorm::new(1);
/// let (x, dy) = (array![[1.0], [3.0]], array![[1.0], [1.0]]);
/// let y = layer.forward_training(x.view());
/// assert!((y[[0, 0]] + 1.0_f64).abs() < 1e-5 && (y[[1, 0]] - 1.0).abs() < 1e-5);
/// let (dx, dweight, dbias) = layer.backward_training(x.view(), dy.view());
/// assert_eq!((dx, dweight, dbias), (array![[0.0], [0.0]], array![[0.0]], array![2.0]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm<T> {
    /// γ, shape (1, channels).
    pub weight: Array2<T>,
    /// β, shape (channels).
    pub bias: Array1<T>,
    /// Running μ, shape (channels).
    pub running_mean: Array1<T>,
    /// Running σ², unbiased, shape (channels).
    pub running_var: Array1<T>,
}

impl<T: Float> BatchNorm<T> {
    /// A layer before training: γ is 1, β is 0, and the running statistics are a mean of 0 and a variance of 1.
    pub fn new(channels: usize) -> Self {
        Self {
            weight: Array2::ones((1, channels)),
            bias: Array1::zeros(channels),
            running_mean: Array1::zeros(channels),
            running_var: Array1::ones(channels),
        }
    }

    /// `y = γ x̂ + β` during training.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn forward_training(&self, x: ArrayView2<T>) -> Array2<T> {
        self.check(x);
        let x = x.as_standard_layout();
        let (mut y, channels) = (Array2::zeros(x.dim()), self.channels());
        for channel in 0..channels {
            let x = || of_channel(all(&x.view()), channel, channels);
            let (mean, inverse) = statistics(x);
            let (weight, bias) = (self.weight[[0, channel]].wide(), self.bias[channel].wide());
            for (y, x) in of_channel_mut(values_mut(&mut y), channel, channels).zip(x()) {
                *y = T::of(weight * (x - mean) * inverse + bias);
            }
        }
        y
    }

    /// `dx = γ / √(σ² + ε) (dy − Σdy / n − x̂ Σ(dy x̂) / n)`, `dγ = Σ dy x̂` and `dβ = Σ dy` during training.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn backward_training(
        &self,
        x: ArrayView2<T>,
        dy: ArrayView2<T>,
    ) -> (Array2<T>, Array2<T>, Array1<T>) {
        self.check(x);
        assert_eq!(x.dim(), dy.dim(), "x and dy");
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let (mut dx, channels) = (Array2::zeros(x.dim()), self.channels());
        let mut gradient = Gradient::zeros(0, &self.weight, &self.bias);
        let n = (x.len() / channels) as f64;
        for channel in 0..channels {
            let x = || of_channel(all(&x.view()), channel, channels);
            let (mean, inverse) = statistics(x);
            let places = || x().zip(of_channel(all(&dy.view()), channel, channels));
            let sum: f64 = places().map(|(_, dy)| dy).sum();
            let sum_x: f64 = places().map(|(x, dy)| dy * (x - mean) * inverse).sum();
            let scale = self.weight[[0, channel]].wide() * inverse;
            for (dx, (x, dy)) in of_channel_mut(values_mut(&mut dx), channel, channels).zip(places()) {
                *dx = T::of(scale * (dy - sum / n - (x - mean) * inverse * sum_x / n));
            }
            gradient.weight[[0, channel]] = T::of(sum_x);
            gradient.bias[channel] = T::of(sum);
        }
        (dx, gradient.weight, gradient.bias)
    }

    /// `y = γ x̂ + β` at inference.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn forward(&self, x: ArrayView2<T>) -> Array2<T> {
        self.check(x);
        let x = x.as_standard_layout();
        filled(x.dim(), |mut y| self.forward_into(all(&x.view()), all_mut(&mut y)))
    }

    /// `dx = γ / √(σ² + ε) dy`, `dγ = Σ dy x̂` and `dβ = Σ dy` at inference.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn backward(&self, x: ArrayView2<T>, dy: ArrayView2<T>) -> (Array2<T>, Array2<T>, Array1<T>) {
        self.check(x);
        assert_eq!(x.dim(), dy.dim(), "x and dy");
        let dy = dy.as_standard_layout();
        let dx = filled(x.dim(), |mut dx| self.backward_input(all(&dy.view()), all_mut(&mut dx)));
        let mut gradient = Gradient::zeros(0, &self.weight, &self.bias);
        self.backward_parameters(x, dy.view(), &mut gradient);
        (dx, gradient.weight, gradient.bias)
    }

    /// Moves the running statistics towards those of a batch: `μ_run ← (1 − m) μ_run + m μ` and
    /// `σ²_run ← (1 − m) σ²_run + m σ² n / (n − 1)`, where m is the momentum.
    pub(super) fn track(&mut self, batch: &Moments) {
        let keep = T::of(1.0 - MOMENTUM);
        for channel in 0..self.channels() {
            let variance = batch.deviations[channel] / (batch.count - 1.0).max(1.0);
            self.running_mean[channel] =
                self.running_mean[channel] * keep + T::of(MOMENTUM * batch.mean[channel]);
            self.running_var[channel] = self.running_var[channel] * keep + T::of(MOMENTUM * variance);
        }
    }

    /// Writes [`Self::forward`] to y.
    pub(super) fn forward_into(&self, x: &[T], y: &mut [T]) {
        let (scale, shift) = self.affine();
        vectorized!(affine(x, values(&scale), values(&shift), y));
    }

    /// Writes dx of [`Self::backward`] to `dx`.
    pub(super) fn backward_input(&self, dy: &[T], dx: &mut [T]) {
        let (scale, _) = self.affine();
        let zeros = vec![T::zero(); scale.len()];
        vectorized!(affine(dy, values(&scale), &zeros, dx));
    }

    /// Adds dγ and dβ of [`Self::backward`] to `gradient`.
    pub(super) fn backward_parameters(
        &self,
        x: ArrayView2<T>,
        dy: ArrayView2<T>,
        gradient: &mut Gradient<T>,
    ) {
        let channels = self.channels();
        let deviations = self.running_deviations();
        for (place, (&x, &dy)) in x.iter().zip(&dy).enumerate() {
            let channel = place % channels;
            let normed = (x - self.running_mean[channel]) / deviations[channel];
            gradient.weight[[0, channel]] += dy * normed;
            gradient.bias[channel] += dy;
        }
    }

    /// Checks that there are values, with all channels of each pixel.
    fn check(&self, x: ArrayView2<T>) {
        let channels = self.channels();
        assert!(!x.is_empty() && x.ncols().is_multiple_of(channels), "{:?} of {channels} channels", x.dim());
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// The scale and the shift of the layer at inference, `y = scale x + shift`, computed from the running statistics.
    /// Both have shape (channels).
    pub fn affine(&self) -> (Array1<T>, Array1<T>) {
        let deviations = self.running_deviations();
        let scale: Array1<T> =
            self.weight.iter().zip(&deviations).map(|(&weight, &deviation)| weight / deviation).collect();
        let shift = &self.bias - &(&self.running_mean * &scale);
        (scale, shift)
    }

    /// `√(σ² + ε)` of the running statistics, shape (channels).
    pub fn running_deviations(&self) -> Array1<T> {
        self.running_var.mapv(|variance| (variance + T::of(EPS)).sqrt())
    }
}

/// The values of one channel.
fn of_channel<T: Float>(x: &[T], channel: usize, channels: usize) -> impl Iterator<Item = f64> {
    x[channel..].iter().step_by(channels).map(|x| x.wide())
}

fn of_channel_mut<T>(x: &mut [T], channel: usize, channels: usize) -> impl Iterator<Item = &mut T> {
    x[channel..].iter_mut().step_by(channels)
}

/// μ and `1 / √(σ² + ε)` of the values of a channel.
fn statistics<I: Iterator<Item = f64>>(x: impl Fn() -> I) -> (f64, f64) {
    let n = x().count() as f64;
    let mean = x().sum::<f64>() / n;
    let variance = x().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (mean, 1.0 / (variance + EPS).sqrt())
}
