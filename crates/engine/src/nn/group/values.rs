use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::nn::Float;

/// Some rows of a group.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Chunk {
    pub first: usize,
    pub count: usize,
}

/// The size of [`Values`] that are not allocated yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::nn) struct BufferSize {
    pub rows: usize,
    pub width: usize,
    /// Whether there are rows for the whole group. Otherwise there are rows for one chunk.
    pub is_kept: bool,
}

impl BufferSize {
    /// No memory.
    pub const NONE: Self = Self { rows: 0, width: 0, is_kept: false };

    pub fn numbers(self) -> f64 {
        self.rows as f64 * self.width as f64
    }
}

/// A buffer for rows. It holds the rows of one chunk, or of the whole group if they are needed later.
pub(in crate::nn) struct Values<T> {
    array: Array2<T>,
    is_kept: bool,
}

impl<T: Float> Values<T> {
    pub fn zeros(BufferSize { rows, width, is_kept }: BufferSize) -> Self {
        Self { array: Array2::zeros((rows, width)), is_kept }
    }

    fn range(&self, chunk: Chunk) -> Range<usize> {
        let first = if self.is_kept { chunk.first } else { 0 };
        first..first + chunk.count
    }

    pub fn of(&self, chunk: Chunk) -> ArrayView2<'_, T> {
        self.array.slice(s![self.range(chunk), ..])
    }

    pub fn of_mut(&mut self, chunk: Chunk) -> ArrayViewMut2<'_, T> {
        let range = self.range(chunk);
        self.array.slice_mut(s![range, ..])
    }

    /// The first `count` rows of a whole group.
    pub fn first(&self, count: usize) -> ArrayView2<'_, T> {
        assert!(self.is_kept, "the buffer must hold the whole group");
        self.array.slice(s![..count, ..])
    }
}
