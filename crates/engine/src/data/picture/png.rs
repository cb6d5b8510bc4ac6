//! PNG (W3C, Portable Network Graphics, third edition): converts pixels to grey levels row by row. Only the
//! pixel data is decompressed, and only as much as the picture needs.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use image::GrayImage;
use image::metadata::Orientation;
use png::{ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Reader, Transformations};

use super::grey::{self, Levels, Samples};
use super::header::{PictureHeader, swaps_sides};

/// The first bytes of every PNG.
pub const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Bytes before the data of a chunk (length and name) and after it (checksum).
const CHUNK_HEAD: usize = 8;
const CHUNK_TAIL: usize = 4;

/// Bytes that the decoder allocates for any picture: tables and window of inflate, and rows before they are
/// unfiltered.
const FIXED_BYTES: u64 = 384 << 10;

/// Number of rows held in memory: the filtered row, the previous row, the row as samples, and the row as grey levels.
/// The decoder's buffer grows to twice the needed size.
const ROWS: u64 = 8;

/// Reads the headers of a file, without its pixels. `None` if it doesn't start like a PNG.
pub fn header(bytes: &[u8]) -> Option<PictureHeader> {
    let (header, rest) = next_chunk(bytes.strip_prefix(&SIGNATURE)?)?;
    if header.name != *b"IHDR" {
        return None;
    }
    let [w0, w1, w2, w3, h0, h1, h2, h3, depth, color, _, _, _] = *header.data.as_array::<13>()?;
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    if width == 0 || height == 0 {
        return None;
    }
    let (mut is_transparent, mut orientation) = (matches!(color, 4 | 6), None);
    for chunk in Chunks(rest) {
        match &chunk.name {
            b"tRNS" => is_transparent = true,
            // A picture with unreadable Exif data is accepted.
            b"eXIf" => orientation = orientation.or(Orientation::from_exif_chunk(chunk.data)),
            _ => {}
        }
    }

    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let pixels = u64::from(width) * u64::from(height);
    let sample_bytes = if depth == 16 { 2 } else { 1 };
    let levels = pixels * if is_transparent { 2 } else { 1 };
    // Four samples per pixel, which is what a palette with transparency expands to.
    let rows = ROWS * 4 * sample_bytes * u64::from(width);
    let decoding = levels + rows + FIXED_BYTES;
    let turning = pixels * if swaps_sides(orientation) { 2 } else { 1 };
    Some(PictureHeader {
        width,
        height,
        orientation,
        passes: 1,
        peak_bytes: decoding.max(turning),
        kept_bytes: pixels,
    })
}

/// Decodes the grey levels, without applying the orientation.
///
/// # Errors
/// If the file is truncated or corrupt.
pub fn decode(bytes: &[u8], header: &PictureHeader) -> Result<GrayImage, DecodingError> {
    let limits = Limits { bytes: usize::try_from(header.peak_bytes).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(Pixels::of(bytes), limits);
    // Expands to 8 or 16 bits per sample, and palettes to colours.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let samples = samples(&reader);
    let is_deep = reader.output_color_type().1 == png::BitDepth::Sixteen;
    let width = header.width as usize;
    let mut levels = Levels::new(header.width, header.height, samples);
    let mut row = vec![0; reader.output_line_size(header.width).ok_or(DecodingError::LimitsExceeded)?];
    let (mut line, mut line_paper) = (vec![0; width], vec![0; width]);
    let mut from = 0;
    while let Some(interlace) = reader.read_row(&mut row)? {
        let row = if is_deep { grey::narrow(&mut row) } else { &row[..] };
        match interlace {
            InterlaceInfo::Null(_) => {
                let paper = levels.paper.get_mut(from..from + width).unwrap_or_default();
                grey::convert(samples, row, &mut levels.on_black[from..from + width], paper);
                from += width;
            }
            InterlaceInfo::Adam7(pass) => {
                grey::convert(samples, row, &mut line, &mut line_paper);
                png::expand_interlaced_row(&mut levels.on_black, width, &line, &pass, 8);
                if !levels.paper.is_empty() {
                    png::expand_interlaced_row(&mut levels.paper, width, &line_paper, &pass, 8);
                }
            }
        }
    }
    Ok(levels.picture())
}

fn samples(reader: &Reader<Pixels>) -> Samples {
    match reader.output_color_type().0 {
        ColorType::Grayscale | ColorType::Indexed => Samples::Grey,
        ColorType::GrayscaleAlpha => Samples::GreyAlpha,
        ColorType::Rgb => Samples::Rgb,
        ColorType::Rgba => Samples::Rgba,
    }
}

/// A chunk of a file.
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
    /// The whole chunk with its length, name and checksum.
    whole: &'a [u8],
}

impl Chunk<'_> {
    /// Whether decoding needs the chunk (critical chunks, section 5.4), or the chunk changes the look (`tRNS`).
    fn is_of_the_pixels(&self) -> bool {
        self.name[0].is_ascii_uppercase() || self.name == *b"tRNS"
    }
}

/// The first chunk and the bytes after it. `None` if it is truncated.
fn next_chunk(bytes: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let (head, _) = bytes.split_first_chunk::<CHUNK_HEAD>()?;
    let [l0, l1, l2, l3, n0, n1, n2, n3] = *head;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok()?;
    let (whole, rest) = bytes.split_at_checked(length.checked_add(CHUNK_HEAD + CHUNK_TAIL)?)?;
    let data = &whole[CHUNK_HEAD..CHUNK_HEAD + length];
    Some((Chunk { name: [n0, n1, n2, n3], data, whole }, rest))
}

/// Iterates over the chunks of a file up to the first truncated one.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (chunk, rest) = next_chunk(self.0)?;
        self.0 = rest;
        Some(chunk)
    }
}

/// A reader that skips chunks that don't affect the pixels. After a truncated chunk it yields the remaining bytes.
struct Pixels<'a> {
    current: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Pixels<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (current, rest) = bytes.split_at(SIGNATURE.len().min(bytes.len()));
        Self { current, rest }
    }
}

impl BufRead for Pixels<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.rest.is_empty() {
            match next_chunk(self.rest) {
                Some((chunk, rest)) => {
                    self.rest = rest;
                    if chunk.is_of_the_pixels() {
                        self.current = chunk.whole;
                    }
                }
                None => self.current = std::mem::take(&mut self.rest),
            }
        }
        Ok(self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current = &self.current[amount..];
    }
}

impl Read for Pixels<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Required by the decoder's signature. It never seeks.
impl Seek for Pixels<'_> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
