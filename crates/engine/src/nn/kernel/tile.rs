use std::marker::PhantomData;

use ndarray::ArrayViewMut2;

use super::Right;
use super::simd::{Kernel, Simd};
use crate::nn::Float;

/// Offsets of the rows of a left-hand side, in elements.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// The rows are at equal distances.
    Strided(isize),
    /// The rows are at these offsets.
    Places(&'a [u32]),
}

impl Rows<'_> {
    /// # Safety
    /// The row must exist.
    #[inline(always)]
    unsafe fn offset(self, row: usize) -> isize {
        match self {
            Self::Strided(stride) => row as isize * stride,
            // SAFETY: guaranteed by the caller.
            Self::Places(places) => unsafe { *places.get_unchecked(row) as isize },
        }
    }
}

/// Offsets of the columns of a left-hand side, relative to the start of a row.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    /// The columns are at equal distances.
    Strided(isize),
    /// The columns are at these offsets.
    Places(&'a [u32]),
}

/// The two factors of a product. `a` has as many columns as `b` has rows.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a, T> {
    pub a: *const T,
    pub rows: Rows<'a>,
    pub columns: Columns<'a>,
    pub b: Right<'a, T>,
}

/// The matrix that a product is written to.
pub(super) struct Target<'a, T> {
    pub rows: usize,
    pub columns: usize,
    c: *mut T,
    row: isize,
    borrowed: PhantomData<&'a mut T>,
}

impl<'a, T: Float> Target<'a, T> {
    pub fn of(c: &'a mut ArrayViewMut2<T>) -> Self {
        assert!(c.ncols() <= 1 || c.strides()[1] == 1, "the rows of the target must be contiguous");
        Self {
            rows: c.nrows(),
            columns: c.ncols(),
            row: c.strides()[0],
            c: c.as_mut_ptr(),
            borrowed: PhantomData,
        }
    }
}

/// The initial value that a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, T> {
    /// Zero: the product replaces the target.
    Zero,
    /// The current value of the target.
    Target,
    /// This row, for every row of the target. Its length is the number of columns.
    Row(&'a [T]),
}

/// `c = start + Σ a · b` for factors whose shapes match.
pub(super) struct Product<'a, T> {
    target: &'a Target<'a, T>,
    factors: &'a [Factors<'a, T>],
    start: Start<'a, T>,
}

impl<'a, T> Product<'a, T> {
    /// # Safety
    /// Each `a` must be readable at the sum of each of its row offsets and each of its column offsets. It has as many
    /// rows as the target, and as many columns as its `b` has rows. Each `b` must have the columns of the target. The
    /// target must not overlap `a` or `b`.
    pub unsafe fn new(target: &'a Target<'a, T>, factors: &'a [Factors<'a, T>], start: Start<'a, T>) -> Self {
        if let Start::Row(row) = start {
            assert_eq!(row.len(), target.columns, "length of the initial row");
        }
        Self { target, factors, start }
    }
}

/// With 32 registers, tiles of 8 rows and 2 registers keep 16 sums; with 16 registers, tiles of 6 rows keep
/// 12.
impl<T: Float> Kernel<T> for Product<'_, T> {
    /// The conditions of the trait and of [`Product::new`] must hold.
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match V::REGISTERS {
                32 => self.tiles::<V, 8, 2>(),
                16 => self.tiles::<V, 6, 2>(),
                _ => self.tiles::<V, 4, 1>(),
            }
        }
    }
}

