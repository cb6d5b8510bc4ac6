use std::ops::{Deref, DerefMut};

use crate::nn::Float;

/// Number of elements in a line: one cache line of `f32`, or two of `f64`.
const LINE: usize = 16;

/// Elements that start at a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Line<T>([T; LINE]);

/// A slice that starts at a multiple of 64 bytes, whatever the allocator does. A register that is loaded from a
/// multiple of its own size therefore never crosses a cache line.
#[derive(Clone, Debug, PartialEq)]
pub struct Aligned<T> {
    lines: Vec<Line<T>>,
    length: usize,
}

impl<T: Float> Aligned<T> {
    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        Self { lines: vec![Line([T::zero(); LINE]); length.div_ceil(LINE)], length }
    }
}

impl<T: Float> From<&[T]> for Aligned<T> {
    fn from(numbers: &[T]) -> Self {
        let mut aligned = Self::zeros(numbers.len());
        aligned.copy_from_slice(numbers);
        aligned
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        const { assert!(size_of::<Line<T>>() == LINE * size_of::<T>(), "no gap between lines") };
        // SAFETY: the lines are arrays of numbers without a gap, and there are at least `length` numbers.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        const { assert!(size_of::<Line<T>>() == LINE * size_of::<T>(), "no gap between lines") };
        // SAFETY: as for `deref`, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
