//! IDX, the file format of MNIST (described on the MNIST page by LeCun, Cortes and Burges): a
//! magic number, the dimensions, then the values; all integers big-endian.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ndarray::Array2;

use super::{IMAGE_PIXELS, IMAGE_SIDE};

/// `u8` values in three dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
/// `u8` values in one dimension.
const LABELS_MAGIC: u32 = 0x0000_0801;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// DEFLATE can't shrink data further than this (zlib's technical details: 1032 to 1).
const DEFLATE_RATIO_MAX: usize = 1032;

/// What an IDX file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdxLimits {
    /// Images or labels.
    pub examples_max: usize,
}

/// Bytes that are no IDX file we take.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// Another kind of file.
    #[error("magic number {found:#010x}, expected {expected:#010x}")]
    WrongMagic {
        /// The number it has.
        found: u32,
        /// The number it should have.
        expected: u32,
    },
    /// Images of another size.
    #[error("images of {rows}x{columns} pixels, expected {IMAGE_SIDE}x{IMAGE_SIDE}")]
    WrongSize {
        /// Height of an image.
        rows: u32,
        /// Width of an image.
        columns: u32,
    },
    /// More examples than are taken.
    #[error("the header claims {claimed} examples, at most {max} are taken")]
    TooMany {
        /// The number in the header.
        claimed: u32,
        /// The limit.
        max: usize,
    },
    /// The file ends too soon.
    #[error("{found} bytes, the header needs {expected}")]
    Truncated {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// The file goes on after its end.
    #[error("more than the {expected} bytes the header needs")]
    Trailing {
        /// Bytes there should be.
        expected: usize,
    },
    /// The gzip stream is broken.
    #[error("damaged gzip stream: {0}")]
    Gzip(#[from] io::Error),
}

/// The images (n, 784) of an IDX file, plain or gzip.
///
/// # Errors
/// If the file is none, damaged, or beyond the limits; nothing is allocated for a claim the bytes
/// can't back.
pub fn parse_images(bytes: &[u8], limits: IdxLimits) -> Result<Array2<u8>, IdxError> {
    let (count, pixels) = if bytes.starts_with(&GZIP_MAGIC) {
        let most = bytes.len().saturating_mul(DEFLATE_RATIO_MAX);
        read_images(MultiGzDecoder::new(bytes), most, limits)?
    } else {
        read_images(bytes, bytes.len(), limits)?
    };
    Ok(Array2::from_shape_vec((count, IMAGE_PIXELS), pixels)
        .expect("as many pixels were read as the shape has"))
}

/// The labels (n) of an IDX file, plain or gzip.
///
/// # Errors
/// As for [`parse_images`].
pub fn parse_labels(bytes: &[u8], limits: IdxLimits) -> Result<Vec<u16>, IdxError> {
    if bytes.starts_with(&GZIP_MAGIC) {
        let most = bytes.len().saturating_mul(DEFLATE_RATIO_MAX);
        read_labels(MultiGzDecoder::new(bytes), most, limits)
    } else {
        read_labels(bytes, bytes.len(), limits)
    }
}

/// `most`: bytes the source can give at all.
fn read_images(mut source: impl Read, most: usize, limits: IdxLimits) -> Result<(usize, Vec<u8>), IdxError> {
    let [claimed, rows, columns] = read_header(&mut source, IMAGES_MAGIC)?;
    if [rows, columns] != [IMAGE_SIDE as u32; 2] {
        return Err(IdxError::WrongSize { rows, columns });
    }
    let count = within(claimed, limits)?;
    Ok((count, read_values(source, 16, count * IMAGE_PIXELS, most)?))
}

fn read_labels(mut source: impl Read, most: usize, limits: IdxLimits) -> Result<Vec<u16>, IdxError> {
    let [claimed] = read_header(&mut source, LABELS_MAGIC)?;
    let count = within(claimed, limits)?;
    Ok(read_values(source, 8, count, most)?.into_iter().map(u16::from).collect())
}

fn within(claimed: u32, limits: IdxLimits) -> Result<usize, IdxError> {
    let count = usize::try_from(claimed).ok().filter(|&count| count <= limits.examples_max);
    count.ok_or(IdxError::TooMany { claimed, max: limits.examples_max })
}

/// The `N` dimensions behind the magic number.
fn read_header<const N: usize>(source: &mut impl Read, magic: u32) -> Result<[u32; N], IdxError> {
    let expected = 4 * (N + 1);
    let mut header = Vec::with_capacity(expected);
    source.take(expected as u64).read_to_end(&mut header)?;
    let (words, _) = header.as_chunks::<4>();
    let mut words = words.iter().map(|&word| u32::from_be_bytes(word));
    let truncated = || IdxError::Truncated { found: header.len(), expected };
    let found = words.next().ok_or_else(truncated)?;
    if found != magic {
        return Err(IdxError::WrongMagic { found, expected: magic });
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = words.next().ok_or_else(truncated)?;
    }
    Ok(dimensions)
}

/// Exactly `length` values, up to the end of the source.
fn read_values(source: impl Read, header: usize, length: usize, most: usize) -> Result<Vec<u8>, IdxError> {
    let expected = header + length;
    if most < expected {
        return Err(IdxError::Truncated { found: most, expected });
    }
    let mut values = Vec::with_capacity(length + 1);
    source.take(length as u64 + 1).read_to_end(&mut values)?;
    match values.len() {
        found if found < length => Err(IdxError::Truncated { found: header + found, expected }),
        found if found > length => Err(IdxError::Trailing { expected }),
        _ => Ok(values),
    }
}
