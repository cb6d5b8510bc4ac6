use image::{DynamicImage, GrayImage};

use super::outline::Outline;
use super::{
    PREPARED_FIXED_BYTES, PREPARED_PLACE_BYTES, PictureError, PictureLimits, SizeLimit, ink, jpeg, png,
};

/// How often a JPEG may go over its pixels; programs that write them do so about ten times.
pub(super) const SCANS_MAX: u32 = 100;

/// What it takes to turn a file into an image of 784 pixels, known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PicturePrice {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The work: how many pixels the decoder goes over, each as often as it does.
    pub pixel_passes: u64,
    /// Bytes that [`decode`] and [`prepare`](super::prepare) hold at most at one time, the file itself not counted.
    pub memory_bytes: u64,
}

/// The kinds of files that are read.
#[derive(Clone, Copy)]
enum Format {
    Png,
    Jpeg,
}

/// A file whose header is read.
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

/// `png` or `jpeg`, where bytes begin as such a file does.
pub fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    Format::of(bytes).map(Format::name)
}

/// What it would take to [`decode`] a picture and [`prepare`](super::prepare) it, told by the headers in its file; the pixels are
/// not looked at, and nothing is held that grows with their number.
///
/// # Errors
/// If it is no picture, its headers are damaged, or it is beyond the limits.
pub fn price(bytes: &[u8], limits: &PictureLimits) -> Result<PicturePrice, PictureError> {
    open(bytes, limits).map(|(_, _, price)| price)
}

/// The grey levels of a PNG or JPEG, told by its content; turned as its Exif orientation says.
///
/// What is transparent is composed on white; or on black, where on white nothing would be seen. It holds no more than its
/// [`price`].
///
/// # Errors
/// If it is no picture, damaged, or beyond the limits, which is told before anything of its size is allocated.
pub fn decode(bytes: &[u8], limits: &PictureLimits) -> Result<GrayImage, PictureError> {
    let (opened, outline, _) = open(bytes, limits)?;
    let grey = match opened {
        Opened::Png => png::decode(bytes, &outline).map_err(|_| damaged(Format::Png))?,
        Opened::Jpeg(markers) => markers.decode(bytes).map_err(|_| damaged(Format::Jpeg))?,
    };
    let mut grey = DynamicImage::ImageLuma8(grey);
    grey.apply_orientation(outline.orientation);
    Ok(grey.into_luma8())
}

fn damaged(format: Format) -> PictureError {
    PictureError::Damaged { format: format.name() }
}

fn open(bytes: &[u8], limits: &PictureLimits) -> Result<(Opened, Outline, PicturePrice), PictureError> {
    let format = Format::of(bytes).ok_or(PictureError::NotAPicture)?;
    let (opened, outline) = match format {
        Format::Png => (Opened::Png, png::outline(bytes).ok_or_else(|| damaged(format))?),
        Format::Jpeg => {
            let markers = jpeg::Markers::read(bytes).ok_or_else(|| damaged(format))?;
            let outline = markers.outline(bytes.len());
            (Opened::Jpeg(markers), outline)
        }
    };
    let (width, height) = (outline.width, outline.height);
    let too_large = |limit| PictureError::TooLarge { width, height, limit };
    if width > limits.width_max || height > limits.height_max {
        let (width_max, height_max) = (limits.width_max, limits.height_max);
        return Err(too_large(SizeLimit::Sides { width_max, height_max }));
    }
    if outline.passes > SCANS_MAX {
        return Err(too_large(SizeLimit::Scans { scans: outline.passes, max: SCANS_MAX }));
    }
    let memory_bytes = outline.peak_bytes.max(outline.kept_bytes + preparation_bytes(width, height));
    if memory_bytes > limits.alloc_bytes_max {
        return Err(too_large(SizeLimit::Bytes { needed: memory_bytes, max: limits.alloc_bytes_max }));
    }
    let pixel_passes = outline.pixels() * u64::from(outline.passes);
    Ok((opened, outline, PicturePrice { width, height, pixel_passes, memory_bytes }))
}

/// Bytes that [`prepare`](super::prepare) holds at most besides the picture.
fn preparation_bytes(width: u32, height: u32) -> u64 {
    let (width, height) = ink::reduced(width as usize, height as usize);
    let places = width as u64 * height as u64;
    places * PREPARED_PLACE_BYTES + PREPARED_FIXED_BYTES
}
