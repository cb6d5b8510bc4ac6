//! IDX, the file format of MNIST (described on the MNIST page by LeCun, Cortes and Burges): a magic number,
//! the dimensions, then the values. All integers are big-endian.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ndarray::Array2;

use super::{IMAGE_PIXELS, IMAGE_SIDE};

/// The values are `u8` in three dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
/// The values are `u8` in one dimension.
const LABELS_MAGIC: u32 = 0x0000_0801;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The largest compression ratio of DEFLATE (1032 to 1 according to zlib's technical details).
const DEFLATE_RATIO_MAX: usize = 1032;

/// Limits for an IDX file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdxLimits {
    /// Largest number of images or labels.
    pub examples_max: usize,
}

/// The reason why an IDX file is not accepted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum IdxError {
    #[error("magic number {found:#010x}, expected {expected:#010x}")]
    WrongMagic { found: u32, expected: u32 },
    #[error("images of {rows}x{columns} pixels, expected {IMAGE_SIDE}x{IMAGE_SIDE}")]
    WrongSize { rows: u32, columns: u32 },
    #[error("the header claims {claimed} examples, at most {max} are taken")]
    TooMany { claimed: u32, max: usize },
    #[error("{found} bytes, the header needs {expected}")]
    Truncated { found: usize, expected: usize },
    #[error("more than the {expected} bytes the header needs")]
    Trailing { expected: usize },
    #[error("damaged gzip stream: {0}")]
    Gzip(#[from] io::Error),
}

/// Reads the images (n, 784) of an IDX file, plain or gzip.
///
/// # Errors
/// If the bytes are not such a file, are corrupt, or exceed the limits. The size in the header is checked
/// against the size of the file before anything is allocated.
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

/// Reads the labels (n) of an IDX file, plain or gzip.
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

/// `most` is an upper bound of the bytes that `source` can yield.
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

/// Reads the `N` dimensions after the magic number.
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

/// Reads exactly `length` values. The source must end there.
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
