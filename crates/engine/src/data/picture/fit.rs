//! Scales the digit's bounding box into 20x20 pixels and centres it by mass in 28x28.

use super::components::BoundingBox;
use super::ink::Ink;
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};

/// Width and height of the square that a digit is scaled into.
const BOX_SIDE: usize = 20;

/// Pixels outside the square that are kept for its blurred edge.
const MARGIN: usize = 2;

/// The weights of the source pixels in one target pixel.
struct Weights {
    first: usize,
    weights: Vec<f32>,
}

/// Scales the ink so that `digit` fits the square, and centres it. The brightest pixel becomes 255.
pub fn fit(ink: &Ink, digit: BoundingBox) -> [u8; IMAGE_PIXELS] {
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
        // The blurred edge may fall outside the image.
        let x = (left + index % columns.len()).checked_sub(MARGIN).filter(|&x| x < IMAGE_SIDE);
        let y = (top + index / columns.len()).checked_sub(MARGIN).filter(|&y| y < IMAGE_SIDE);
        if let (Some(x), Some(y)) = (x, y) {
            image[y * IMAGE_SIDE + x] = (255.0 * value / brightest).round() as u8;
        }
    }
    image
}

/// Scales the `length` source pixels from `start`. Returns the weights of each target pixel, and of [`MARGIN`] more on
/// each side. A target pixel is the mean over `scale` source pixels, so no source pixel is skipped. If the digit is
/// enlarged, a target pixel is the mean over the width of one source pixel, which interpolates.
fn weights(start: usize, length: usize, scale: f32, end: usize) -> Vec<Weights> {
    let count = box_pixels(length, scale);
    let reach = scale.max(1.0);
    // The part by which the last pixel is too long is divided between both sides.
    let slack = (count as f32 * scale - length as f32) / 2.0;
    let limit = end as f32;
    (0..count + 2 * MARGIN)
        .map(|index| {
            let centre = start as f32 - slack + (index as f32 - MARGIN as f32 + 0.5) * scale;
            let (from, to) =
                ((centre - reach / 2.0).clamp(0.0, limit), (centre + reach / 2.0).clamp(0.0, limit));
            let (first, last) = (from.floor() as usize, to.ceil() as usize);
            let share =
                |source: usize| (to.min((source + 1) as f32) - from.max(source as f32)).max(0.0) / reach;
            Weights { first, weights: (first..last).map(share).collect() }
        })
        .collect()
}

/// Number of target pixels to which `length` source pixels are scaled.
fn box_pixels(length: usize, scale: f32) -> usize {
    ((length as f32 / scale).ceil() as usize).clamp(1, BOX_SIDE)
}

/// The offset at which a box of `length` columns (or rows), margins included, is placed in the image. It puts
/// the centre of mass closest to pixel 14, as in MNIST, and keeps the box inside the image.
fn offset(values: &[f32], length: usize, position: impl Fn(usize) -> usize) -> usize {
    let (mass, moment) = values.iter().enumerate().fold((0.0, 0.0), |(mass, moment), (index, &value)| {
        (mass + value, moment + value * position(index) as f32)
    });
    let centre = if mass > 0.0 { moment / mass - MARGIN as f32 } else { 0.0 };
    // Half a pixel rounds to the left as in MNIST, where 13.5 occurs and 14.5 doesn't. The extra thousandth
    // absorbs rounding errors.
    let offset = (IMAGE_SIDE as f32 / 2.0 - centre - 0.501).ceil();
    offset.clamp(0.0, (IMAGE_SIDE + 2 * MARGIN - length) as f32) as usize
}
