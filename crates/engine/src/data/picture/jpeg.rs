//! JPEG (ITU-T T.81, annex B): parses the markers before the decoder sees the file. The decoder accepts truncated
//! files, passes over the pixels as often as the file says, and copies and sorts segments that have nothing to do with
//! pixels. This module rejects truncated files, limits the number of passes, and removes these segments.

use std::ops::Range;

use image::GrayImage;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::SCANS_MAX;
use super::grey;
use super::header::{PictureHeader, swaps_sides};

/// The first bytes of every JPEG: start of image, and the first byte of another marker.
pub const SIGNATURE: [u8; 3] = [0xff, START_OF_IMAGE, 0xff];

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const HUFFMAN_TABLES: u8 = 0xc4;
const QUANTIZATION_TABLES: u8 = 0xdb;
const RESTART_INTERVAL: u8 = 0xdd;
/// `APP0`. Frames of Motion JPEG use it to say that they omit their Huffman tables.
const JFIF: u8 = 0xe0;
const EXIF: u8 = 0xe1;
/// `APP14`, which gives the colour space.
const ADOBE: u8 = 0xee;

/// Largest size of all tables together. The decoder builds a table for every few bytes of them. A file with
/// tables for each of many scans has about ten thousand bytes.
const TABLE_BYTES_MAX: usize = 1 << 17;

/// Bytes that the decoder allocates for any picture: the decoder and its tables.
const FIXED_BYTES: u64 = 64 << 10;

/// Bytes per column and component, times the largest vertical sampling factor. The decoder holds a row of
/// blocks, its upsampled version, and the rows next to it.
const COLUMN_BYTES: u64 = 64;

/// The parsed markers of a file.
#[derive(Debug, PartialEq)]
pub struct Markers {
    frame: Frame,
    orientation: Orientation,
    /// Number of scans. Each one passes over all pixels.
    pub scans: u32,
    /// Whether the decoder holds all coefficients until the last scan.
    is_buffered: bool,
    /// Ranges of the file that are passed on to the decoder.
    segments: Vec<Range<usize>>,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame {
    width: u16,
    height: u16,
    is_progressive: bool,
    /// Number of colour components.
    components: u8,
    /// Horizontal and vertical sampling factor of each component.
    sampling: [(u8, u8); 4],
}

impl Markers {
    /// Parses the markers. `None` if the file is malformed or truncated. The data of scans is skipped, not
    /// decoded.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut found = MarkerReader::default();
        let mut at = 2;
        loop {
            let (marker, start) = next_marker(bytes, at)?;
            match marker {
                END_OF_IMAGE => return found.finish(),
                START_OF_IMAGE | 0x01 => at = start,
                _ => {
                    let length: [u8; 2] = bytes.get(start..start + 2)?.try_into().ok()?;
                    let end = start + usize::from(u16::from_be_bytes(length));
                    let data = bytes.get(start + 2..end)?;
                    at = end;
                    if marker == START_OF_SCAN {
                        // The entropy-coded data extends to the next marker.
                        at = next_marker(bytes, end)?.1 - 2;
                    }
                    found.segment(marker, data, start - 2..at)?;
                }
            }
        }
    }

    /// The header of the picture, and the cost of decoding a file of `file_bytes`.
    pub fn header(&self, file_bytes: usize) -> PictureHeader {
        let Frame { width, height, components, .. } = self.frame;
        let (width, height) = (u32::from(width), u32::from(height));
        let pixels = u64::from(width) * u64::from(height);
        let kept_bytes = pixels * self.frame.channels() as u64;
        let [columns, _] = self.frame.padded();
        let (_, rows_max) = self.frame.sampling_max();
        let rows = u64::from(components) * columns * COLUMN_BYTES * u64::from(rows_max);
        let values = if self.is_buffered { 2 * self.frame.values() } else { 0 };
        let decoding = kept_bytes + rows + values + file_bytes as u64 + FIXED_BYTES;
        let turning = kept_bytes + if swaps_sides(self.orientation) { pixels } else { 0 };
        let peak_bytes = decoding.max(turning);
        let (passes, orientation) = (self.scans, self.orientation);
        PictureHeader { width, height, orientation, passes, peak_bytes, kept_bytes }
    }

