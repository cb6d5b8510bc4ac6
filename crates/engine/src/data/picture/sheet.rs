use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Numbers of one picture, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The numbers.
    pub values: Vec<f32>,
    /// Numbers in a row.
    pub width: usize,
    /// How they become colours.
    pub shade: Shade,
}

/// How numbers become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shade {
    /// Black for the least, white for the largest.
    Grey,
    /// Blue below 0, white at 0, red above, as far as the largest magnitude goes.
    Signed,
}

/// Pixels between two tiles at least, and their colour.
const GAP_MIN: usize = 2;
const PAPER: [u8; 3] = [128, 128, 128];

/// The ends of [`Shade::Signed`], told apart by the colour-blind (ColorBrewer's RdBu).
const BELOW: [f32; 3] = [33.0, 102.0, 172.0];
const ABOVE: [f32; 3] = [178.0, 24.0, 43.0];
const WHITE: f32 = 255.0;

/// A PNG of all tiles, which are of one size, in rows of `columns`; each number is a square of `zoom` pixels, and the colours
/// of each tile go as far as its own numbers.
///
/// # Panics
/// If there is no tile, or one is empty.
pub fn sheet(tiles: &[Tile], columns: usize, zoom: usize) -> Vec<u8> {
    let (tile_width, tile_height) = (tiles[0].width, tiles[0].values.len() / tiles[0].width);
    let (width, height) = sheet_size(tiles.len(), (tile_width, tile_height), columns, zoom);
    let columns = columns.clamp(1, tiles.len());
    let gap = gap(zoom);
    let (across, down) = (tile_width * zoom + gap, tile_height * zoom + gap);
    let mut pixels = PAPER.repeat(width * height);
    for (index, tile) in tiles.iter().enumerate() {
        let (left, top) = (gap + index % columns * across, gap + index / columns * down);
        let color = tile.color();
        for (place, &value) in tile.values.iter().enumerate() {
            let color = color(value);
            let (x, y) = (left + place % tile_width * zoom, top + place / tile_width * zoom);
            for row in y..y + zoom {
                let start = 3 * (row * width + x);
                pixels[start..start + 3 * zoom].as_chunks_mut().0.fill(color);
            }
        }
    }
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .expect("a buffer of the right size is encoded into memory");
    png
}

/// Width and height in pixels of a [`sheet`] of so many tiles, at least one, of this width and height.
pub fn sheet_size(
    tiles: usize,
    (width, height): (usize, usize),
    columns: usize,
    zoom: usize,
) -> (usize, usize) {
    let (columns, gap) = (columns.clamp(1, tiles), gap(zoom));
    (columns * (width * zoom + gap) + gap, tiles.div_ceil(columns) * (height * zoom + gap) + gap)
}

/// Pixels between two tiles.
fn gap(zoom: usize) -> usize {
    GAP_MIN.max(zoom / 4)
}

impl Tile {
    /// The colour of each of its numbers.
    fn color(&self) -> impl Fn(f32) -> [u8; 3] + use<> {
        let least = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (shade, span) = (self.shade, (largest - least).max(f32::MIN_POSITIVE));
        let magnitude = largest.abs().max(least.abs()).max(f32::MIN_POSITIVE);
        move |value| match shade {
            Shade::Grey => [((value - least) / span * WHITE) as u8; 3],
            Shade::Signed => {
                let end = if value < 0.0 { BELOW } else { ABOVE };
                let share = (value / magnitude).abs();
                end.map(|end| (WHITE + (end - WHITE) * share) as u8)
            }
        }
    }
}
