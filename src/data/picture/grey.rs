//! Samples to grey levels.

use image::GrayImage;

/// Composed on white, pictures whose grey levels differ less than this show nothing.
const LEVELS_MIN: u8 = 16;

/// The samples of a pixel, of 8 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

/// The grey levels of a picture, row by row; those of a transparent one on white and on black paper, as it takes all of the
/// picture to know which of them shows it.
pub struct Levels {
    width: u32,
    height: u32,
    on_white: Vec<u8>,
    on_black: Option<Vec<u8>>,
}

impl Levels {
    pub fn opaque(width: u32, height: u32) -> Self {
        Self { width, height, on_white: vec![0; pixels(width, height)], on_black: None }
    }

    pub fn transparent(width: u32, height: u32) -> Self {
        Self { on_black: Some(vec![0; pixels(width, height)]), ..Self::opaque(width, height) }
    }

    /// Writes to all levels, which are those on paper of the level given.
    pub fn planes(&mut self, mut write: impl FnMut(&mut [u8], u8)) {
        write(&mut self.on_white, 255);
        if let Some(on_black) = &mut self.on_black {
            write(on_black, 0);
        }
    }

    /// What was drawn, on white; or on black, where on white nothing would be seen.
    pub fn picture(self) -> GrayImage {
        let levels = match self.on_black {
            Some(on_black) if is_blank(&self.on_white) => on_black,
            _ => self.on_white,
        };
        GrayImage::from_raw(self.width, self.height, levels).expect("a level for every pixel")
    }
}

fn pixels(width: u32, height: u32) -> usize {
    width as usize * height as usize
}

fn is_blank(levels: &[u8]) -> bool {
    let range = levels.iter().fold((255, 0), |(low, high), &level| (level.min(low), level.max(high)));
    range.1.saturating_sub(range.0) < LEVELS_MIN
}

/// Samples of 16 bits, most significant byte first, as samples of 8; in their place.
pub fn narrow(samples: &mut [u8]) -> &[u8] {
    let count = samples.len() / 2;
    for index in 0..count {
        let sample = u32::from(u16::from_be_bytes([samples[2 * index], samples[2 * index + 1]]));
        samples[index] = ((sample + 128) / 257) as u8;
    }
    &samples[..count]
}

/// The levels of pixels on paper of the level `paper`, as many as there is room for.
pub fn convert(samples: Samples, row: &[u8], levels: &mut [u8], paper: u8) {
    let paper = u32::from(paper);
    match samples {
        Samples::Grey => {
            let count = row.len().min(levels.len());
            levels[..count].copy_from_slice(&row[..count]);
        }
        Samples::GreyAlpha => {
            for (level, &[grey, alpha]) in levels.iter_mut().zip(row.as_chunks().0) {
                *level = compose(grey, alpha, paper);
            }
        }
        Samples::Rgb => {
            for (level, rgb) in levels.iter_mut().zip(row.as_chunks().0) {
                *level = luma(rgb);
            }
        }
        Samples::Rgba => {
            for (level, &[red, green, blue, alpha]) in levels.iter_mut().zip(row.as_chunks().0) {
                *level = compose(luma(&[red, green, blue]), alpha, paper);
            }
        }
    }
}

/// Brightness with the weights of ITU-R BT.709.
pub fn luma(rgb: &[u8; 3]) -> u8 {
    let [red, green, blue] = rgb.map(u32::from);
    ((2126 * red + 7152 * green + 722 * blue + 5_000) / 10_000) as u8
}

fn compose(grey: u8, alpha: u8, paper: u32) -> u8 {
    let alpha = u32::from(alpha);
    ((u32::from(grey) * alpha + paper * (255 - alpha) + 127) / 255) as u8
}
