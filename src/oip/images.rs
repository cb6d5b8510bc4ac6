use std::any::Any;
use std::sync::Arc;

use ndarray::Array2;

use super::flat::{Element, elements};
use super::pictures::pictures;
use super::{Contents, Datatype, INPUT, InferError};
use crate::data::picture::Preparation;
use crate::data::to_unit;
use crate::nn::Shape;
use crate::service::{Caller, Service, UnreadImages};

/// The least bytes of an element in JSON: a digit, and a comma or bracket.
const ELEMENT_BYTES_MIN: usize = 2;

/// The value of the brightest pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// 255.
    Byte,
    /// 1.
    Unit,
}

impl Scale {
    fn most(self) -> f64 {
        match self {
            Self::Byte => 255.0,
            Self::Unit => 1.0,
        }
    }
}

/// The images of a request whose shape fits the model. They are not parsed yet.
pub struct ImageTensor {
    pub(super) image: Shape,
    pub(super) count: usize,
    pub(super) datatype: Datatype,
    pub(super) contents: Contents,
    pub(super) scale: Scale,
    pub(super) preparation: Preparation,
    /// Bytes of the response for each image, beyond those of a number for each class.
    pub(super) answer_bytes: usize,
    /// Holds the charge for the contents.
    pub(super) held: Arc<dyn Any + Send + Sync>,
}

/// Images that are ready for [`Service::predict`]: pictures are decoded, numbers are not parsed yet.
pub struct ReadyImages {
    tensor: ImageTensor,
    /// The values of decoded pictures.
    values: Option<Vec<f32>>,
}

impl ImageTensor {
    /// Decodes the pictures of a tensor of BYTES. Numbers stay as they are.
    ///
    /// # Errors
    /// Returns an error if an element is not a picture, or if there is no room to decode it.
    pub async fn prepared(self, service: &Service, caller: &Caller) -> Result<ReadyImages, InferError> {
        let values = match self.datatype {
            Datatype::Bytes => {
                let held = Arc::clone(&self.held);
                let pictures = pictures(service, caller, &self.contents, self.count, held).await?;
                Some(service.images_of(caller, pictures, self.preparation, self.image).await?)
            }
            _ => None,
        };
        Ok(ReadyImages { tensor: self, values })
    }
}

impl ReadyImages {
    #[cfg(test)]
    pub(super) fn of_numbers(tensor: ImageTensor) -> Self {
        Self { tensor, values: None }
    }
}

impl UnreadImages for ReadyImages {
    type Error = InferError;

    fn images_max(&self) -> usize {
        let ImageTensor { count, contents, image, .. } = &self.tensor;
        match contents {
            Contents::Json(text) => (*count).min(text.len() / (ELEMENT_BYTES_MIN * image.len()) + 1),
            Contents::Raw(_) => *count,
        }
    }

    fn bytes(&self) -> usize {
        if self.values.is_some() { 0 } else { self.tensor.contents.len() }
    }

    fn parsed_bytes(&self, _: usize) -> usize {
        0
    }

    fn answer_bytes(&self) -> usize {
        self.tensor.answer_bytes
    }

    fn read(self, _: usize) -> Result<Array2<f32>, InferError> {
        let Self { tensor, values } = self;
        let (count, numbers) = (tensor.count, tensor.image.len());
        let values = match values {
            Some(values) => values,
            None => tensor.values()?,
        };
        Array2::from_shape_vec((count, numbers), values)
            .map_err(|error| InferError::Invalid(format!("input '{INPUT}': {error}")))
    }
}

impl ImageTensor {
    /// Parses the numbers of a tensor to values from 0 to 1.
    fn values(&self) -> Result<Vec<f32>, InferError> {
        let wanted = self.count * self.image.len();
        let mut found = Found::new(self.scale, self.datatype == Datatype::Uint8);
        match &self.contents {
            Contents::Raw(bytes) => {
                if self.datatype == Datatype::Uint8 && self.scale == Scale::Byte {
                    return Ok(to_unit(bytes).collect());
                }
                found.values.reserve_exact(wanted);
                found.raw(self.datatype, bytes);
            }
            Contents::Json(text) => {
                found.values.reserve_exact(wanted.min(text.len() / ELEMENT_BYTES_MIN + 1));
                found.json(text, wanted)?;
            }
        }
        found.finish(wanted, self.image.len())
    }
}

/// The values found so far, and what is wrong with them.
struct Found {
    scale: Scale,
    /// Whether numbers must be whole.
    is_whole: bool,
    values: Vec<f32>,
    /// Numbers found, whether they are kept or not.
    count: usize,
    /// Numbers out of range, and the first of them with its index.
    outside: usize,
    first: Option<(usize, f64)>,
}

impl Found {
    fn new(scale: Scale, is_whole: bool) -> Self {
        Self { scale, is_whole, values: Vec::new(), count: 0, outside: 0, first: None }
    }

    fn push(&mut self, number: f64) {
        let most = self.scale.most();
        if (0.0..=most).contains(&number) && !(self.is_whole && number.fract() != 0.0) {
            self.values.push((number / most) as f32);
        } else {
            self.outside += 1;
            self.first.get_or_insert((self.count, number));
        }
        self.count += 1;
    }

    fn raw(&mut self, datatype: Datatype, bytes: &[u8]) {
        match datatype {
            Datatype::Fp32 => {
                let (numbers, _) = bytes.as_chunks::<4>();
                numbers.iter().for_each(|&number| self.push(f32::from_le_bytes(number).into()));
            }
            Datatype::Fp64 => {
                let (numbers, _) = bytes.as_chunks::<8>();
                numbers.iter().for_each(|&number| self.push(f64::from_le_bytes(number)));
            }
            _ => bytes.iter().for_each(|&number| self.push(number.into())),
        }
    }

    /// Numbers beyond `count_max` are counted, but not kept.
    fn json(&mut self, text: &[u8], count_max: usize) -> Result<(), InferError> {
        let mut has_text = false;
        let parsed = elements(text, |element| {
            match element {
                Element::Number(_) if self.count >= count_max => self.count += 1,
                Element::Number(number) => self.push(number),
                Element::Text(_) => has_text = true,
            }
            !has_text
        });
        let parsed = match has_text {
            true => Err("its data has a text; only BYTES are texts".to_owned()),
            false => parsed,
        };
        parsed.map_err(|why| InferError::Invalid(format!("input '{INPUT}': {why}")))
    }

    fn finish(self, wanted: usize, of_image: usize) -> Result<Vec<f32>, InferError> {
        if self.count != wanted {
            return Err(InferError::Invalid(format!(
                "input '{INPUT}': its shape has {wanted} elements, but its data has {}",
                self.count
            )));
        }
        let Some((index, number)) = self.first else { return Ok(self.values) };
        let most = self.scale.most();
        let whole = if self.is_whole { "whole numbers " } else { "" };
        let advice = match self.scale {
            Scale::Byte => {
                "pixels have values from 0 to 255, or from 0 to 1 with the parameter \"scale\": \"unit\""
            }
            Scale::Unit => "leave out the parameter \"scale\": \"unit\" if pixels have values from 0 to 255",
        };
        Err(InferError::Invalid(format!(
            "input '{INPUT}': {} of its {wanted} elements are not {whole}from 0 to {most}; the first is {number}, element \
             {} of image {}; {advice}",
            self.outside,
            index % of_image,
            index / of_image,
        )))
    }
}
