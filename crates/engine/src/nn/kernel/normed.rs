use super::simd::{Kernel, Simd};
use super::{Instructions, Routed};
use crate::nn::Float;

/// The pooled squares of an image: the offset of each square, and the offsets of its pixels relative to the start of
/// the square. The first pixel has offset 0. Squares of one pixel mean no pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squares {
    starts: Vec<usize>,
    corners: Vec<usize>,
    /// Largest offset of a pixel.
    reach: usize,
}

impl Squares {
    /// Squares at offsets `starts`, with pixels at offsets `corners` relative to the start of a square.
    pub fn new(starts: Vec<usize>, corners: Vec<usize>) -> Self {
        let reach = starts.iter().max().unwrap_or(&0) + corners.iter().max().unwrap_or(&0);
        Self { starts, corners, reach }
    }

    fn check<T>(&self, image: &[T], outputs: &[T], channels: usize) {
        assert!(self.reach + channels <= image.len(), "a square exceeds its image");
        assert_eq!(outputs.len(), self.starts.len() * channels, "outputs of all squares and channels");
    }
}

/// `y = max(0, max over the square of scale x + shift)` for each channel of one image, with x (pixels, channels) and y
/// (squares, channels). The number of the corner that each y comes from is written to `route`.
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn affine_relu_pool<T: Float>(
    instructions: Instructions,
    squares: &Squares,
    x: &[T],
    [scale, shift]: [&[T]; 2],
    y: &mut [T],
    route: &mut [T],
) {
    squares.check(x, y, scale.len());
    assert_eq!((scale.len(), route.len()), (shift.len(), y.len()), "shapes of a normalisation");
    instructions.run(Forward { squares, x, scale, shift, y, route });
}

struct Forward<'a, T> {
    squares: &'a Squares,
    x: &'a [T],
    scale: &'a [T],
    shift: &'a [T],
    y: &'a mut [T],
    route: &'a mut [T],
}

impl<T: Float> Kernel<T> for Forward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { squares, x, scale, shift, y, route } = self;
        let channels = scale.len();
        for first in (0..channels).step_by(V::LANES) {
            let lanes = first..channels.min(first + V::LANES);
            let width = lanes.len();
            // SAFETY: the caller guarantees the instructions. All slices are checked.
            unsafe {
                let (scale, shift) = (V::load_first(&scale[lanes.clone()]), V::load_first(&shift[lanes]));
                let outputs = y.chunks_exact_mut(channels).zip(route.chunks_exact_mut(channels));
                for (&start, (y, route)) in squares.starts.iter().zip(outputs) {
                    let (mut best, mut from) = (V::splat(T::neg_infinity()), V::splat(T::zero()));
                    for (number, &corner) in squares.corners.iter().enumerate() {
                        let value = V::load_first(&x[start + corner + first..][..width]);
                        let value = shift.add_product(value, scale);
                        from = value.select_greater(best, V::splat(T::of(number as f64)), from);
                        best = value.select_greater(best, value, best);
                        // NaN is passed on, so that divergence is detected.
                        best = value.select_equal(value, best, value);
                    }
                    V::splat(T::zero()).max(best).store_first(&mut y[first..first + width]);
                    from.store_first(&mut route[first..first + width]);
                }
            }
        }
    }
}

impl<T: Float> Routed<'_, T> {
    /// Loads dy, or 0 if y is not above 0. Also loads the route.
    ///
    /// # Safety
    /// See [`Simd`].
    #[inline(always)]
    unsafe fn alive<V: Simd<Number = T>>(&self, at: usize, width: usize) -> (V, V) {
        // SAFETY: the caller guarantees the instructions. The slices are checked.
        unsafe {
            let zero = V::splat(T::zero());
            let y = V::load_first(&self.y[at..at + width]);
            let dy = V::load_first(&self.dy[at..at + width]);
            (y.select_greater(zero, dy, zero), V::load_first(&self.route[at..at + width]))
        }
    }
}