    /// Decodes the grey levels, without applying the orientation.
    ///
    /// # Errors
    /// If the coded data is corrupt.
    pub fn decode(&self, bytes: &[u8]) -> Result<GrayImage, DecodeErrors> {
        let mut file = Vec::with_capacity(4 + self.segments.iter().map(Range::len).sum::<usize>());
        file.extend([0xff, START_OF_IMAGE]);
        self.segments.iter().for_each(|segment| file.extend_from_slice(&bytes[segment.clone()]));
        file.extend([0xff, END_OF_IMAGE]);

        let (width, height) = (u32::from(self.frame.width), u32::from(self.frame.height));
        let channels = self.frame.channels();
        let space = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(width as usize)
            .set_max_height(height as usize)
            .jpeg_set_max_scans(self.scans as usize)
            .jpeg_set_out_colorspace(space);
        let pixels = width as usize * height as usize;
        let mut levels = vec![0; channels * pixels];
        JpegDecoder::new_with_options(ZCursor::new(file.as_slice()), options).decode_into(&mut levels)?;
        if channels > 1 {
            for index in 0..pixels {
                let [red, green, blue] = [0, 1, 2].map(|channel| levels[channels * index + channel]);
                levels[index] = grey::luma(&[red, green, blue]);
            }
            levels.truncate(pixels);
        }
        Ok(GrayImage::from_raw(width, height, levels).expect("a level for every pixel"))
    }
}

/// The markers found so far.
#[derive(Default)]
struct MarkerReader {
    frame: Option<Frame>,
    orientation: Option<Orientation>,
    scans: u32,
    is_buffered: bool,
    segments: Vec<Range<usize>>,
    table_bytes: usize,
}

impl MarkerReader {
    /// Records a segment. `None` if it is not allowed here.
    fn segment(&mut self, marker: u8, data: &[u8], range: Range<usize>) -> Option<()> {
        match marker {
            0xc0..=0xc2 if self.frame.is_none() => self.frame = Some(Frame::read(marker, data)?),
            START_OF_SCAN => {
                let frame = self.frame?;
                self.scans += 1;
                self.is_buffered |= frame.is_progressive || *data.first()? != frame.components;
            }
            HUFFMAN_TABLES | QUANTIZATION_TABLES | RESTART_INTERVAL | JFIF => self.table_bytes += range.len(),
            ADOBE if self.frame.is_none() => self.table_bytes += range.len(),
            EXIF => {
                let exif = data.strip_prefix(b"Exif\0\0");
                // A picture with unreadable Exif data is accepted.
                self.orientation = self.orientation.or(exif.and_then(Orientation::from_exif_chunk));
                return Some(());
            }
            // A second frame, or one that is lossless, hierarchical or arithmetically coded.
            0xc0..=0xcf => return None,
            _ => return Some(()),
        }
        if self.table_bytes > TABLE_BYTES_MAX {
            return None;
        }
        if self.scans > SCANS_MAX {
            // The file will be rejected. The remaining scans are only counted, for the message.
            return Some(());
        }
        match self.segments.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.segments.push(range),
        }
        Some(())
    }

    fn finish(self) -> Option<Markers> {
        Some(Markers {
            frame: self.frame.filter(|_| self.scans > 0)?,
            orientation: self.orientation.unwrap_or(Orientation::NoTransforms),
            scans: self.scans,
            is_buffered: self.is_buffered,
            segments: self.segments,
        })
    }
}

impl Frame {
    fn read(marker: u8, data: &[u8]) -> Option<Self> {
        let (&[8, h0, h1, w0, w1, components], colours) = data.split_first_chunk::<6>()? else { return None };
        let mut sampling = [(1, 1); 4];
        if !(1..=4).contains(&components) || colours.len() != 3 * usize::from(components) {
            return None;
        }
        for (factors, colour) in sampling.iter_mut().zip(colours.chunks(3)) {
            *factors = (colour[1] >> 4, colour[1] & 0x0f);
            if !(1..=4).contains(&factors.0) || !(1..=4).contains(&factors.1) {
                return None;
            }
        }
        let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
        let is_progressive = marker == 0xc2;
        (width > 0 && height > 0).then_some(Self { width, height, is_progressive, components, sampling })
    }

    /// Samples per decoded pixel.
    fn channels(&self) -> usize {
        if self.components == 1 { 1 } else { 3 }
    }

    /// The largest horizontal and vertical sampling factor.
    fn sampling_max(&self) -> (u8, u8) {
        self.sampling.iter().fold((1, 1), |most, one| (most.0.max(one.0), most.1.max(one.1)))
    }

    /// Width and height in pixels, rounded up to whole blocks of all components.
    fn padded(&self) -> [u64; 2] {
        let (across, down) = self.sampling_max();
        [(self.width, across), (self.height, down)]
            .map(|(side, factor)| u64::from(side).next_multiple_of(8 * u64::from(factor)))
    }

    /// Number of coefficients of all components, each at its own resolution.
    fn values(&self) -> u64 {
        let ([width, height], (across, down)) = (self.padded(), self.sampling_max());
        let one = |&(h, v): &(u8, u8)| {
            width / u64::from(across) * u64::from(h) * (height / u64::from(down)) * u64::from(v)
        };
        self.sampling.iter().take(usize::from(self.components)).map(one).sum()
    }
}

/// The next marker at or after `from`, and the position after it. Stuffed zeros, restart markers and fill
/// bytes are skipped.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match bytes.get(at + 1)? {
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            &marker => return Some((marker, at + 2)),
        }
    }
}
