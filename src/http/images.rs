//! Images as JSON: 28 rows of 28 numbers or 784 numbers, read straight to the values that a network takes. Where they can't
//! be taken so, the text is read once more to note all faults.

mod report;
mod stray;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::fields::Fault;

/// Bytes of an image in JSON, at least: a digit and a comma or bracket for each number.
const IMAGE_BYTES_MIN: usize = 2 * IMAGE_PIXELS;

/// The values of all bytes.
static OF_BYTES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        values[byte] = (byte as f64 / 255.0) as f32;
        byte += 1;
    }
    values
};

/// The images of a request, each of 784 values from 0 to 1.
#[derive(Debug, PartialEq)]
pub struct Images {
    /// Value after value, image after image.
    pub values: Vec<f32>,
    /// Number of images.
    pub count: usize,
}

/// How bright 1 is.
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

    /// The number of the brightest pixel.
    fn most(self) -> f64 {
        match self {
            Self::Byte => 255.0,
            Self::Unit => 1.0,
        }
    }
}

/// Reads `{"image": …}` or `{"images": […]}`, with `"scale": "byte"` (0–255, the default) or
/// `"unit"` (0–1).
///
/// # Errors
/// `Ok(Err(faults))` for JSON of the wrong shape, `Err` for what is no JSON.
pub fn parse(body: &[u8], images_max: usize) -> Result<Result<Images, Vec<Fault>>, serde_json::Error> {
    match read(body, images_max) {
        Some(images) => Ok(Ok(images)),
        None => report::faults(body, images_max).map(Err),
    }
}

/// One image, and the scale it is told with, out of a larger request.
///
/// # Errors
/// All faults, with pointers to `/image` and `/scale`.
pub fn from_value(image: &Value, scale: Option<&Value>) -> Result<Vec<f32>, Vec<Fault>> {
    let known = scale.map_or(Some(Scale::Byte), |scale| Scale::named(scale.as_str()?));
    let mut values = Vec::new();
    match known.map(|scale| ImageSeed { values: &mut values, scale }.deserialize(image)) {
        Some(Ok(())) => Ok(values),
        _ => Err(report::faults_of_value(image, scale)),
    }
}

/// Bytes that [`parse`] holds at most for a body of `body_bytes`, itself not counted.
#[allow(dead_code, reason = "asked for before a body is read")]
pub fn price(body_bytes: usize, images_max: usize) -> usize {
    // A name in which every character is escaped is unescaped into a buffer that grows.
    images_at_most(body_bytes, images_max) * IMAGE_PIXELS * size_of::<f32>() + 3 * body_bytes
}

fn images_at_most(body_bytes: usize, images_max: usize) -> usize {
    images_max.min(body_bytes / IMAGE_BYTES_MIN + 1)
}

/// The images of a body, if there is nothing wrong with it.
fn read(body: &[u8], images_max: usize) -> Option<Images> {
    let (images, told) = read_as(body, images_max, Scale::Byte)?;
    if let Some(images) = images {
        return Some(images);
    }
    // The scale came after the images, and was not the usual one.
    read_as(body, images_max, told)?.0
}

/// The images of a body if they are of the scale `assumed`, unless it is told before them; and the scale they are of.
fn read_as(body: &[u8], images_max: usize, assumed: Scale) -> Option<(Option<Images>, Scale)> {
    let mut text = serde_json::Deserializer::from_slice(body);
    let room = images_at_most(body.len(), images_max);
    let mut request = Request { scale: assumed, told: None, values: None, room };
    (&mut request).deserialize(&mut text).ok()?;
    text.end().ok()?;
    let told = request.told.unwrap_or(Scale::Byte);
    let values = request.values?;
    let count = values.len() / IMAGE_PIXELS;
    Some(((told == request.scale).then_some(Images { values, count }), told))
}

/// A request as far as it is read.
struct Request {
    /// The scale that images are read in.
    scale: Scale,
    told: Option<Scale>,
    values: Option<Vec<f32>>,
    /// Images that may be read.
    room: usize,
}

