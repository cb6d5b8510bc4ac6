use std::marker::PhantomData;

use ndarray::ArrayViewMut2;

use super::Right;
use super::simd::{Kernel, Simd};
use crate::nn::Float;

/// Where the rows of a left-hand side begin, in elements.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// At equal distances.
    Strided(isize),
    /// Anywhere.
    Places(&'a [u32]),
}

impl Rows<'_> {
    /// # Safety
    /// The row exists.
    #[inline(always)]
    unsafe fn offset(self, row: usize) -> isize {
        match self {
            Self::Strided(stride) => row as isize * stride,
            // SAFETY: the caller's.
            Self::Places(places) => unsafe { *places.get_unchecked(row) as isize },
        }
    }
}

/// Where the columns of a left-hand side lie, from where a row begins.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    /// At equal distances.
    Strided(isize),
    /// Anywhere: as many as there are.
    Places(&'a [u32]),
}

/// One pair of a product: as many columns of `a` as `b` has rows.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a, T> {
    pub a: *const T,
    pub rows: Rows<'a>,
    pub columns: Columns<'a>,
    pub b: Right<'a, T>,
}

/// Where a product goes.
pub(super) struct Target<'a, T> {
    pub rows: usize,
    pub columns: usize,
    c: *mut T,
    row: isize,
    borrowed: PhantomData<&'a mut T>,
}

impl<'a, T: Float> Target<'a, T> {
    pub fn of(c: &'a mut ArrayViewMut2<T>) -> Self {
        assert!(c.ncols() <= 1 || c.strides()[1] == 1, "rows of a target are contiguous");
        Self {
            rows: c.nrows(),
            columns: c.ncols(),
            row: c.strides()[0],
            c: c.as_mut_ptr(),
            borrowed: PhantomData,
        }
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, T> {
    /// Nothing: it replaces what the target was.
    Zero,
    /// The target as it was.
    Target,
    /// The same row for each row, of as many columns as the target.
    Row(&'a [T]),
}

/// `c = start + Σ a · b` for factors that fit.
pub(super) struct Product<'a, T> {
    target: &'a Target<'a, T>,
    factors: &'a [Factors<'a, T>],
    start: Start<'a, T>,
}

impl<'a, T> Product<'a, T> {
    /// # Safety
    /// Each `a` has its elements, each `b` the columns of the target, the target overlaps none.
    pub unsafe fn new(target: &'a Target<'a, T>, factors: &'a [Factors<'a, T>], start: Start<'a, T>) -> Self {
        if let Start::Row(row) = start {
            assert_eq!(row.len(), target.columns, "a row of the target");
        }
        Self { target, factors, start }
    }
}

/// Tiles of 8 rows and 2 registers keep 16 sums in 32 registers, those of 6 rows 12 sums in 16.
impl<T: Float> Kernel<T> for Product<'_, T> {
    /// Besides the trait's: each `a` has its elements, each `b` the columns of the target, and the
    /// target overlaps none, which [`Product::new`] was promised.
    #[inline(always)]
    unsafe fn run<V: Simd<Number = T>>(self) {
        // SAFETY: the caller's.
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
    /// Covers the target with tiles of `MR` rows and `NR` registers, lower ones where the rows run
    /// out, narrower ones where the columns do.
    ///
    /// # Safety
    /// See [`Self::new`] and [`Simd`].
    #[inline(always)]
    unsafe fn tiles<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self) {
        let mut first = 0;
        // SAFETY: each column begins inside the target, which the caller vouches for.
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

    /// The tiles that begin at the column `first`.
    ///
    /// # Safety
    /// See [`Self::tiles`]; the column exists.
    #[inline(always)]
    unsafe fn tile_column<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self, first: usize) {
        let rows = self.target.rows;
        let tiles = rows.div_ceil(MR);
        let mut row = 0;
        for tile in 0..tiles {
            // All about as high, since a low tile is too short for the latency of a multiply-add.
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

    /// The tile at (`row`, `first`), summed in registers.
    ///
    /// # Safety
    /// See [`Self::new`] and [`Simd`]; the rows and the column `first` exist, `first` is a multiple
    /// of [`Simd::LANES`], and the `NR` registers end in the panel where they begin.
    #[inline(always)]
    unsafe fn tile<V: Simd<Number = T>, const MR: usize, const NR: usize>(&self, row: usize, first: usize) {
        // SAFETY: `row + MR <= rows`; a `Right` has whole registers for its columns; every write of
        // `c` is cut to `columns`. So all reads and writes lie within what the caller vouches for.
        unsafe {
            let mut sums = [[V::splat(T::zero()); NR]; MR];
            for factors in self.factors {
                let mut a = [factors.a; MR];
                for (i, a) in a.iter_mut().enumerate() {
                    *a = a.offset(factors.rows.offset(row + i));
                }
                let mut b = factors.b.at(first);
                // Behind the last step `b` points past the end and is not read.
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

    /// Writes the first `width` numbers of `sum`, added to where they start, to `c`, the column `column` of
    /// the target.
    ///
    /// # Safety
    /// `c` has room for them; and see [`Simd`].
    #[inline(always)]
    unsafe fn put<V: Simd<Number = T>>(&self, sum: V, c: *mut T, column: usize, width: usize) {
        // SAFETY: `c` has room for `width` numbers, and a row as many as the target has columns.
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

/// Adds the product of a column of `a`, of which each row is `place` behind its pointer, with a row of `b`.
///
/// # Safety
/// See [`Simd`]; the numbers exist.
#[inline(always)]
unsafe fn add_column<T: Copy + Default, V: Simd<Number = T>, const MR: usize, const NR: usize>(
    sums: &mut [[V; NR]; MR],
    a: [*const T; MR],
    place: isize,
    b: *const T,
) {
    // SAFETY: the caller's.
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