impl<T: Float> Product<'_, T> {
    /// Covers the target with tiles of `MR` rows and `NR` registers. The last tiles have fewer rows or
    /// registers.
    ///
    /// # Safety
    /// See [`Self::new`] and [`Simd`].
    #[inline(always)]
    unsafe fn tiles<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self) {
        let mut first = 0;
        // SAFETY: each column is inside the target, which the caller guarantees.
        unsafe {
            while first < self.target.columns {
                if self.target.columns - first > V::LANES {
                    self.tile_column::<V, MR, NR>(first);
                    first += NR * V::LANES;
                } else {
                    self.tile_column::<V, MR, 1>(first);
                    first += V::LANES;
                }
            }
        }
    }

    /// Computes the tiles that start at column `first`.
    ///
    /// # Safety
    /// See [`Self::tiles`]. The column must exist.
    #[inline(always)]
    unsafe fn tile_column<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self, first: usize) {
        let rows = self.target.rows;
        let tiles = rows.div_ceil(MR);
        let mut row = 0;
        for tile in 0..tiles {
            // All tiles have about the same height, since a low one doesn't hide the latency of a
            // multiply-add.
            let height = rows / tiles + usize::from(tile < rows % tiles);
            // SAFETY: each tile lies inside the target.
            unsafe {
                match height {
                    8 => self.tile::<V, 8, NR>(row, first),
                    7 => self.tile::<V, 7, NR>(row, first),
                    6 => self.tile::<V, 6, NR>(row, first),
                    5 => self.tile::<V, 5, NR>(row, first),
                    4 => self.tile::<V, 4, NR>(row, first),
                    3 => self.tile::<V, 3, NR>(row, first),
                    2 => self.tile::<V, 2, NR>(row, first),
                    _ => self.tile::<V, 1, NR>(row, first),
                }
            }
            row += height;
        }
    }

    /// Computes the tile at (`row`, `first`), summed in registers.
    ///
    /// # Safety
    /// See [`Self::new`] and [`Simd`]. The rows and the column `first` must exist, `first` must be a multiple
    /// of [`Simd::LANES`], and the `NR` registers must end in the panel where they start.
    #[inline(always)]
    unsafe fn tile<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self, row: usize, first: usize) {
        // SAFETY: `row + MR <= rows`; a `Right` has whole registers for its columns; and every write to `c`
        // is limited to `columns`. So all reads and writes are within what the caller guarantees.
        unsafe {
            let mut sums = [[V::splat(T::zero()); NR]; MR];
            for factors in self.factors {
                let mut a = [factors.a; MR];
                for (i, a) in a.iter_mut().enumerate() {
                    *a = a.offset(factors.rows.offset(row + i));
                }
                let mut b = factors.b.at(first);
                // After the last step `b` points past the end, but it isn't read.
                match factors.columns {
                    Columns::Strided(step) => {
                        for column in 0..factors.b.rows() as isize {
                            add_column(&mut sums, a, column * step, b);
                            b = b.wrapping_add(factors.b.stride());
                        }
                    }
                    Columns::Places(places) => {
                        for &place in places {
                            add_column(&mut sums, a, place as isize, b);
                            b = b.wrapping_add(factors.b.stride());
                        }
                    }
                }
            }
            let Target { columns, c, row: c_row, .. } = *self.target;
            for (i, sums) in sums.into_iter().enumerate() {
                let c = c.offset((row + i) as isize * c_row).add(first);
                for (j, sum) in sums.into_iter().enumerate() {
                    let skipped = (j * V::LANES).min(columns - first);
                    let width = V::LANES.min(columns - first - skipped);
                    self.put(sum, c.add(skipped), first + skipped, width);
                }
            }
        }
    }

    /// Adds the first `width` elements of `sum` to their initial value and writes them to `c`, which is in
    /// column `column` of the target.
    ///
    /// # Safety
    /// See [`Simd`]. `c` must have room for them.
    #[inline(always)]
    unsafe fn put<V: Simd<Number = T>>(&self, sum: V, c: *mut T, column: usize, width: usize) {
        // SAFETY: `c` has room for `width` elements, and a row has as many as the target has columns.
        unsafe {
            if width == V::LANES {
                let sum = match self.start {
                    Start::Zero => sum,
                    Start::Target => V::load(c).add(sum),
                    Start::Row(row) => V::load(row.as_ptr().add(column)).add(sum),
                };
                sum.store(c);
                return;
            }
            for (lane, &number) in sum.numbers().iter().enumerate().take(width) {
                let c = c.add(lane);
                *c = match self.start {
                    Start::Zero => number,
                    Start::Target => *c + number,
                    Start::Row(row) => row[column + lane] + number,
                };
            }
        }
    }
}

/// Adds the product of a column of `a`, at offset `place` from the start of each row, with a row of `b`.
///
/// # Safety
/// See [`Simd`]. The elements must exist.
#[inline(always)]
unsafe fn add_column<T: Copy + Default, V: Simd<Number = T>, const MR: usize, const NR: usize>(
    sums: &mut [[V; NR]; MR],
    a: [*const T; MR],
    place: isize,
    b: *const T,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let columns: [V; NR] = V::load_all(b);
        for (sums, a) in sums.iter_mut().zip(a) {
            let factor = V::splat(*a.offset(place));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = sum.add_product(factor, column);
            }
        }
    }
}
