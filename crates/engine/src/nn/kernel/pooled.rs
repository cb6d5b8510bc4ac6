use super::simd::{Kernel, LANES_MAX, Simd};
use super::{Instructions, Right};
use crate::nn::Float;

/// Rows and columns of a pooled square.
pub const POOL_SIDE: usize = 2;

/// The windows of a convolution whose outputs are pooled in squares of `POOL_SIDE` × `POOL_SIDE`.
///
/// A window consists of `kernel` rows of `span` elements. Consecutive rows are `row` elements apart, in an
/// image of `length` elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PooledWindows {
    /// Number of rows of a window.
    pub kernel: usize,
    /// Number of elements in a row of a window.
    pub span: usize,
    /// Distance between two rows of a window.
    pub row: usize,
    /// Offsets of the four windows of a square, relative to the first.
    pub corners: [usize; POOL_SIDE * POOL_SIDE],
    /// Offset of each square's first window.
    pub squares: Vec<usize>,
    /// Number of elements of an image.
    pub length: usize,
}

impl PooledWindows {
    /// Memory for an image, in elements. The last register of a window may extend beyond its end.
    pub fn padded_length(&self) -> usize {
        self.length + LANES_MAX
    }

    /// Number of elements of a window's row, rounded up to whole registers.
    pub fn padded_span(&self) -> usize {
        self.span.next_multiple_of(LANES_MAX)
    }

    /// Number of elements of a filter whose rows are padded to whole registers.
    pub fn padded_filter(&self) -> usize {
        self.kernel * self.padded_span()
    }

    /// Checks the offsets. The limits keep sums of offsets from overflowing.
    pub(super) fn check(&self) {
        let first =
            self.squares.iter().max().unwrap_or(&0).checked_add(self.corners.into_iter().fold(0, usize::max));
        let reach =
            self.kernel.checked_sub(1).and_then(|rows| rows.checked_mul(self.row)?.checked_add(self.span));
        let last = first.zip(reach).and_then(|(first, reach)| first.checked_add(reach));
        assert!(self.span > 0 && last.is_some_and(|last| last <= self.length), "a window exceeds its image");
        assert!(self.length < 1 << 32 && self.kernel < 1 << 16, "the image is too large");
    }
}

/// The output of relu and max-pool for one image, and its gradient. The backward pass sends the gradient to one corner
/// of each square, or nowhere if y is 0.
#[derive(Clone, Copy)]
pub struct Routed<'a, T> {
    /// y, shape (squares, channels).
    pub y: &'a [T],
    /// The number of the corner that each y comes from.
    pub route: &'a [T],
    /// ∂L/∂y.
    pub dy: &'a [T],
}

/// Convolution, bias, relu and max-pool of one image in one pass: `y = max(0, b + max over the square of x * w)`, with
/// x ([`PooledWindows::padded_length`]), weight (kernel · span, filters) and y (squares, filters). The outputs before pooling
/// stay in registers. The number of the window that each y comes from is written to `route`.
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn conv_relu_pool<T: Float>(
    instructions: Instructions,
    windows: &PooledWindows,
    x: &[T],
    weight: Right<'_, T>,
    bias: &[T],
    y: &mut [T],
    route: &mut [T],
) {
    windows.check();
    let filters = bias.len();
    assert_eq!(
        (weight.rows(), weight.columns()),
        (windows.kernel * windows.span, filters),
        "shape of the weight"
    );
    assert!(x.len() >= windows.length, "the image is too small");
    assert_eq!((y.len(), route.len()), (windows.squares.len() * filters, y.len()), "lengths of y and route");
    instructions.run(Forward { windows, x, weight, bias, y, route });
}

struct Forward<'a, T> {
    windows: &'a PooledWindows,
    x: &'a [T],
    weight: Right<'a, T>,
    bias: &'a [T],
    y: &'a mut [T],
    route: &'a mut [T],
}

impl<T: Float> Kernel<T> for Forward<'_, T> {
    /// Eight or more sums hide the latency of a multiply-add: the four windows of a square times two
    /// registers of filters, or of two squares times one register.
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(mut self) {
        let mut first = 0;
        // SAFETY: each column exists; the shapes were checked.
        unsafe {
            while first < self.bias.len() {
                if self.bias.len() - first > V::LANES && V::REGISTERS >= 16 {
                    if V::REGISTERS == 32 {
                        self.squares::<V, 2, 2>(first);
                    } else {
                        self.squares::<V, 1, 2>(first);
                    }
                    first += 2 * V::LANES;
                } else {
                    self.squares::<V, 2, 1>(first);
                    first += V::LANES;
                }
            }
        }
    }
}

impl<T: Float> Forward<'_, T> {
    /// # Safety
    /// See [`Simd`]; the shapes fit, the column `first` exists and is a multiple of the lanes.
    #[inline(always)]
    unsafe fn squares<V: Simd<Number = T>, const NS: usize, const NR: usize>(&mut self, first: usize) {
        let count = self.windows.squares.len();
        let mut square = 0;
        // SAFETY: the squares exist.
        unsafe {
            while square + NS <= count {
                self.tile::<V, NS, NR>(square, first);
                square += NS;
            }
            while square < count {
                self.tile::<V, 1, NR>(square, first);
                square += 1;
            }
        }
    }

    /// # Safety
    /// See [`Self::squares`]; `NS` squares from `square` on exist.
    #[inline(always)]
    unsafe fn tile<V: Simd<Number = T>, const NS: usize, const NR: usize>(
        &mut self,
        square: usize,
        first: usize,
    ) {
        let Self { windows, x, weight, bias, .. } = *self;
        let filters = bias.len();
        // SAFETY: windows are inside `x`, panels have whole registers for their columns, and writes are
        // limited to the existing filters.
        unsafe {
            let mut sums = [[[V::splat(T::zero()); NR]; POOL_SIDE * POOL_SIDE]; NS];
            let mut w = weight.at(first);
            for u in 0..windows.kernel {
                let starts: [[*const T; POOL_SIDE * POOL_SIDE]; NS] = std::array::from_fn(|s| {
                    let start = x.as_ptr().add(windows.squares[square + s] + u * windows.row);
                    windows.corners.map(|corner| start.add(corner))
                });
                for at in 0..windows.span {
                    let columns: [V; NR] = V::load_all(w);
                    for (sums, starts) in sums.iter_mut().zip(starts) {
                        for (sums, start) in sums.iter_mut().zip(starts) {
                            let x = V::splat(*start.add(at));
                            for (sum, column) in sums.iter_mut().zip(columns) {
                                *sum = sum.add_product(x, column);
                            }
                        }
                    }
                    w = w.wrapping_add(weight.stride());
                }
            }
            for (s, sums) in sums.into_iter().enumerate() {
                for r in 0..NR {
                    let column = first + r * V::LANES;
                    if column >= filters {
                        break;
                    }
                    let (mut best, mut route) = (sums[0][r], V::splat(T::zero()));
                    for (corner, sums) in sums.iter().enumerate().skip(1) {
                        let corner = V::splat(T::of(corner as f64));
                        route = sums[r].select_greater(best, corner, route);
                        best = sums[r].select_greater(best, sums[r], best);
                        // NaN is passed on, so that divergence is detected.
                        best = sums[r].select_equal(sums[r], best, sums[r]);
                    }
                    let at = (square + s) * filters + column;
                    let width = V::LANES.min(filters - column);
                    let bias = V::load_first(&bias[column..column + width]);
                    V::splat(T::zero()).max(bias.add(best)).store_first(&mut self.y[at..at + width]);
                    route.store_first(&mut self.route[at..at + width]);
                }
            }
        }
    }
}