/// The names of a request.
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
                    map.next_value_seed(ImageSeed { values: &mut values, scale: self.scale })?;
                    self.values = Some(values);
                }
                Name::Images => {
                    self.values = Some(map.next_value_seed(ListSeed { room: self.room, scale: self.scale })?);
                }
                Name::Scale if self.told.is_some() => return Err(A::Error::custom("")),
                Name::Scale => {
                    let told = map.next_value_seed(Word(Scale::named))?;
                    self.told = Some(told);
                    if self.values.is_none() {
                        self.scale = told;
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

/// Takes a string for one of some words.
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

/// Reads the images of a list.
struct ListSeed {
    room: usize,
    scale: Scale,
}

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = Vec<f32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f32>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("images")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f32>, A::Error> {
        let mut values = Vec::with_capacity(self.room * IMAGE_PIXELS);
        while values.len() < self.room * IMAGE_PIXELS {
            if seq.next_element_seed(ImageSeed { values: &mut values, scale: self.scale })?.is_none() {
                return if values.is_empty() { Err(A::Error::custom("")) } else { Ok(values) };
            }
        }
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(values),
            Some(_) => Err(A::Error::custom("")),
        }
    }
}

/// Reads one image.
struct ImageSeed<'a> {
    values: &'a mut Vec<f32>,
    scale: Scale,
}

impl<'de> DeserializeSeed<'de> for ImageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ImageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("rows or numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { values, scale } = self;
        values.reserve_exact(IMAGE_PIXELS);
        let start = values.len();
        let mut rows = 0;
        let Some(first) = seq.next_element_seed(Element { values: &mut *values, scale })? else {
            return Err(A::Error::custom(""));
        };
        match first {
            Some(value) => {
                values.push(value);
                while let Some(value) = seq.next_element_seed(Pixel(scale))? {
                    if values.len() - start == IMAGE_PIXELS {
                        return Err(A::Error::custom(""));
                    }
                    values.push(value);
                }
            }
            None => {
                rows = 1;
                while rows < IMAGE_SIDE
                    && seq.next_element_seed(Row { values: &mut *values, scale })?.is_some()
                {
                    rows += 1;
                }
                if seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom(""));
                }
            }
        }
        if values.len() - start == IMAGE_PIXELS { Ok(()) } else { Err(A::Error::custom(rows)) }
    }
}

/// Reads the first element of an image: a number, which it gives, or a row.
struct Element<'a> {
    values: &'a mut Vec<f32>,
    scale: Scale,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<f32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f32>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Option<f32>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<f32>, A::Error> {
        Row { values: self.values, scale: self.scale }.visit_seq(seq).map(|()| None)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<f32>, E> {
        Pixel(self.scale).visit_u64(value).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Option<f32>, E> {
        Pixel(self.scale).visit_f64(value).map(Some)
    }
}

/// Reads one row.
struct Row<'a> {
    values: &'a mut Vec<f32>,
    scale: Scale,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for _ in 0..IMAGE_SIDE {
            let value = seq.next_element_seed(Pixel(self.scale))?;
            self.values.push(value.ok_or_else(|| A::Error::custom(""))?);
        }
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("")),
        }
    }
}

/// Reads one number.
struct Pixel(Scale);

impl<'de> DeserializeSeed<'de> for Pixel {
    type Value = f32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f32, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

impl Visitor<'_> for Pixel {
    type Value = f32;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a number from 0 to {}", self.0.most())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f32, E> {
        match self.0 {
            Scale::Byte => OF_BYTES.get(value as usize).copied().ok_or_else(|| E::custom("")),
            Scale::Unit if value <= 1 => Ok(value as f32),
            Scale::Unit => Err(E::custom("")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f32, E> {
        let most = self.0.most();
        if (0.0..=most).contains(&value) { Ok((value / most) as f32) } else { Err(E::custom("")) }
    }
}