/// Calls `sums(channel, Σ dy, Σ dy (x − mean))` for each channel of one image. The sums are over the values
/// selected by relu and pooling.
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn routed_sums<T: Float>(
    instructions: Instructions,
    squares: &Squares,
    x: &[T],
    mean: &[T],
    routed: Routed<'_, T>,
    sums: impl FnMut(usize, T, T),
) {
    squares.check(x, routed.dy, mean.len());
    instructions.run(Sums { squares, x, mean, routed, sums });
}

struct Sums<'a, T, F> {
    squares: &'a Squares,
    x: &'a [T],
    mean: &'a [T],
    routed: Routed<'a, T>,
    sums: F,
}

impl<T: Float, F: FnMut(usize, T, T)> Kernel<T> for Sums<'_, T, F> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        let Self { squares, x, mean, routed, .. } = self;
        let channels = mean.len();
        for first in (0..channels).step_by(V::LANES) {
            let width = V::LANES.min(channels - first);
            // SAFETY: the caller guarantees the instructions. All slices are checked.
            let sums = unsafe {
                let zero = V::splat(T::zero());
                let minus_mean = zero.subtract(V::load_first(&mean[first..first + width]));
                let (mut sum, mut sum_x) = (zero, zero);
                for (square, &start) in squares.starts.iter().enumerate() {
                    let (dy, route) = routed.alive::<V>(square * channels + first, width);
                    sum = sum.add(dy);
                    for (number, &corner) in squares.corners.iter().enumerate() {
                        let x = V::load_first(&x[start + corner + first..][..width]).add(minus_mean);
                        let dy = route.select_equal(V::splat(T::of(number as f64)), dy, zero);
                        sum_x = sum_x.add_product(dy, x);
                    }
                }
                sum.numbers().into_iter().zip(sum_x.numbers()).take(width)
            };
            for (lane, (dy, dy_x)) in sums.enumerate() {
                (self.sums)(first + lane, dy, dy_x);
            }
        }
    }
}

/// `dx = scale dy − slope x − offset` of one image, where dy is 0 for values not selected by relu and
/// pooling. x and dx have shape (pixels, channels).
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn routed_backward<T: Float>(
    instructions: Instructions,
    squares: &Squares,
    x: &[T],
    [scale, slope, offset]: [&[T]; 3],
    routed: Routed<'_, T>,
    dx: &mut [T],
) {
    squares.check(x, routed.dy, scale.len());
    assert!(
        slope.len() == scale.len() && offset.len() == scale.len() && dx.len() == x.len(),
        "shapes of a normalisation"
    );
    instructions.run(Backward { squares, x, scale, slope, offset, routed, dx });
}

struct Backward<'a, T> {
    squares: &'a Squares,
    x: &'a [T],
    scale: &'a [T],
    slope: &'a [T],
    offset: &'a [T],
    routed: Routed<'a, T>,
    dx: &'a mut [T],
}

impl<T: Float> Kernel<T> for Backward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { squares, x, scale, slope, offset, routed, dx } = self;
        let channels = scale.len();
        for first in (0..channels).step_by(V::LANES) {
            let lanes = first..channels.min(first + V::LANES);
            let width = lanes.len();
            // SAFETY: the caller guarantees the instructions. All slices are checked.
            unsafe {
                let zero = V::splat(T::zero());
                let scale = V::load_first(&scale[lanes.clone()]);
                let slope = zero.subtract(V::load_first(&slope[lanes.clone()]));
                let offset = zero.subtract(V::load_first(&offset[lanes.clone()]));
                for (x, dx) in x.chunks_exact(channels).zip(dx.chunks_exact_mut(channels)) {
                    let x = V::load_first(&x[lanes.clone()]);
                    offset.add_product(x, slope).store_first(&mut dx[lanes.clone()]);
                }
                for (square, &start) in squares.starts.iter().enumerate() {
                    let (dy, route) = routed.alive::<V>(square * channels + first, width);
                    for (number, &corner) in squares.corners.iter().enumerate() {
                        let dx = &mut dx[start + corner + first..][..width];
                        let dy = route.select_equal(V::splat(T::of(number as f64)), dy, zero);
                        V::load_first(dx).add_product(dy, scale).store_first(dx);
                    }
                }
            }
        }
    }
}
