use super::batch_norm::{Moments, NormSums, for_lanes, lanes};
use super::shape::Window;
use super::{BatchNorm, Float, Shape};

/// A [`BatchNorm`], `relu` and, where there is one, the largest of each square, as one: what lies between
/// them is never written down. Of a square only the largest value sends a gradient back, and only where
/// it is above 0; the mean and the variance send theirs to every place.
#[derive(Clone, Debug)]
pub(super) struct NormPool {
    /// Where each square begins, and its places from there.
    squares: Vec<usize>,
    corners: Vec<usize>,
}

/// The output of some images, and where each of its values comes from.
#[derive(Clone, Copy)]
pub(super) struct Routed<'a, T> {
    pub y: &'a [T],
    /// Which corner of its square.
    pub route: &'a [T],
    /// ∂L/∂y.
    pub dy: &'a [T],
}

impl NormPool {
    /// For images of shape `input` that are pooled through `window`, or not pooled.
    pub fn new(input: Shape, window: Option<Window>) -> Self {
        match window {
            Some(window) => Self { squares: window.places().collect(), corners: window.taps().collect() },
            None => Self {
                squares: (0..input.places()).map(|place| place * input.channels).collect(),
                corners: vec![0],
            },
        }
    }

    /// `y = max(0, max over the square of scale x + shift)` of one image.
    #[inline(always)]
    pub fn forward<T: Float>(&self, x: &[T], scale: &[T], shift: &[T], y: &mut [T], route: &mut [T]) {
        let channels = scale.len();
        for_lanes!(channels, |first, N| {
            let (scale, shift) = (lanes::<T, N>(scale, first), lanes::<T, N>(shift, first));
            let outputs = y.chunks_exact_mut(channels).zip(route.chunks_exact_mut(channels));
            for (&start, (y, route)) in self.squares.iter().zip(outputs) {
                let (mut best, mut from) = ([T::neg_infinity(); N], [T::zero(); N]);
                for (corner, &at) in self.corners.iter().enumerate() {
                    let corner = T::of(corner as f64);
                    let x = &x[start + at + first..][..N];
                    for lane in 0..N {
                        let value = x[lane] * scale[lane] + shift[lane];
                        // What is no number is taken, so that it is seen.
                        let is_kept = value <= best[lane];
                        from[lane] = if is_kept { from[lane] } else { corner };
                        best[lane] = if is_kept { best[lane] } else { value };
                    }
                }
                let (y, route) = (&mut y[first..first + N], &mut route[first..first + N]);
                for lane in 0..N {
                    y[lane] = if best[lane] <= T::zero() { T::zero() } else { best[lane] };
                    route[lane] = from[lane];
                }
            }
        });
    }

    /// Adds `Σ dy` and `Σ dy x̂` of one image, over what came through, to `sums`.
    #[inline(always)]
    pub fn measure<T: Float>(&self, x: &[T], routed: Routed<'_, T>, moments: &Moments, sums: &mut NormSums) {
        let channels = sums.dy.len();
        for_lanes!(channels, |first, N| {
            let mean: [T; N] = std::array::from_fn(|lane| T::of(moments.mean[first + lane]));
            let (mut sum, mut sum_x) = ([T::zero(); N], [T::zero(); N]);
            for (square, &start) in self.squares.iter().enumerate() {
                let alive = alive::<T, N>(routed, square * channels + first);
                let route = &routed.route[square * channels + first..][..N];
                for (corner, &at) in self.corners.iter().enumerate() {
                    let corner = T::of(corner as f64);
                    let x = &x[start + at + first..][..N];
                    for lane in 0..N {
                        let dy = if route[lane] == corner { alive[lane] } else { T::zero() };
                        sum[lane] += dy;
                        sum_x[lane] += dy * (x[lane] - mean[lane]);
                    }
                }
            }
            sums.add_lanes(first, &sum, &sum_x, moments);
        });
    }

    /// The gradient of x of one image: that of [`BatchNorm::backward`], where dy of what did not come
    /// through is 0.
    #[inline(always)]
    pub fn backward<T: Float>(
        &self,
        norm: &BatchNorm<T>,
        x: &[T],
        routed: Routed<'_, T>,
        (moments, sums): (&Moments, &NormSums),
        dx: &mut [T],
    ) {
        let channels = norm.channels();
        for_lanes!(channels, |first, N| {
            let (scale, slope, offset) = norm.slopes::<N>(moments, sums, first);
            for (x, dx) in x.chunks_exact(channels).zip(dx.chunks_exact_mut(channels)) {
                let (x, dx) = (&x[first..first + N], &mut dx[first..first + N]);
                for lane in 0..N {
                    dx[lane] = -(x[lane] * slope[lane]) - offset[lane];
                }
            }
            for (square, &start) in self.squares.iter().enumerate() {
                let alive = alive::<T, N>(routed, square * channels + first);
                let route = &routed.route[square * channels + first..][..N];
                for (corner, &at) in self.corners.iter().enumerate() {
                    let corner = T::of(corner as f64);
                    let dx = &mut dx[start + at + first..][..N];
                    for lane in 0..N {
                        let dy = if route[lane] == corner { alive[lane] } else { T::zero() };
                        dx[lane] += dy * scale[lane];
                    }
                }
            }
        });
    }
}

/// dy where y is above 0, else 0.
#[inline(always)]
fn alive<T: Float, const N: usize>(routed: Routed<'_, T>, at: usize) -> [T; N] {
    let (y, dy) = (&routed.y[at..at + N], &routed.dy[at..at + N]);
    std::array::from_fn(|lane| if y[lane] > T::zero() { dy[lane] } else { T::zero() })
}
