use ndarray::ArrayView2;

use super::kernel::{pixel, prefetch, vectorized};
use super::{Draw, Float};

/// A source of images. Each image is written to one row of a batch.
pub trait Images<T: Float>: Sync {
    /// Writes the example at `index`. `draw` seeds random augmentation.
    fn write(&self, index: u32, draw: Draw, image: &mut [T]);

    /// The values of the example at `index` as bytes. `None` unless every value is a [`pixel`] byte.
    fn bytes(&self, _index: u32) -> Option<&[u8]> {
        None
    }

    /// Hints that the example at `index` will be read soon.
    fn prefetch(&self, _index: u32) {}
}

/// Pixels from 0 to 255, of shape (examples, inputs), read as `pixel · (1 / 255)`.
impl<T: Float> Images<T> for ArrayView2<'_, u8> {
    fn write(&self, index: u32, _: Draw, image: &mut [T]) {
        let row = self.row(index as usize);
        match row.as_slice() {
            Some(bytes) => {
                vectorized!(image.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = pixel(byte)))
            }
            None => image.iter_mut().zip(row).for_each(|(to, &byte)| *to = pixel(byte)),
        }
    }

    fn bytes(&self, index: u32) -> Option<&[u8]> {
        self.row(index as usize).to_slice()
    }

    fn prefetch(&self, index: u32) {
        if let Some(pixels) = self.row(index as usize).to_slice() {
            prefetch(pixels);
        }
    }
}

/// Values of shape (examples, inputs), unchanged.
impl Images<f64> for ArrayView2<'_, f64> {
    fn write(&self, index: u32, _: Draw, image: &mut [f64]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Values of shape (examples, inputs), unchanged.
impl Images<f32> for ArrayView2<'_, f32> {
    fn write(&self, index: u32, _: Draw, image: &mut [f32]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Some of the examples, in a given order.
#[derive(Clone, Copy)]
pub struct Batch<'a, T> {
    /// All examples.
    pub images: &'a dyn Images<T>,
    /// The class of every example.
    pub labels: &'a [u16],
    /// Indices of the examples in the batch, in order.
    pub rows: &'a [u32],
    /// Seeds the randomness of a training step.
    pub draw: Draw,
}

/// Number of images to prefetch. An epoch visits them in random order, so they are not in a cache.
const IMAGES_AHEAD: usize = 4;

impl<T: Float> Batch<'_, T> {
    /// Calls `work` with the row and index of each of `examples`, and prefetches the next ones.
    pub(super) fn for_each_ahead(&self, examples: &[u32], mut work: impl FnMut(usize, u32)) {
        let ahead = |row: usize| {
            if let Some(&example) = examples.get(row) {
                self.images.prefetch(example);
            }
        };
        (0..IMAGES_AHEAD).for_each(ahead);
        for (row, &example) in examples.iter().enumerate() {
            ahead(row + IMAGES_AHEAD);
            work(row, example);
        }
    }
}
