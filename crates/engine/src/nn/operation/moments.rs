//! The inner loops of `batch_norm` in training: sums over the rows of a group, which are then merged.

use crate::nn::batch_norm::EPS;
use crate::nn::{BatchNorm, Float};

/// Runs a block for each group of `$N` channels that starts at `$first`. `$N` is 16, or 1 for the remaining
/// channels, so that sums stay in registers.
macro_rules! for_lanes {
    ($channels:expr, |$first:ident, $N:ident| $block:block) => {{
        const WIDE: usize = 16;
        let wide = $channels / WIDE * WIDE;
        for $first in (0..wide).step_by(WIDE) {
            const $N: usize = WIDE;
            $block
        }
        for $first in wide..$channels {
            const $N: usize = 1;
            $block
        }
    }};
}

/// Count, mean and sum of squared deviations for each channel.
#[derive(Clone, Debug, Default)]
pub(in crate::nn) struct Moments {
    pub count: f64,
    pub mean: Vec<f64>,
    pub deviations: Vec<f64>,
}

impl Moments {
    pub fn zeros(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], deviations: vec![0.0; channels] }
    }

    /// Computes the moments of x (pixels, channels). It sums `x − x₀` and its square, where x₀ is the first
    /// pixel, so that little precision is lost if the mean is large.
    #[inline(always)]
    pub fn measure<T: Float>(&mut self, x: &[T]) {
        let channels = self.mean.len();
        self.count = (x.len() / channels) as f64;
        for_lanes!(channels, |first, N| {
            let pivot = lanes::<T, N>(x, first);
            let [sum, squares] = summed::<T, N, 2>(x, x, channels, first, |x, _, lane| {
                let x = x - pivot[lane];
                [x, x * x]
            });
            for lane in 0..N {
                let mean = sum[lane] / self.count.max(1.0);
                self.mean[first + lane] = pivot[lane].wide() + mean;
                let deviations = squares[lane] - sum[lane] * mean;
                // Rounding may give a value slightly below 0. Infinity and NaN are kept, so that the loss
                // shows them.
                self.deviations[first + lane] = if deviations < 0.0 { 0.0 } else { deviations };
            }
        });
    }

    /// Merges the moments of two sets of pixels (Chan, Golub, LeVeque, *Updating Formulae*, 1979).
    pub fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if other.count == 0.0 {
            return;
        }
        let places =
            self.mean.iter_mut().zip(&mut self.deviations).zip(other.mean.iter().zip(&other.deviations));
        for ((mean, deviations), (other_mean, other_deviations)) in places {
            let delta = other_mean - *mean;
            *mean += delta * other.count / count;
            *deviations += other_deviations + delta * delta * self.count * other.count / count;
        }
        self.count = count;
    }

    pub fn clear(&mut self) {
        self.count = 0.0;
        self.mean.fill(0.0);
        self.deviations.fill(0.0);
    }

    fn inverse_deviation(&self, channel: usize) -> f64 {
        let deviations = self.deviations[channel];
        let deviations = if deviations.is_infinite() { f64::NAN } else { deviations };
        1.0 / (deviations / self.count + EPS).sqrt()
    }
}

/// `Σ dy` and `Σ dy x̂` for each channel.
#[derive(Clone, Debug, Default)]
pub(in crate::nn) struct NormSums {
    pub dy: Vec<f64>,
    pub dy_x: Vec<f64>,
}

impl NormSums {
    pub fn zeros(channels: usize) -> Self {
        Self { dy: vec![0.0; channels], dy_x: vec![0.0; channels] }
    }

    /// Adds the sums over dy (pixels, channels), with the moments of x over the whole batch.
    #[inline(always)]
    pub fn measure<T: Float>(&mut self, x: &[T], dy: &[T], moments: &Moments) {
        let channels = self.dy.len();
        for_lanes!(channels, |first, N| {
            let mean: [T; N] = std::array::from_fn(|lane| T::of(moments.mean[first + lane]));
            let [sum, sum_x] =
                summed::<T, N, 2>(x, dy, channels, first, |x, dy, lane| [dy, dy * (x - mean[lane])]);
            for lane in 0..N {
                self.dy[first + lane] += sum[lane];
                self.dy_x[first + lane] += sum_x[lane] * moments.inverse_deviation(first + lane);
            }
        });
    }

    /// Adds the sums of dy and of dy (x − μ) over some pixels of a channel.
    pub fn add_channel<T: Float>(&mut self, channel: usize, dy: T, dy_x: T, moments: &Moments) {
        self.dy[channel] += dy.wide();
        self.dy_x[channel] += dy_x.wide() * moments.inverse_deviation(channel);
    }

