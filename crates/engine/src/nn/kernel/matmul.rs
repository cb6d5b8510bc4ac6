use std::mem::MaybeUninit;

use ndarray::{ArrayView2, ArrayViewMut2};

pub use super::tile::Start;
use super::tile::{Columns, Factors, Product, Rows, Target};
use super::{Instructions, Right};
use crate::nn::Float;

/// `c = start + Σ a · b` over `pairs`. Each `a` (m, k) may have any strides, so a transposed view costs
/// nothing. Each `b` is (k, n), and k may differ between pairs. The rows of `c` (m, n) are contiguous.
///
/// Every element is a separate sum, over the pairs in order and over k from first to last. Splitting m or n among
/// threads therefore doesn't change a single bit.
pub fn matmul<'a, T: Float, B: Into<Right<'a, T>>>(
    pairs: impl IntoIterator<Item = (ArrayView2<'a, T>, B)>,
    c: &mut ArrayViewMut2<T>,
    start: Start<T>,
) {
    matmul_with(Instructions::best(), pairs, c, start);
}

/// `matmul` with a given instruction set.
///
/// # Panics
/// If the shapes don't match, the rows of `c` are not contiguous, or this processor doesn't have
/// `instructions`.
pub fn matmul_with<'a, T: Float, B: Into<Right<'a, T>>>(
    instructions: Instructions,
    pairs: impl IntoIterator<Item = (ArrayView2<'a, T>, B)>,
    c: &mut ArrayViewMut2<T>,
    start: Start<T>,
) {
    let target = Target::of(c);
    let factors = pairs.into_iter().map(|(a, b)| {
        let b = b.into();
        assert_eq!((a.nrows(), a.ncols()), (target.rows, b.rows()), "shapes of a product");
        let [row, column] = [0, 1].map(|axis| a.strides()[axis]);
        Factors { a: a.as_ptr(), rows: Rows::Strided(row), columns: Columns::Strided(column), b }
    });
    // SAFETY: each view covers its elements at its strides.
    unsafe { sum(instructions, factors, &target, start) };
}

/// A left-hand side whose rows overlap, as the windows of a convolution do. Element (r, d) of a factor that
/// starts at s is `values[s + rows[r] + columns[d]]`. Nothing is copied (Dukhan, *The Indirect Convolution
/// Algorithm*, 2019).
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a, T> {
    /// The values that the windows cover.
    pub values: &'a [T],
    /// Offset of each row.
    pub rows: &'a Offsets,
    /// Offsets of the elements within a row. Without them, the elements are contiguous.
    pub columns: Option<&'a Offsets>,
}

/// Offsets in a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    places: Vec<u32>,
    largest: usize,
}

impl Offsets {
    /// Number of offsets.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}

impl FromIterator<usize> for Offsets {
    /// # Panics
    /// If an offset is 2³² or more.
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let narrow = |place| u32::try_from(place).expect("an offset below 2^32");
        let places: Vec<u32> = places.into_iter().map(narrow).collect();
        Self { largest: places.iter().copied().max().unwrap_or(0) as usize, places }
    }
}

/// `matmul` with windows on the left. A factor is the start of the windows and the right-hand side.
///
/// # Panics
/// If a window exceeds its values, the shapes don't match, or this processor doesn't have `instructions`.
pub fn matmul_windows<'a, T: Float>(
    instructions: Instructions,
    windows: Windows<'a, T>,
    factors: impl IntoIterator<Item = (usize, Right<'a, T>)>,
    c: &mut ArrayViewMut2<T>,
    start: Start<T>,
) {
    let Windows { values, rows, columns } = windows;
    let target = Target::of(c);
    assert_eq!(rows.places.len(), target.rows, "rows of the windows and the product");
    let factors = factors.into_iter().map(|(start, b)| {
        let (along, columns) = match columns {
            Some(columns) => {
                assert_eq!(columns.count(), b.rows(), "shapes of a product");
                (columns.largest, Columns::Places(&columns.places))
            }
            None => (b.rows().saturating_sub(1), Columns::Strided(1)),
        };
        let last = start.checked_add(rows.largest).and_then(|last| last.checked_add(along));
        assert!(last.is_some_and(|last| last < values.len()), "a window exceeds its values");
        Factors { a: values[start..].as_ptr(), rows: Rows::Places(&rows.places), columns, b }
    });
    // SAFETY: the furthest element of every factor lies inside `values`.
    unsafe { sum(instructions, factors, &target, start) };
}

/// Largest number of factors whose product is summed in registers before the target is updated.
const FACTORS_MAX: usize = 32;

/// # Safety
/// Each `a` must be readable at the sum of each of its row offsets and each of its column offsets. It has as many rows
/// as the target, and as many columns as its `b` has rows.
unsafe fn sum<'a, T: Float>(
    instructions: Instructions,
    factors: impl Iterator<Item = Factors<'a, T>>,
    target: &Target<T>,
    mut start: Start<T>,
) {
    let mut factors =
        factors.inspect(|factors| assert_eq!(factors.b.columns(), target.columns, "shapes of a product"));
    let mut list = [const { MaybeUninit::<Factors<T>>::uninit() }; FACTORS_MAX];
    loop {
        let mut count = 0;
        for (slot, factors) in list.iter_mut().zip(&mut factors) {
            slot.write(factors);
            count += 1;
        }
        if count == 0 && matches!(start, Start::Target) {
            return;
        }
        // SAFETY: the first `count` elements are initialised.
        let factors = unsafe { std::slice::from_raw_parts(list.as_ptr().cast(), count) };
        // SAFETY: the caller guarantees `a`, and `Right` guarantees `b`. The target is borrowed mutably, so
        // it doesn't overlap them.
        instructions.run(unsafe { Product::new(target, factors, start) });
        if count < FACTORS_MAX {
            return;
        }
        start = Start::Target;
    }
}
