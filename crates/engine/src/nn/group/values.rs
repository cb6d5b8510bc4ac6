use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::nn::Float;

/// Some rows of a group.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Chunk {
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Rows that go from layer to layer: those of one chunk, or those of the whole group where they are
/// needed later.
pub(super) struct Values<T> {
    pub array: Array2<T>,
    pub is_kept: bool,
}

impl<T: Float> Values<T> {
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
}
