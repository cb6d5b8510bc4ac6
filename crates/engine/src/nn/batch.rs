use ndarray::ArrayView2;

use super::kernel::{pixel, prefetch, vectorized};
use super::{Draw, Float};

/// Images, written one at a time into the rows of a batch.
pub trait Images<T: Float>: Sync {
    /// Writes the example `index`; `draw` decides what is drawn at random.
    fn write(&self, index: u32, draw: Draw, image: &mut [T]);

    /// The numbers of the example `index` where all of them are bytes, each of which stands for a [`pixel`].
    fn bytes(&self, _index: u32) -> Option<&[u8]> {
        None
    }

    /// Is told that the example `index` will be asked for soon.
    fn prefetch(&self, _index: u32) {}
}

/// Pixels 0–255, shape (examples, inputs), read as pixel / 255.
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

/// Values as they are, shape (examples, inputs).
impl Images<f64> for ArrayView2<'_, f64> {
    fn write(&self, index: u32, _: Draw, image: &mut [f64]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Values as they are, shape (examples, inputs).
impl Images<f32> for ArrayView2<'_, f32> {
    fn write(&self, index: u32, _: Draw, image: &mut [f32]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Some of the examples, in the order of `rows`.
#[derive(Clone, Copy)]
pub struct Batch<'a, T> {
    /// All examples.
    pub images: &'a dyn Images<T>,
    /// The class of every example.
    pub labels: &'a [u16],
    /// Which of them, and in which order.
    pub rows: &'a [u32],
    /// What is drawn at random in a training step.
    pub draw: Draw,
}

/// Images that are asked for ahead: they come from memory one after the other, since an epoch meets them
/// in a random order.
const IMAGES_AHEAD: usize = 4;

impl<T: Float> Batch<'_, T> {
    /// Calls `work` with the place and the number of each of `examples`, while those behind are on their way.
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
