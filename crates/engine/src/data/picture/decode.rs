use image::{DynamicImage, GrayImage};

use super::header::PictureHeader;
use super::{
    PREPARED_FIXED_BYTES, PREPARED_PIXEL_BYTES, PictureError, PictureLimits, SizeLimit, ink, jpeg, png,
};

/// Largest number of scans in a JPEG. Common encoders write about ten.
pub(super) const SCANS_MAX: u32 = 100;

/// The cost of turning a file into an image of 784 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PicturePrice {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Number of pixels times the number of passes the decoder makes over them.
    pub pixel_passes: u64,
    /// Upper bound of the bytes that [`decode`] and [`prepare`](super::prepare) allocate at one time. The
    /// file itself is not counted.
    pub memory_bytes: u64,
}

/// The supported file formats.
#[derive(Clone, Copy)]
enum Format {
    Png,
    Jpeg,
}

/// A file whose headers have been read.
enum Opened {
    Png,
    Jpeg(jpeg::Markers),
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&png::SIGNATURE) {
            Some(Self::Png)
        } else if bytes.starts_with(&jpeg::SIGNATURE) {
            Some(Self::Jpeg)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
        }
    }
}

/// `png` or `jpeg`, if the bytes start like such a file.
pub fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    Format::of(bytes).map(Format::name)
}

/// The cost of decoding a picture with [`decode`] and preparing it with [`prepare`](super::prepare). Only the headers
/// are read, and nothing is allocated in proportion to the number of pixels.
///
/// # Errors
/// If the bytes are not a picture, its headers are corrupt, or it exceeds the limits.
pub fn price(bytes: &[u8], limits: &PictureLimits) -> Result<PicturePrice, PictureError> {
    open(bytes, limits).map(|(_, _, price)| price)
}

/// Decodes the grey levels of a PNG or JPEG, turned according to its Exif orientation. The format is detected
/// from the content.
///
/// Transparent pixels are put on white, or on black if the picture would show nothing on white. It allocates at most
/// the memory that [`price`] reports.
///
/// # Errors
/// If the bytes are not a picture, are corrupt, or exceed the limits. The limits are checked before the
/// pixels are allocated.
pub fn decode(bytes: &[u8], limits: &PictureLimits) -> Result<GrayImage, PictureError> {
    let (opened, header, _) = open(bytes, limits)?;
    let grey = match opened {
        Opened::Png => png::decode(bytes, &header).map_err(|_| damaged(Format::Png))?,
        Opened::Jpeg(markers) => markers.decode(bytes).map_err(|_| damaged(Format::Jpeg))?,
    };
    let mut grey = DynamicImage::ImageLuma8(grey);
    grey.apply_orientation(header.orientation);
    Ok(grey.into_luma8())
}

fn damaged(format: Format) -> PictureError {
    PictureError::Damaged { format: format.name() }
}

fn open(bytes: &[u8], limits: &PictureLimits) -> Result<(Opened, PictureHeader, PicturePrice), PictureError> {
    let format = Format::of(bytes).ok_or(PictureError::NotAPicture)?;
    let (opened, header) = match format {
        Format::Png => (Opened::Png, png::header(bytes).ok_or_else(|| damaged(format))?),
        Format::Jpeg => {
            let markers = jpeg::Markers::read(bytes).ok_or_else(|| damaged(format))?;
            let header = markers.header(bytes.len());
            (Opened::Jpeg(markers), header)
        }
    };
    let (width, height) = (header.width, header.height);
    let too_large = |limit| PictureError::TooLarge { width, height, limit };
    if width > limits.width_max || height > limits.height_max {
        let (width_max, height_max) = (limits.width_max, limits.height_max);
        return Err(too_large(SizeLimit::Sides { width_max, height_max }));
    }
    if header.passes > SCANS_MAX {
        return Err(too_large(SizeLimit::Scans { scans: header.passes, max: SCANS_MAX }));
    }
    let memory_bytes = header.peak_bytes.max(header.kept_bytes + preparation_bytes(width, height));
    if memory_bytes > limits.alloc_bytes_max {
        return Err(too_large(SizeLimit::Bytes { needed: memory_bytes, max: limits.alloc_bytes_max }));
    }
    let pixel_passes = header.pixels() * u64::from(header.passes);
    Ok((opened, header, PicturePrice { width, height, pixel_passes, memory_bytes }))
}

/// Upper bound of the bytes that [`prepare`](super::prepare) allocates, in addition to the picture.
fn preparation_bytes(width: u32, height: u32) -> u64 {
    let (width, height) = ink::reduced(width as usize, height as usize);
    let pixels = width as u64 * height as u64;
    pixels * PREPARED_PIXEL_BYTES + PREPARED_FIXED_BYTES
}
