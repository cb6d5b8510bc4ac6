use super::Instructions;
use super::pooled::{POOL_SIDE, PooledWindows, Routed};
use super::simd::{Kernel, Simd};
use crate::nn::Float;

/// A gradient that passed through pooling and relu, and the offset of its window.
#[derive(Clone, Copy, Debug, Default)]
struct Alive<T> {
    start: u32,
    dy: T,
}

/// For each filter, the nonzero gradients of some images. A gradient is alive if it is not 0.
#[derive(Clone, Debug)]
pub struct AliveLists<T> {
    capacity: usize,
    entries: Vec<Alive<T>>,
    counts: Vec<usize>,
}

impl<T: Float> AliveLists<T> {
    /// Memory for `outputs` gradients of each of `filters`.
    pub fn with_capacity(filters: usize, outputs: usize) -> Self {
        Self {
            capacity: outputs,
            entries: vec![
                Alive::default();
                filters.checked_mul(outputs).expect("the lists are too large for memory")
            ],
            counts: vec![0; filters],
        }
    }

    /// Approximate memory of [`Self::with_capacity`], in elements of the size of a gradient. An entry counts as two.
    pub fn numbers_of(filters: usize, outputs: usize) -> usize {
        2 * filters * outputs
    }

    /// Removes all gradients.
    pub fn clear(&mut self) {
        self.counts.fill(0);
    }
}

/// Adds the nonzero gradients of an image to `lists`, and their sum to `dbias`. `image` is the offset of the
/// image in the `x` of [`AliveLists::add_outer`].
///
/// # Panics
/// If the shapes don't match, or the lists are full.
pub fn collect_alive<T: Float>(
    instructions: Instructions,
    windows: &PooledWindows,
    gradient: Routed<'_, T>,
    image: usize,
    lists: &mut AliveLists<T>,
    dbias: &mut [T],
) {
    windows.check();
    let filters = lists.counts.len();
    let Routed { y, route, dy } = gradient;
    assert_eq!(
        (y.len(), dy.len(), route.len()),
        (windows.squares.len() * filters, y.len(), y.len()),
        "lengths of y, dy and route"
    );
    assert!(
        lists.counts.iter().all(|count| count + windows.squares.len() <= lists.capacity),
        "the lists are full"
    );
    assert_eq!(dbias.len(), filters, "length of dbias");
    instructions.run(Collect { windows, gradient, image, lists, dbias });
}

struct Collect<'a, T> {
    windows: &'a PooledWindows,
    gradient: Routed<'a, T>,
    image: usize,
    lists: &'a mut AliveLists<T>,
    dbias: &'a mut [T],
}

impl<T: Float> Kernel<T> for Collect<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { windows, gradient, image, lists, dbias } = self;
        let filters = dbias.len();
        for (square, &start) in windows.squares.iter().enumerate() {
            // SAFETY: the caller guarantees the instructions. Each filter has room for all squares, and the
            // indices that are read exist.
            unsafe {
                for_each_alive::<T, V>(gradient, square * filters, filters, |filter, route, dy| {
                    let count = lists.counts.get_unchecked_mut(filter);
                    let start = (image + start + windows.corners[route]) as u32;
                    *lists.entries.get_unchecked_mut(filter * lists.capacity + *count) = Alive { start, dy };
                    *count += 1;
                    *dbias.get_unchecked_mut(filter) += dy;
                });
            }
        }
    }
}

/// Calls `f` with the filter, the route and the gradient of each output above 0, for the `filters` outputs
/// starting at `first`.
///
/// # Safety
/// See [`Simd`]. The outputs must exist.
#[inline(always)]
unsafe fn for_each_alive<T: Float, V: Simd<Number = T>>(
    gradient: Routed<'_, T>,
    first: usize,
    filters: usize,
    mut f: impl FnMut(usize, usize, T),
) {
    let Routed { y, route, dy } = gradient;
    for part in (0..filters).step_by(V::LANES) {
        let width = V::LANES.min(filters - part);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut alive = V::load_first(&y[first + part..first + part + width]).positive();
            while alive != 0 {
                let filter = part + alive.trailing_zeros() as usize;
                f(filter, route.get_unchecked(first + filter).index(), *dy.get_unchecked(first + filter));
                alive &= alive - 1;
            }
        }
    }
}

