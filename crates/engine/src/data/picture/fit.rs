//! The digit's box in 20x20, its centre of mass in the centre of 28x28.

use super::ink::Ink;
use super::parts::Bounds;
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};

/// Width and height of the square a digit is scaled into.
const BOX_SIDE: usize = 20;

/// Pixels beyond the square that its blurred edge may reach.
const MARGIN: usize = 2;

/// How much each source place gives to one target pixel.
struct Weights {
    first: usize,
    weights: Vec<f32>,
}

/// Scales the ink so that `digit` fits the square, and places it, its brightest pixel at 255.
pub fn fit(ink: &Ink, digit: Bounds) -> [u8; IMAGE_PIXELS] {
    let scale = digit.width().max(digit.height()) as f32 / BOX_SIDE as f32;
    let columns = weights(usize::from(digit.left), digit.width(), scale, ink.width);
    let rows = weights(usize::from(digit.top), digit.height(), scale, ink.height);

    let mut scaled = vec![0.0; columns.len() * rows.len()];
    for (target, row) in scaled.chunks_mut(columns.len()).zip(&rows) {
        for (source, &weight) in (row.first..).zip(&row.weights) {
            let line = &ink.values[source * ink.width..(source + 1) * ink.width];
            for (value, column) in target.iter_mut().zip(&columns) {
                let mean: f32 =
                    line[column.first..].iter().zip(&column.weights).map(|(ink, share)| ink * share).sum();
                *value += weight * mean;
            }
        }
    }

    let left = offset(&scaled, columns.len(), |index| index % columns.len());
    let top = offset(&scaled, rows.len(), |index| index / columns.len());
    let brightest = scaled.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let mut image = [0; IMAGE_PIXELS];
    for (index, value) in scaled.iter().enumerate() {
        // What is blurred beyond the digit's box may fall outside the image.
        let x = (left + index % columns.len()).checked_sub(MARGIN).filter(|&x| x < IMAGE_SIDE);
        let y = (top + index / columns.len()).checked_sub(MARGIN).filter(|&y| y < IMAGE_SIDE);
        if let (Some(x), Some(y)) = (x, y) {
            image[y * IMAGE_SIDE + x] = (255.0 * value / brightest).round() as u8;
        }
    }
    image
}

/// One entry for each pixel that `length` places from `start` on are scaled to, and for [`MARGIN`]
/// more on both sides. It is the mean over `scale` places, so nothing is skipped; over one where the
/// digit is enlarged, which interpolates.
fn weights(start: usize, length: usize, scale: f32, end: usize) -> Vec<Weights> {
    let count = box_pixels(length, scale);
    let reach = scale.max(1.0);
    // What the last pixel has too much lies to both sides.
    let slack = (count as f32 * scale - length as f32) / 2.0;
    let limit = end as f32;
    (0..count + 2 * MARGIN)
        .map(|index| {
            let centre = start as f32 - slack + (index as f32 - MARGIN as f32 + 0.5) * scale;
            let (from, to) =
                ((centre - reach / 2.0).clamp(0.0, limit), (centre + reach / 2.0).clamp(0.0, limit));
            let (first, last) = (from.floor() as usize, to.ceil() as usize);
            let share = |place: usize| (to.min((place + 1) as f32) - from.max(place as f32)).max(0.0) / reach;
            Weights { first, weights: (first..last).map(share).collect() }
        })
        .collect()
}

/// Pixels of the image that `length` places take.
fn box_pixels(length: usize, scale: f32) -> usize {
    ((length as f32 / scale).ceil() as usize).clamp(1, BOX_SIDE)
}

/// Where the box goes whose pixels, with their margin, are `length` columns (or rows): the centre of
/// mass along them comes nearest to pixel 14, as it is in MNIST, and the box stays inside.
fn offset(values: &[f32], length: usize, position: impl Fn(usize) -> usize) -> usize {
    let (mass, moment) = values.iter().enumerate().fold((0.0, 0.0), |(mass, moment), (index, &value)| {
        (mass + value, moment + value * position(index) as f32)
    });
    let centre = if mass > 0.0 { moment / mass - MARGIN as f32 } else { 0.0 };
    // Half a pixel goes to the left as in MNIST, where 13.5 occurs and 14.5 does not; a thousandth
    // makes up for rounding errors.
    let offset = (IMAGE_SIDE as f32 / 2.0 - centre - 0.501).ceil();
    offset.clamp(0.0, (IMAGE_SIDE + 2 * MARGIN - length) as f32) as usize
}
