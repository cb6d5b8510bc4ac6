//! Converts samples to grey levels.

use image::GrayImage;

/// A transparent picture with less contrast than this on white would show nothing, so it is put on black.
const LEVELS_MIN: u8 = 16;

/// The samples of a pixel, with 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

/// The grey levels of a picture, row by row. Whether a transparent picture belongs on white or black is only known once
/// it is complete. Until then, `on_black` holds the levels on black, and `paper` holds how much white would add.
pub struct Levels {
    width: u32,
    height: u32,
    pub on_black: Vec<u8>,
    /// Level that white paper adds to each pixel. Empty for a picture without transparency.
    pub paper: Vec<u8>,
}

impl Levels {
    pub fn new(width: u32, height: u32, samples: Samples) -> Self {
        let pixels = width as usize * height as usize;
        let paper = match samples {
            Samples::Grey | Samples::Rgb => Vec::new(),
            Samples::GreyAlpha | Samples::Rgba => vec![0; pixels],
        };
        Self { width, height, on_black: vec![0; pixels], paper }
    }

    /// The picture on white, or on black if it would show nothing on white.
    pub fn picture(mut self) -> GrayImage {
        let on_white = || self.on_black.iter().zip(&self.paper).map(|(level, paper)| level + paper);
        let (low, high) = on_white().fold((255, 0), |(low, high), level| (level.min(low), level.max(high)));
        if high.saturating_sub(low) >= LEVELS_MIN {
            self.on_black.iter_mut().zip(&self.paper).for_each(|(level, paper)| *level += paper);
        }
        GrayImage::from_raw(self.width, self.height, self.on_black).expect("a level for every pixel")
    }
}

/// Converts samples of 16 bits (big-endian) to 8 bits, in place.
pub fn narrow(samples: &mut [u8]) -> &[u8] {
    let count = samples.len() / 2;
    for index in 0..count {
        let sample = u32::from(u16::from_be_bytes([samples[2 * index], samples[2 * index + 1]]));
        samples[index] = ((sample + 128) / 257) as u8;
    }
    &samples[..count]
}

/// Converts a row of samples to levels on black and the levels that white paper adds. Stops at the end of the
/// shorter slice.
pub fn convert(samples: Samples, row: &[u8], on_black: &mut [u8], paper: &mut [u8]) {
    match samples {
        Samples::Grey => {
            let count = row.len().min(on_black.len());
            on_black[..count].copy_from_slice(&row[..count]);
        }
        Samples::GreyAlpha => {
            for ((level, paper), &[grey, alpha]) in on_black.iter_mut().zip(paper).zip(row.as_chunks().0) {
                (*level, *paper) = (share(grey, alpha), 255 - alpha);
            }
        }
        Samples::Rgb => {
            for (level, rgb) in on_black.iter_mut().zip(row.as_chunks().0) {
                *level = luma(rgb);
            }
        }
        Samples::Rgba => {
            for ((level, paper), &[red, green, blue, alpha]) in
                on_black.iter_mut().zip(paper).zip(row.as_chunks().0)
            {
                (*level, *paper) = (share(luma(&[red, green, blue]), alpha), 255 - alpha);
            }
        }
    }
}

/// Brightness with the weights of ITU-R BT.709.
pub fn luma(rgb: &[u8; 3]) -> u8 {
    let [red, green, blue] = rgb.map(u32::from);
    ((2126 * red + 7152 * green + 722 * blue + 5_000) / 10_000) as u8
}

/// The level `grey` at opacity `alpha`. It is rounded so that adding the share of white gives at most 255.
fn share(grey: u8, alpha: u8) -> u8 {
    ((u32::from(grey) * u32::from(alpha) + 127) / 255) as u8
}