impl<T: Float> AliveLists<T> {
    /// `dw += Σ dy · window` over the nonzero gradients, filter by filter, in the order they were added. x
    /// has images of [`PooledWindows::padded_length`] elements each, and dw has shape (filters,
    /// [`PooledWindows::padded_filter`]).
    ///
    /// # Panics
    /// If the shapes don't match, or this processor doesn't have `instructions`.
    pub fn add_outer(&self, instructions: Instructions, windows: &PooledWindows, x: &[T], dw: &mut [T]) {
        windows.check();
        assert_eq!(dw.len(), self.counts.len() * windows.padded_filter(), "length of dw");
        let reach = (windows.kernel - 1) * windows.row + windows.padded_span();
        for (filter, &count) in self.counts.iter().enumerate() {
            let entries = &self.entries[filter * self.capacity..][..count];
            let last = entries.iter().map(|alive| alive.start).max().unwrap_or(0);
            assert!(count == 0 || last as usize + reach <= x.len(), "a window exceeds its images");
        }
        instructions.run(Outer { lists: self, windows, x, dw });
    }
}

struct Outer<'a, T> {
    lists: &'a AliveLists<T>,
    windows: &'a PooledWindows,
    x: &'a [T],
    dw: &'a mut [T],
}

/// Divides `rows` rows of `width` registers into blocks. A block has enough registers to hide the latency of
/// a multiply-add, and leaves some free. Calls `$f::<V, rows, registers>` with the first row and register of
/// each block.
macro_rules! for_blocks {
    ($rows:expr, $width:expr, |$row:ident, $register:ident, $U:ident, $R:ident| $block:expr) => {{
        let (rows, width) = ($rows, $width);
        if width == 1 {
            let ($register, mut $row) = (0, 0);
            while $row < rows {
                const $R: usize = 1;
                if rows - $row >= 5 {
                    const $U: usize = 5;
                    $block;
                    $row += $U;
                } else if rows - $row >= 3 {
                    const $U: usize = 3;
                    $block;
                    $row += $U;
                } else {
                    const $U: usize = 1;
                    $block;
                    $row += $U;
                }
            }
        } else {
            const $U: usize = 1;
            for $row in 0..rows {
                let mut $register = 0;
                while $register < width {
                    let left = width - $register;
                    if left % 10 == 0 {
                        const $R: usize = 10;
                        $block;
                        $register += $R;
                    } else if left % 6 == 0 {
                        const $R: usize = 6;
                        $block;
                        $register += $R;
                    } else if left >= 5 {
                        const $R: usize = 5;
                        $block;
                        $register += $R;
                    } else if left >= 3 {
                        const $R: usize = 3;
                        $block;
                        $register += $R;
                    } else {
                        const $R: usize = 1;
                        $block;
                        $register += $R;
                    }
                }
            }
        }
    }};
}

impl<T: Float> Kernel<T> for Outer<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { lists, windows, x, dw } = self;
        let filters = lists.entries.chunks_exact(lists.capacity.max(1)).zip(&lists.counts);
        for ((entries, &count), dw) in filters.zip(dw.chunks_exact_mut(windows.padded_filter())) {
            if count == 0 {
                continue;
            }
            let entries = &entries[..count];
            for_blocks!(windows.kernel, windows.span.div_ceil(V::LANES), |u, register, U, R| {
                // SAFETY: the caller guarantees the instructions. The windows are inside `x`, which extends one
                // register beyond them.
                unsafe {
                    let x = x.as_ptr().add(u * windows.row + register * V::LANES);
                    let dw = dw.as_mut_ptr().add(u * windows.padded_span() + register * V::LANES);
                    add_windows::<T, V, U, R>(entries, x, windows.row, dw, windows.padded_span());
                }
            });
        }
    }
}

