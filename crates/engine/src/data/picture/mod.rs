//! Decodes PNG and JPEG pictures into images in the form of MNIST, and encodes images as PNG.

mod components;
mod decode;
mod fit;
mod frame;
mod grey;
mod header;
mod ink;
mod jpeg;
mod paper;
mod png;
mod sheet;
#[cfg(test)]
mod tests;

use std::fmt;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder};

use super::{IMAGE_PIXELS, IMAGE_SIDE};

pub use decode::{PicturePrice, decode, looks_like, price};
pub use sheet::{ColorMap, Tile, sheet, sheet_size};

/// Limits for a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// Largest width in pixels.
    pub width_max: u32,
    /// Largest height in pixels.
    pub height_max: u32,
    /// Largest number of bytes allocated at one time while it is decoded and prepared. The file itself is not counted.
    pub alloc_bytes_max: u64,
}

/// The way from a decoded picture to an image of 784 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// [`prepare`]: cropped, scaled and centred as in MNIST.
    Mnist,
    /// [`as_is`]: the pixels of a 28x28 picture, unchanged.
    AsIs,
}

/// The limit that a picture exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant describes its limit and the number that exceeds it")]
pub enum SizeLimit {
    /// Width and height, in pixels.
    Sides { width_max: u32, height_max: u32 },
    /// Number of scans of a JPEG. Each one passes over all pixels.
    Scans { scans: u32, max: u32 },
    /// Bytes allocated while it is decoded and prepared.
    Bytes { needed: u64, max: u64 },
}

/// The reason why bytes can't be turned into an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum PictureError {
    #[error("not a png or jpeg picture")]
    NotAPicture,
    /// The picture exceeds a limit. This is detected from its headers.
    #[error("a picture of {width}x{height} pixels is too large: {limit}")]
    TooLarge { width: u32, height: u32, limit: SizeLimit },
    #[error("a damaged {format} picture: its bytes are cut off or wrong")]
    Damaged { format: &'static str },
    /// The picture has a single brightness, or only noise.
    #[error("the picture is blank, or holds nothing that could be a digit")]
    Blank,
    /// The picture is not 28x28, although it should be used without preparation.
    #[error("a picture of {width}x{height} pixels, expected {IMAGE_SIDE}x{IMAGE_SIDE}")]
    WrongSize { width: u32, height: u32 },
}

impl fmt::Display for SizeLimit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Sides { width_max, height_max } => write!(f, "at most {width_max}x{height_max} are taken"),
            Self::Scans { scans, max } => {
                write!(f, "it has {scans} scans, each over all pixels, at most {max} are taken")
            }
            Self::Bytes { needed, max } => {
                write!(f, "decoding needs {needed} bytes, at most {max} are allowed")
            }
        }
    }
}

/// Bytes allocated per pixel of the reduced picture while it is prepared. In the worst case every fourth
/// pixel is a connected component of its own:
///
/// - 4 for the ink,
/// - 9 for the components with frames,
/// - 9 for the components without frames, and 4 more while their list grows,
/// - 2 for the pixels still to be visited.
const PREPARED_PIXEL_BYTES: u64 = 28;

/// Bytes allocated regardless of the size: the samples for the paper's brightness, rows and weights.
const PREPARED_FIXED_BYTES: u64 = 3 << 20;

/// Decodes a picture and prepares it: 784 pixels, row by row, with 0 as background.
///
/// # Errors
/// See [`decode`], [`prepare`] and [`as_is`].
pub fn read(
    bytes: &[u8],
    preparation: Preparation,
    limits: &PictureLimits,
) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let picture = decode(bytes, limits)?;
    match preparation {
        Preparation::Mnist => prepare(&picture),
        Preparation::AsIs => as_is(&picture),
    }
}

/// Brings a picture into the form of MNIST: 784 pixels, row by row, with 0 as background.
///
/// As described on the MNIST page by LeCun, Cortes and Burges, the digit's bounding box is scaled into 20x20
/// pixels with its aspect ratio kept. Its centre of mass is put at the centre of 28x28 pixels.
///
/// The digit is found first. The background is what covers most of the picture. It may be light or dark, and its
/// brightness is subtracted. Noise, specks and a frame around the digit are removed.
///
/// # Errors
/// If no digit can be found.
pub fn prepare(picture: &GrayImage) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let mut ink = ink::find(picture).ok_or(PictureError::Blank)?;
    let digit = components::digit(&mut ink).ok_or(PictureError::Blank)?;
    Ok(fit::fit(&ink, digit))
}

/// The pixels of a 28x28 picture, unchanged.
///
/// # Errors
/// If the picture has another size.
pub fn as_is(picture: &GrayImage) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let (width, height) = picture.dimensions();
    if (width as usize, height as usize) != (IMAGE_SIDE, IMAGE_SIDE) {
        return Err(PictureError::WrongSize { width, height });
    }
    Ok(std::array::from_fn(|index| picture.as_raw()[index]))
}

/// Encodes 784 pixels, row by row, as a greyscale PNG of 28x28 pixels.
///
/// # Panics
/// If there are not 784 pixels.
pub fn to_png(pixels: &[u8]) -> Vec<u8> {
    assert_eq!(pixels.len(), IMAGE_PIXELS, "pixels of an image");
    let side = IMAGE_SIDE as u32;
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(pixels, side, side, ExtendedColorType::L8)
        .expect("a buffer of the right size is encoded into memory");
    png
}
