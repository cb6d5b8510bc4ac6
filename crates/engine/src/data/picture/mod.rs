//! Pictures: PNG and JPEG to images in the form of MNIST, and images to PNG.

mod decode;
mod fit;
mod frame;
mod grey;
mod ink;
mod jpeg;
mod outline;
mod paper;
mod parts;
mod png;
mod sheet;
#[cfg(test)]
mod tests;

use std::fmt;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder};

use super::{IMAGE_PIXELS, IMAGE_SIDE};

pub use decode::{PicturePrice, decode, looks_like, price};
pub use sheet::{Shade, Tile, sheet, sheet_size};

/// What a picture may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// Width in pixels.
    pub width_max: u32,
    /// Height in pixels.
    pub height_max: u32,
    /// Bytes held at one time while it is decoded and prepared, the file itself not counted.
    pub alloc_bytes_max: u64,
}

/// A limit that a picture is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// Width and height in pixels.
    Sides {
        /// Most pixels in a row.
        width_max: u32,
        /// Most rows.
        height_max: u32,
    },
    /// How often its pixels are gone over.
    Scans {
        /// What it would take.
        scans: u32,
        /// What it may take.
        max: u32,
    },
    /// Bytes it takes to decode.
    Bytes {
        /// What it would take.
        needed: u64,
        /// What it may take.
        max: u64,
    },
}

/// Bytes that are no picture, or a picture that shows nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// Another kind of file.
    #[error("not a png or jpeg picture")]
    NotAPicture,
    /// Beyond a limit; told by its header alone.
    #[error("a picture of {width}x{height} pixels is too large: {limit}")]
    TooLarge {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The limit.
        limit: SizeLimit,
    },
    /// Its bytes are cut off or wrong.
    #[error("a damaged {format} picture: its bytes are cut off or wrong")]
    Damaged {
        /// `png` or `jpeg`.
        format: &'static str,
    },
    /// Of one brightness, or nothing but noise.
    #[error("the picture is blank, or holds nothing that could be a digit")]
    Blank,
    /// Not 28x28, where nothing is to be done to it.
    #[error("a picture of {width}x{height} pixels, expected {IMAGE_SIDE}x{IMAGE_SIDE}")]
    WrongSize {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
}

impl fmt::Display for SizeLimit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Sides { width_max, height_max } => write!(f, "at most {width_max}x{height_max} are taken"),
            Self::Scans { scans, max } => {
                write!(f, "it has {scans} scans, each over all pixels, at most {max} are taken")
            }
            Self::Bytes { needed, max } => {
                write!(f, "it takes {needed} bytes to decode, at most {max} are given")
            }
        }
    }
}

/// Bytes held for each place of the reduced picture while it is prepared. The worst case is a picture in which every fourth
/// place is a part of its own:
///
/// - 4 for the ink,
/// - 9 for the parts with frames,
/// - 9 for the parts without, and 4 more while the list of these grows,
/// - 2 for what is still to be seen.
const PREPARED_PLACE_BYTES: u64 = 28;

/// Bytes held besides: the samples that the light on the paper is told from, rows and weights.
const PREPARED_FIXED_BYTES: u64 = 3 << 20;

/// Brings a picture to the form of MNIST: 784 pixels, row by row, 0 = background.
///
/// As the MNIST page by LeCun, Cortes and Burges tells it, the digit's box is scaled into 20x20
/// keeping its proportions, and its centre of mass is put in the centre of 28x28. Before that the
/// digit is found: the background is whatever covers most of the picture, be it light or dark; its
/// level is taken off; noise, specks and a frame around the digit are left out.
///
/// # Errors
/// If there is no digit to see.
pub fn prepare(picture: &GrayImage) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let mut ink = ink::find(picture).ok_or(PictureError::Blank)?;
    let digit = parts::digit(&mut ink).ok_or(PictureError::Blank)?;
    Ok(fit::fit(&ink, digit))
}

/// The pixels of a 28x28 picture, as they are.
///
/// # Errors
/// If it has another size.
pub fn as_is(picture: &GrayImage) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let (width, height) = picture.dimensions();
    if (width as usize, height as usize) != (IMAGE_SIDE, IMAGE_SIDE) {
        return Err(PictureError::WrongSize { width, height });
    }
    Ok(std::array::from_fn(|index| picture.as_raw()[index]))
}

/// A grey 28x28 PNG of 784 pixels, row by row.
///
/// # Panics
/// If there are not 784.
pub fn to_png(pixels: &[u8]) -> Vec<u8> {
    assert_eq!(pixels.len(), IMAGE_PIXELS, "pixels of an image");
    let side = IMAGE_SIDE as u32;
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(pixels, side, side, ExtendedColorType::L8)
        .expect("a buffer of the right size is encoded into memory");
    png
}