/// `U` rows of `R` registers of a filter's gradient, kept in registers from the first entry to the last.
///
/// # Safety
/// See [`Simd`]. x and dw must have these registers.
#[inline(always)]
unsafe fn add_windows<T: Float, V: Simd<Number = T>, const U: usize, const R: usize>(
    entries: &[Alive<T>],
    x: *const T,
    x_row: usize,
    dw: *mut T,
    dw_row: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[V::splat(T::zero()); R]; U];
        for (u, sums) in sums.iter_mut().enumerate() {
            *sums = V::load_all(dw.add(u * dw_row));
        }
        for entry in entries {
            let dy = V::splat(entry.dy);
            let x = x.add(entry.start as usize);
            for (u, sums) in sums.iter_mut().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add_product(dy, V::load(x.add(u * x_row + r * V::LANES)));
                }
            }
        }
        for (u, sums) in sums.into_iter().enumerate() {
            for (r, sum) in sums.into_iter().enumerate() {
                sum.store(dw.add(u * dw_row + r * V::LANES));
            }
        }
    }
}

/// `dx[window] += dy · w` over the nonzero gradients of one image, square by square. weight has shape
/// (filters, [`PooledWindows::padded_filter`]) with padding 0, and dx has [`PooledWindows::padded_length`] elements.
///
/// # Panics
/// If the shapes don't match, or this processor doesn't have `instructions`.
pub fn add_input_gradient<T: Float>(
    instructions: Instructions,
    windows: &PooledWindows,
    gradient: Routed<'_, T>,
    weight: &[T],
    dx: &mut [T],
) {
    windows.check();
    let Routed { y, route, dy } = gradient;
    let filters = weight.len() / windows.padded_filter();
    assert_eq!(
        (y.len(), dy.len(), route.len()),
        (windows.squares.len() * filters, y.len(), y.len()),
        "lengths of y, dy and route"
    );
    assert!(dx.len() >= windows.padded_length(), "dx is too small");
    instructions.run(Input { windows, gradient, weight, dx });
}

struct Input<'a, T> {
    windows: &'a PooledWindows,
    gradient: Routed<'a, T>,
    weight: &'a [T],
    dx: &'a mut [T],
}

/// Number of filters whose gradients are added to a window together.
const FILTERS: usize = 32;

impl<T: Float> Kernel<T> for Input<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        let Self { windows, gradient, weight, dx } = self;
        let length = windows.padded_filter();
        let filters = weight.len() / length;
        for (square, &start) in windows.squares.iter().enumerate() {
            for part in (0..filters).step_by(FILTERS) {
                let mut lists = [[Alive { start: 0, dy: T::zero() }; FILTERS]; POOL_SIDE * POOL_SIDE];
                let mut counts = [0; POOL_SIDE * POOL_SIDE];
                let width = FILTERS.min(filters - part);
                // SAFETY: the caller guarantees the instructions. A list has room for each filter of the part. The
                // windows are inside `dx`, which extends one register beyond them.
                unsafe {
                    for_each_alive::<T, V>(gradient, square * filters + part, width, |filter, route, dy| {
                        for corner in 0..windows.corners.len() {
                            // Writes the entry to every list, but increments only the right count. This avoids an
                            // unpredictable branch.
                            let start = ((part + filter) * length) as u32;
                            *lists[corner].get_unchecked_mut(counts[corner]) = Alive { start, dy };
                            counts[corner] += usize::from(corner == route);
                        }
                    });
                    for ((list, count), corner) in lists.iter().zip(counts).zip(windows.corners) {
                        if count == 0 {
                            continue;
                        }
                        let dx = dx.as_mut_ptr().add(start + corner);
                        for_blocks!(windows.kernel, windows.span.div_ceil(V::LANES), |u, register, U, R| {
                            let weight = weight.as_ptr().add(u * windows.padded_span() + register * V::LANES);
                            let dx = dx.add(u * windows.row + register * V::LANES);
                            add_windows::<T, V, U, R>(
                                &list[..count],
                                weight,
                                windows.padded_span(),
                                dx,
                                windows.row,
                            );
                        });
                    }
                }
            }
        }
    }
}
