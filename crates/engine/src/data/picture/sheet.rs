use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// A rectangle of numbers to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The numbers, row by row.
    pub values: Vec<f32>,
    /// Numbers per row.
    pub width: usize,
    /// The mapping of numbers to colours.
    pub colors: ColorMap,
}

/// A mapping of numbers to colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMap {
    /// Black for the smallest value, white for the largest.
    Greyscale,
    /// Blue for negative values, white for 0, red for positive ones. The scale is symmetric and ends at the
    /// largest magnitude.
    Diverging,
}

/// Smallest gap between two tiles in pixels, and its colour.
const GAP_MIN: usize = 2;
const PAPER: [u8; 3] = [128, 128, 128];

/// End colours of [`ColorMap::Diverging`]. They can be distinguished by colour-blind readers (ColorBrewer's RdBu).
const BELOW: [f32; 3] = [33.0, 102.0, 172.0];
const ABOVE: [f32; 3] = [178.0, 24.0, 43.0];
const WHITE: f32 = 255.0;

/// Draws tiles of equal size as a PNG, in rows of `columns`. Each number is a square of `zoom` pixels. Each
/// tile has a colour scale of its own.
///
/// # Panics
/// If there is no tile, or a tile is empty.
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

/// Width and height in pixels of a [`sheet`] with this number of tiles (at least one) of this width and
/// height.
pub fn sheet_size(
    tiles: usize,
    (width, height): (usize, usize),
    columns: usize,
    zoom: usize,
) -> (usize, usize) {
    let (columns, gap) = (columns.clamp(1, tiles), gap(zoom));
    (columns * (width * zoom + gap) + gap, tiles.div_ceil(columns) * (height * zoom + gap) + gap)
}

/// Gap between two tiles in pixels.
fn gap(zoom: usize) -> usize {
    GAP_MIN.max(zoom / 4)
}

impl Tile {
    /// The function from a number of this tile to its colour.
    fn color(&self) -> impl Fn(f32) -> [u8; 3] + use<> {
        let least = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (colors, span) = (self.colors, (largest - least).max(f32::MIN_POSITIVE));
        let magnitude = largest.abs().max(least.abs()).max(f32::MIN_POSITIVE);
        move |value| match colors {
            ColorMap::Greyscale => [((value - least) / span * WHITE) as u8; 3],
            ColorMap::Diverging => {
                let end = if value < 0.0 { BELOW } else { ABOVE };
                let share = (value / magnitude).abs();
                end.map(|end| (WHITE + (end - WHITE) * share) as u8)
            }
        }
    }
}
