use crate::data::{Augment, Split};
use crate::nn::kernel::{prefetch, vectorized};
use crate::nn::{Draw, Images};

/// Images that are augmented again in each epoch.
pub(super) struct Augmented<'a> {
    pub augment: Augment,
    pub split: &'a Split,
}

impl Images<f32> for Augmented<'_> {
    fn write(&self, index: u32, draw: Draw, image: &mut [f32]) {
        let pixels = self.split.image(index as usize);
        vectorized!(self.augment.write(pixels, draw.seed, draw.epoch, index, image));
    }

    fn prefetch(&self, index: u32) {
        prefetch(self.split.image(index as usize));
    }
}
