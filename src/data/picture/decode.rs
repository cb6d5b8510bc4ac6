use std::io::Cursor;

use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, GenericImageView, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader,
    Limits, Luma, Pixel, Rgba,
};

use super::{PictureError, PictureLimits, SizeLimit, jpeg};

/// Composed on white, pictures whose grey levels differ less than this show nothing.
const LEVELS_MIN: u8 = 16;

/// What a picture says of itself.
struct Header {
    width: u32,
    height: u32,
    color: ColorType,
    orientation: Orientation,
}

/// The grey levels of a PNG or JPEG, told by its content; turned as its EXIF orientation says.
///
/// What is transparent is composed on white; or on black, where on white nothing would be seen.
///
/// # Errors
/// Where it is no picture, damaged, or beyond the limits; a header beyond them is refused before
/// anything of that size is allocated.
pub fn decode(bytes: &[u8], limits: &PictureLimits) -> Result<GrayImage, PictureError> {
    let (format, name) = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => (ImageFormat::Png, "png"),
        Ok(ImageFormat::Jpeg) => (ImageFormat::Jpeg, "jpeg"),
        _ => return Err(PictureError::NotAPicture),
    };
    let damaged = |_: ImageError| PictureError::Damaged { format: name };

    let header = read_header(bytes, format, limits).map_err(|error| match (error, png_sides(bytes)) {
        (ImageError::Limits(_), Some((width, height))) => {
            PictureError::TooLarge { width, height, limit: sides(limits) }
        }
        (error, _) => damaged(error),
    })?;
    check_sides(&header, limits)?;
    let scans = match format {
        ImageFormat::Jpeg => jpeg::scans(bytes).ok_or(PictureError::Damaged { format: name })?,
        _ => jpeg::Scans::One,
    };
    check_bytes(&header, scans, limits)?;

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut strict = Limits::default();
    strict.max_image_width = Some(limits.width_max);
    strict.max_image_height = Some(limits.height_max);
    strict.max_alloc = Some(limits.alloc_bytes_max);
    reader.limits(strict);
    let mut grey = DynamicImage::ImageLuma8(to_grey(reader.decode().map_err(damaged)?));
    grey.apply_orientation(header.orientation);
    Ok(grey.into_luma8())
}

/// Reads the header without limits of width and height, so that a refusal can name them.
fn read_header(bytes: &[u8], format: ImageFormat, limits: &PictureLimits) -> Result<Header, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut lenient = Limits::no_limits();
    lenient.max_alloc = Some(limits.alloc_bytes_max);
    reader.limits(lenient);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    // EXIF that can't be read is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Header { width, height, color: decoder.color_type(), orientation })
}

/// Width and height as the header of a PNG has them (PNG specification, section 11.2.1).
fn png_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((side(16)?, side(20)?))
}

fn sides(limits: &PictureLimits) -> SizeLimit {
    SizeLimit::Sides { width_max: limits.width_max, height_max: limits.height_max }
}

fn check_sides(header: &Header, limits: &PictureLimits) -> Result<(), PictureError> {
    if header.width <= limits.width_max && header.height <= limits.height_max {
        return Ok(());
    }
    Err(PictureError::TooLarge { width: header.width, height: header.height, limit: sides(limits) })
}

fn check_bytes(header: &Header, scans: jpeg::Scans, limits: &PictureLimits) -> Result<(), PictureError> {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let colour = pixels * u64::from(header.color.bytes_per_pixel());
    // A JPEG of several scans keeps an i16 for every value until the last one is read, which no
    // limit of the decoder covers.
    let coefficients = match scans {
        jpeg::Scans::One => 0,
        jpeg::Scans::Several => 2 * colour,
    };
    let needed = colour + coefficients + pixels;
    if needed <= limits.alloc_bytes_max {
        return Ok(());
    }
    let limit = SizeLimit::Bytes { needed, max: limits.alloc_bytes_max };
    Err(PictureError::TooLarge { width: header.width, height: header.height, limit })
}

fn to_grey(picture: DynamicImage) -> GrayImage {
    if !picture.color().has_alpha() {
        return picture.into_luma8();
    }
    let on_white = compose(&picture, 255);
    let (darkest, brightest) =
        on_white.as_raw().iter().fold((255, 0), |(low, high), &level| (level.min(low), level.max(high)));
    if brightest - darkest >= LEVELS_MIN { on_white } else { compose(&picture, 0) }
}

/// The grey levels of a picture that lies on paper of the level `paper`.
fn compose(picture: &DynamicImage, paper: u8) -> GrayImage {
    let (width, height) = picture.dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let pixel: Rgba<u8> = picture.get_pixel(x, y);
        let alpha = u32::from(pixel[3]);
        let level = u32::from(pixel.to_luma()[0]) * alpha + u32::from(paper) * (255 - alpha);
        Luma([((level + 127) / 255) as u8])
    })
}
