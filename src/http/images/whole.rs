//! The most frequent bodies, `{"image": …}` and `{"images": …}` of whole numbers from 0 to 255, in one pass over their
//! bytes. Anything else in a body, valid or not, is left to the parser of JSON.

use super::pixels::OF_BYTES;
use super::{ImageSize, images_at_most};

/// Parses the images of a body. Returns `None` for a body that needs the parser of JSON.
pub fn read(body: &[u8], size: ImageSize, images_max: usize) -> Option<Vec<f32>> {
    let mut text = Text { bytes: body, at: 0 };
    text.token(b'{')?;
    let several = match text.name()? {
        b"image" => false,
        b"images" => true,
        _ => return None,
    };
    text.token(b':')?;
    let count_max = if several { images_at_most(body.len(), size, images_max) } else { 1 };
    let mut values = Vec::with_capacity(count_max * size.numbers());
    if several {
        text.token(b'[')?;
        for count in 1.. {
            text.image(size, &mut values)?;
            match text.next()? {
                b',' if count < count_max => {}
                b']' => break,
                _ => return None,
            }
        }
    } else {
        text.image(size, &mut values)?;
    }
    text.token(b'}')?;
    text.next().is_none().then_some(values)
}

/// A body and the index of the next byte.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// Takes the next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
        }
    }

    fn token(&mut self, token: u8) -> Option<()> {
        (self.next()? == token).then_some(())
    }

    /// Takes a string without escapes.
    fn name(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let rest = &self.bytes[self.at..];
        let name = &rest[..rest.iter().position(|&byte| byte == b'"')?];
        self.at += name.len() + 1;
        Some(name)
    }

    /// Appends the values of an image, given as numbers or as rows of numbers.
    fn image(&mut self, ImageSize { rows, columns }: ImageSize, values: &mut Vec<f32>) -> Option<()> {
        self.token(b'[')?;
        let begin = self.at;
        if self.next()? != b'[' {
            self.at = begin;
            return self.numbers(rows * columns, values);
        }
        for row in 1..=rows {
            self.numbers(columns, values)?;
            if row < rows {
                self.token(b',')?;
                self.token(b'[')?;
            }
        }
        self.token(b']')
    }

    /// Appends the values of exactly `count` numbers and takes the bracket after them.
    fn numbers(&mut self, count: usize, values: &mut Vec<f32>) -> Option<()> {
        for last in (0..count).rev() {
            let first = self.next()?.wrapping_sub(b'0');
            if first > 9 {
                return None;
            }
            let mut number = usize::from(first);
            loop {
                let digit = self.bytes.get(self.at)?.wrapping_sub(b'0');
                if digit > 9 {
                    break;
                }
                // JSON has no leading zeros.
                if number == 0 || number > 25 {
                    return None;
                }
                number = 10 * number + usize::from(digit);
                self.at += 1;
            }
            values.push(*OF_BYTES.get(number)?);
            let separator = if last == 0 { b']' } else { b',' };
            self.token(separator)?;
        }
        Some(())
    }
}
