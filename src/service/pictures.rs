use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::{Caller, OperationError, Service};
use crate::admission::{Lane, Price, Stop};
use crate::data::picture::{self, PictureError, PicturePrice, Preparation};
use crate::data::{IMAGE_PIXELS, to_unit};
use crate::nn::Shape;

/// Pictures with at most this many bytes and pixels are prepared in the lane of predictions. Larger pictures
/// have their own lane.
pub const QUICK_PICTURE_BYTES: usize = 256 << 10;
const QUICK_PIXELS: u64 = 1 << 16;

/// The pictures of a request, as files.
#[derive(Clone)]
pub struct Pictures {
    files: Vec<Bytes>,
    /// Holds the charge for the memory of the files.
    _held: Arc<dyn Any + Send + Sync>,
}

impl Pictures {
    /// Makes pictures from files. `held` is dropped when the last work on them has ended.
    pub fn new(files: Vec<Bytes>, held: impl Send + Sync + 'static) -> Self {
        Self { files, _held: Arc::new(held) }
    }

    /// Returns the number of pictures.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Returns the size of all files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(Bytes::len).sum()
    }

    /// Returns the error of the picture with this index.
    fn error(&self, index: usize, source: PictureError) -> OperationError {
        OperationError::Picture { index, count: self.count(), source }
    }
}

impl Service {
    /// Converts pictures to images of 28x28 pixels with values from 0 to 1, one after the other, for a network with
    /// this input. Each picture is a separate piece of work, so that many large pictures do not block other callers.
    ///
    /// # Errors
    /// Returns an error if the network takes images of another size, if a picture is invalid, if the pictures have too
    /// many pixels, or if there is no room to decode them.
    pub async fn images_of(
        &self,
        caller: &Caller,
        pictures: Pictures,
        preparation: Preparation,
        input: Shape,
    ) -> Result<Vec<f32>, OperationError> {
        if input.len() != IMAGE_PIXELS {
            return Err(OperationError::NoPictures(input));
        }
        let prices = self.prices_of_pictures(caller, &pictures).await?;
        let pixels: u64 = prices.iter().map(|price| price.pixel_passes).sum();
        let pixels_max = self.limits.pictures_pixels_max;
        if pixels > pixels_max {
            return Err(OperationError::PicturesTooLarge { pixels, pixels_max });
        }
        let is_quick = pixels <= QUICK_PIXELS && pictures.bytes() <= QUICK_PICTURE_BYTES;
        let lane = if is_quick { Lane::Predict } else { Lane::Pictures };
        let mut values = Vec::new();
        for (index, price) in prices.iter().enumerate() {
            let price = Price::new(lane, price.memory_bytes as usize);
            let (read, limits) = (pictures.clone(), self.limits.picture);
            let read = move |_: &Stop| {
                picture::read(&read.files[index], preparation, &limits)
                    .map_err(|source| read.error(index, source))
            };
            let (pixels, _) = self.work(caller, price, read).await?;
            values.extend(to_unit(&pixels));
        }
        Ok(values)
    }

    /// Computes the price of each picture from its headers.
    async fn prices_of_pictures(
        &self,
        caller: &Caller,
        pictures: &Pictures,
    ) -> Result<Vec<PicturePrice>, OperationError> {
        let prices = {
            let (pictures, limits) = (pictures.clone(), self.limits.picture);
            move || {
                let prices = pictures.files.iter().map(|file| picture::price(file, &limits));
                let named = prices.enumerate();
                named
                    .map(|(index, price)| price.map_err(|source| pictures.error(index, source)))
                    .collect::<Result<_, OperationError>>()
            }
        };
        match pictures.bytes() {
            ..=QUICK_PICTURE_BYTES => prices(),
            _ => Ok(self.work(caller, Price::new(Lane::Pictures, 0), move |_| prices()).await?.0),
        }
    }
}
