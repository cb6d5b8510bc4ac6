//! Parses the numbers of images directly to values. Errors have no text, because a [`report`](super::report)
//! finds the faults.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::{ImageSize, Scale};

/// The value of each byte.
pub static OF_BYTES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        values[byte] = (byte as f64 / 255.0) as f32;
        byte += 1;
    }
    values
};

/// Parses a list of images.
pub struct ListSeed {
    /// The most images that are accepted.
    pub room: usize,
    pub scale: Scale,
    pub size: ImageSize,
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
        let Self { room, scale, size } = self;
        let numbers_max = room * size.numbers();
        let mut values = Vec::with_capacity(numbers_max);
        while values.len() < numbers_max {
            if seq.next_element_seed(ImageSeed { values: &mut values, scale, size })?.is_none() {
                return if values.is_empty() { Err(A::Error::custom("")) } else { Ok(values) };
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(values),
            Some(_) => Err(A::Error::custom("")),
        }
    }
}

/// Parses an image and appends its values.
pub struct ImageSeed<'a> {
    pub values: &'a mut Vec<f32>,
    pub scale: Scale,
    pub size: ImageSize,
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
        let Self { values, scale, size: ImageSize { rows, columns } } = self;
        let numbers = rows * columns;
        values.reserve_exact(numbers);
        let start = values.len();
        let Some(first) = seq.next_element_seed(FirstElement { values: &mut *values, scale, columns })?
        else {
            return Err(A::Error::custom(""));
        };
        match first {
            Some(value) => {
                values.push(value);
                while let Some(value) = seq.next_element_seed(Pixel(scale))? {
                    if values.len() - start == numbers {
                        return Err(A::Error::custom(""));
                    }
                    values.push(value);
                }
            }
            None => {
                let mut found = 1;
                while found < rows
                    && seq.next_element_seed(Row { values: &mut *values, scale, columns })?.is_some()
                {
                    found += 1;
                }
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom(""));
                }
            }
        }
        if values.len() - start == numbers { Ok(()) } else { Err(A::Error::custom("")) }
    }
}

/// Parses the first element of an image. Returns it if it is a number; appends its values if it is a row.
struct FirstElement<'a> {
    values: &'a mut Vec<f32>,
    scale: Scale,
    columns: usize,
}

impl<'de> DeserializeSeed<'de> for FirstElement<'_> {
    type Value = Option<f32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f32>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FirstElement<'_> {
    type Value = Option<f32>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<f32>, A::Error> {
        Row { values: self.values, scale: self.scale, columns: self.columns }.visit_seq(seq).map(|()| None)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<f32>, E> {
        Pixel(self.scale).visit_u64(value).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Option<f32>, E> {
        Pixel(self.scale).visit_f64(value).map(Some)
    }
}

/// Parses a row and appends its values.
struct Row<'a> {
    values: &'a mut Vec<f32>,
    scale: Scale,
    columns: usize,
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
        for _ in 0..self.columns {
            let value = seq.next_element_seed(Pixel(self.scale))?;
            self.values.push(value.ok_or_else(|| A::Error::custom(""))?);
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("")),
        }
    }
}

/// Parses a number.
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