    pub fn add(&mut self, other: &Self) {
        self.dy.iter_mut().zip(&other.dy).for_each(|(sum, other)| *sum += other);
        self.dy_x.iter_mut().zip(&other.dy_x).for_each(|(sum, other)| *sum += other);
    }

    pub fn clear(&mut self) {
        self.dy.fill(0.0);
        self.dy_x.fill(0.0);
    }
}

impl<T: Float> BatchNorm<T> {
    /// [`Self::affine`] with the moments of a batch. Writes the result to `scale` and `shift`.
    pub(in crate::nn) fn batch_affine(&self, moments: &Moments, scale: &mut [T], shift: &mut [T]) {
        for channel in 0..self.channels() {
            let factor = self.weight[[0, channel]].wide() * moments.inverse_deviation(channel);
            scale[channel] = T::of(factor);
            shift[channel] = T::of(self.bias[channel].wide() - moments.mean[channel] * factor);
        }
    }

    /// `dx = γ / √(σ² + ε) (dy − Σdy / n − x̂ Σ(dy x̂) / n)`, over n pixels of the batch, in the form `dx =
    /// scale dy − slope x − offset`. Writes the three coefficients to `slopes`.
    pub(in crate::nn) fn slopes(&self, moments: &Moments, sums: &NormSums, slopes: &mut [Vec<T>; 3]) {
        let [scales, slopes, offsets] = slopes;
        for channel in 0..self.channels() {
            let inverse = moments.inverse_deviation(channel);
            let scale = self.weight[[0, channel]].wide() * inverse;
            let along = sums.dy_x[channel] / moments.count * inverse;
            scales[channel] = T::of(scale);
            slopes[channel] = T::of(scale * along);
            offsets[channel] =
                T::of(scale * (sums.dy[channel] / moments.count - along * moments.mean[channel]));
        }
    }
}

/// `dx = scale dy − slope x − offset` for each channel, with x, dy and dx (pixels, channels).
#[inline(always)]
pub(super) fn backward<T: Float>([scale, slope, offset]: [&[T]; 3], x: &[T], dy: &[T], dx: &mut [T]) {
    let channels = scale.len();
    for_lanes!(channels, |first, N| {
        let [scale, slope, offset] = [scale, slope, offset].map(|values| lanes::<T, N>(values, first));
        let places = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for ((x, dy), dx) in places.zip(dx.chunks_exact_mut(channels)) {
            let (x, dy, dx) = (&x[first..first + N], &dy[first..first + N], &mut dx[first..first + N]);
            for lane in 0..N {
                dx[lane] = dy[lane] * scale[lane] - x[lane] * slope[lane] - offset[lane];
            }
        }
    });
}

/// `y = scale x + shift` for each channel, with x and y (pixels, channels).
#[inline(always)]
pub(in crate::nn) fn affine<T: Float>(x: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
    let channels = scale.len();
    for_lanes!(channels, |first, N| {
        let (scale, shift) = (lanes::<T, N>(scale, first), lanes::<T, N>(shift, first));
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            let (x, y) = (&x[first..first + N], &mut y[first..first + N]);
            for lane in 0..N {
                y[lane] = x[lane] * scale[lane] + shift[lane];
            }
        }
    });
}

/// Number of pixels summed in `T` before their sum is added to a total in `f64`.
const PLACES: usize = 256;

/// Sums of `f` over the pixels of `N` channels starting at `first`.
#[inline(always)]
fn summed<T: Float, const N: usize, const S: usize>(
    a: &[T],
    b: &[T],
    channels: usize,
    first: usize,
    f: impl Fn(T, T, usize) -> [T; S],
) -> [[f64; N]; S] {
    let mut total = [[0.0; N]; S];
    for (a, b) in a.chunks(PLACES * channels).zip(b.chunks(PLACES * channels)) {
        let mut sums = [[T::zero(); N]; S];
        for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
            let (a, b) = (&a[first..first + N], &b[first..first + N]);
            for lane in 0..N {
                let values = f(a[lane], b[lane], lane);
                for (sums, value) in sums.iter_mut().zip(values) {
                    sums[lane] += value;
                }
            }
        }
        for (total, sums) in total.iter_mut().zip(sums) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.wide());
        }
    }
    total
}

/// `N` values starting at `first`, or 0 beyond the end.
#[inline(always)]
fn lanes<T: Float, const N: usize>(values: &[T], first: usize) -> [T; N] {
    std::array::from_fn(|lane| values.get(first + lane).copied().unwrap_or_else(T::zero))
}
