//! Images as JSON: rows of numbers, or all numbers in one list, parsed directly to the values of a network's input.
//! If that fails, the text is parsed again to report all faults.

mod any;
mod pixels;
mod report;
mod shape;
mod stray;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use self::pixels::{ImageSeed, ListSeed};
use crate::fields::Fault;
use crate::nn::Shape;

/// The least length of a number in JSON, in bytes: a digit, and a comma or bracket.
const NUMBER_BYTES_MIN: usize = 2;

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// Number of rows.
    pub rows: usize,
    /// Numbers in a row.
    pub columns: usize,
}

impl ImageSize {
    /// Returns the number of numbers in an image.
    pub fn numbers(self) -> usize {
        self.rows * self.columns
    }
}

impl From<Shape> for ImageSize {
    /// The values of a pixel stand next to each other.
    fn from(input: Shape) -> Self {
        Self { rows: input.height, columns: input.width * input.channels }
    }
}

/// The range of pixel values: 0–255 or 0–1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Byte,
    Unit,
}

impl Scale {
    fn named(name: &str) -> Option<Self> {
        match name {
            "byte" => Some(Self::Byte),
            "unit" => Some(Self::Unit),
            _ => None,
        }
    }

    /// Returns the value of the brightest pixel.
    fn most(self) -> f64 {
        match self {
            Self::Byte => 255.0,
            Self::Unit => 1.0,
        }
    }
}

/// Parses `{"image": …}` or `{"images": […]}`, with `"scale": "byte"` (0–255, the default) or `"unit"` (0–1). Returns the
/// values of all images, one image after the other, from 0 to 1.
///
/// # Errors
/// Returns `Ok(Err(faults))` for JSON of the wrong shape, and `Err` for a syntax error.
pub fn parse(
    body: &[u8],
    size: ImageSize,
    images_max: usize,
) -> Result<Result<Vec<f32>, Vec<Fault>>, serde_json::Error> {
    match whole::read(body, size, images_max).or_else(|| read(body, size, images_max)) {
        Some(images) => Ok(Ok(images)),
        None => report::faults(body, size, images_max).map(Err),
    }
}

/// Converts an image and its scale, which are parts of a larger request.
///
/// # Errors
/// Returns all faults, with pointers to `/image` and `/scale`.
pub fn from_value(image: &Value, scale: Option<&Value>, size: ImageSize) -> Result<Vec<f32>, Vec<Fault>> {
    let known = scale.map_or(Some(Scale::Byte), |scale| Scale::named(scale.as_str()?));
    let mut values = Vec::new();
    match known.map(|scale| ImageSeed { values: &mut values, scale, size }.deserialize(image)) {
        Some(Ok(())) => Ok(values),
        _ => Err(report::faults_of_value(image, scale, size)),
    }
}

/// Returns the most bytes that [`parse`] allocates for a body of `body_bytes`.
pub fn price(body_bytes: usize, size: ImageSize, images_max: usize) -> usize {
    // In the worst case, every character of a name is escaped. The name is then unescaped into a buffer that
    // grows.
    images_at_most(body_bytes, size, images_max) * size.numbers() * size_of::<f32>() + 3 * body_bytes
}

fn images_at_most(body_bytes: usize, size: ImageSize, images_max: usize) -> usize {
    images_max.min(body_bytes / (NUMBER_BYTES_MIN * size.numbers()) + 1)
}

/// Parses the images of a body without faults.
fn read(body: &[u8], size: ImageSize, images_max: usize) -> Option<Vec<f32>> {
    let (images, given) = read_as(body, size, images_max, likely_scale(body))?;
    if let Some(images) = images {
        return Some(images);
    }
    // The scale came after the images and differs from the guess.
    read_as(body, size, images_max, given)?.0
}

/// Guesses the scale from the end of a body, since it may come after the images.
fn likely_scale(body: &[u8]) -> Scale {
    let end = &body[body.len().saturating_sub(32)..];
    if end.windows(6).any(|word| word == b"\"unit\"") { Scale::Unit } else { Scale::Byte }
}

/// Parses the images of a body. Assumes the scale `assumed` unless the scale comes before the images. Returns
/// the real scale, and the images if the assumption was right.
fn read_as(
    body: &[u8],
    size: ImageSize,
    images_max: usize,
    assumed: Scale,
) -> Option<(Option<Vec<f32>>, Scale)> {
    let mut text = serde_json::Deserializer::from_slice(body);
    let room = images_at_most(body.len(), size, images_max);
    let mut request = Request { scale: assumed, given: None, values: None, room, size };
    (&mut request).deserialize(&mut text).ok()?;
    text.end().ok()?;
    let given = request.given.unwrap_or(Scale::Byte);
    let values = request.values?;
    Some(((given == request.scale).then_some(values), given))
}

/// The parsed part of a request.
struct Request {
    /// The scale with which images are parsed.
    scale: Scale,
    given: Option<Scale>,
    values: Option<Vec<f32>>,
    /// The most images that are accepted.
    room: usize,
    size: ImageSize,
}

/// The fields of a request.
enum Name {
    Image,
    Images,
    Scale,
}

impl<'de> DeserializeSeed<'de> for &mut Request {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Request {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with image or images")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Word(name))? {
            match name {
                Name::Image | Name::Images if self.values.is_some() => return Err(A::Error::custom("")),
                Name::Image => {
                    let mut values = Vec::new();
                    map.next_value_seed(ImageSeed {
                        values: &mut values,
                        scale: self.scale,
                        size: self.size,
                    })?;
                    self.values = Some(values);
                }
                Name::Images => {
                    let Request { room, scale, size, .. } = *self;
                    self.values = Some(map.next_value_seed(ListSeed { room, scale, size })?);
                }
                Name::Scale if self.given.is_some() => return Err(A::Error::custom("")),
                Name::Scale => {
                    let given = map.next_value_seed(Word(Scale::named))?;
                    self.given = Some(given);
                    if self.values.is_none() {
                        self.scale = given;
                    }
                }
            }
        }
        Ok(())
    }
}

fn name(name: &str) -> Option<Name> {
    match name {
        "image" => Some(Name::Image),
        "images" => Some(Name::Images),
        "scale" => Some(Name::Scale),
        _ => None,
    }
}

/// Parses a string as one of several words.
struct Word<F>(F);

impl<'de, T, F: Fn(&str) -> Option<T>> DeserializeSeed<'de> for Word<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Word<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a word that is known")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        self.0(word).ok_or_else(|| E::custom(""))
    }
}
