//! Separates the drawing from the background.

use std::ops::RangeInclusive;

use image::GrayImage;

use super::paper;

/// Larger pictures are reduced to at most this width and height by averaging. A digit that fills the picture is later
/// scaled to 20 pixels, so about 50 pixels remain for each of them.
const SIDE_MAX: usize = 1024;

/// Smallest contrast between background and ink, in grey levels.
const CONTRAST_MIN: f32 = 12.0;

/// Smallest contrast between background and ink, in standard deviations of the background noise.
const SIGNAL_TO_NOISE_MIN: f32 = 6.0;

/// If the fraction of dark pixels is in this range, it doesn't decide whether the dark or the light pixels are ink.
const UNDECIDED: RangeInclusive<f32> = 0.4..=0.6;

/// Smallest fraction of the contrast at which a pixel belongs to a stroke and not to the background.
const EDGE: f32 = 0.08;

/// The amount of ink at each pixel.
pub struct Ink {
    pub width: usize,
    pub height: usize,
    /// Row by row. 0 is background; 1 is the 90th percentile of the strokes.
    pub values: Vec<f32>,
    /// Pixels of at least this value belong to a stroke.
    pub edge: f32,
}

/// The ink of a picture. `None` if the picture has a single brightness or only noise.
pub fn find(picture: &GrayImage) -> Option<Ink> {
    if picture.as_raw().is_empty() {
        return None;
    }
    let (width, height, mut values) = reduce(picture);
    paper::level(&mut values, width);
    let threshold = otsu(&values)?;

    let is_dark_on_light = is_dark_on_light(&values, width, threshold);
    if is_dark_on_light {
        values.iter_mut().for_each(|level| *level = 255.0 - *level);
    }
    let threshold = if is_dark_on_light { 255.0 - threshold } else { threshold };

    let mut partitioned = values.clone();
    let (background, strokes) = partition(&mut partitioned, threshold);
    let level = quantile(background, 0.5)?;
    let contrast = quantile(strokes, 0.9)? - level;
    let noise = deviation(background, level);
    drop(partitioned);
    if contrast < CONTRAST_MIN || contrast < SIGNAL_TO_NOISE_MIN * noise {
        return None;
    }
    values.iter_mut().for_each(|value| *value = ((*value - level) / contrast).max(0.0));
    Some(Ink { width, height, values, edge: (3.0 * noise / contrast).clamp(EDGE, 0.4) })
}

/// Whether the ink is darker than the background. The ink covers the smaller part of a picture. A bold digit
/// that fills the picture covers about half of it; in that case the pixels at the border count as well.
fn is_dark_on_light(values: &[f32], width: usize, threshold: f32) -> bool {
    let share = |pixels: &mut dyn Iterator<Item = usize>| {
        let (dark, all) =
            pixels.fold((0, 0), |(dark, all), pixel| (dark + u32::from(values[pixel] < threshold), all + 1));
        dark as f32 / all as f32
    };
    let dark = share(&mut (0..values.len()));
    if !UNDECIDED.contains(&dark) {
        return dark < 0.5;
    }
    let is_at_edge = |pixel: &usize| {
        let (x, y) = (pixel % width, pixel / width);
        x == 0 || x + 1 == width || y == 0 || (y + 1) * width == values.len()
    };
    dark + share(&mut (0..values.len()).filter(is_at_edge)) < 1.0
}

/// Reorders the values so that those up to `threshold` come first, and splits them there.
fn partition(values: &mut [f32], threshold: f32) -> (&mut [f32], &mut [f32]) {
    let mut below = 0;
    for index in 0..values.len() {
        if values[index] <= threshold {
            values.swap(below, index);
            below += 1;
        }
    }
    values.split_at_mut(below)
}

/// Side of the squares of pixels that are averaged into one.
fn block(width: usize, height: usize) -> usize {
    width.max(height).div_ceil(SIDE_MAX).max(1)
}

/// Width and height of a picture after reduction.
pub fn reduced(width: usize, height: usize) -> (usize, usize) {
    let block = block(width, height);
    (width.div_ceil(block), height.div_ceil(block))
}

/// The grey levels of the reduced picture, whose sides are at most [`SIDE_MAX`].
fn reduce(picture: &GrayImage) -> (usize, usize, Vec<f32>) {
    let (full_width, full_height) = (picture.width() as usize, picture.height() as usize);
    let block = block(full_width, full_height);
    let (width, height) = reduced(full_width, full_height);
    let mut values = Vec::with_capacity(width * height);
    for rows in picture.as_raw().chunks(full_width * block) {
        let mut sums = vec![(0_u32, 0_u32); width];
        for row in rows.chunks(full_width) {
            for (pixels, (sum, count)) in row.chunks(block).zip(&mut sums) {
                *sum += pixels.iter().map(|&pixel| u32::from(pixel)).sum::<u32>();
                *count += pixels.len() as u32;
            }
        }
        values.extend(sums.iter().map(|&(sum, count)| sum as f32 / count as f32));
    }
    (width, height, values)
}

/// The threshold between dark and light with the largest variance between the two classes (N. Otsu, *A
/// Threshold Selection Method from Gray-Level Histograms*, 1979). `None` if there is a single level.
fn otsu(values: &[f32]) -> Option<f32> {
    let mut histogram = [0_u32; 256];
    for value in values {
        histogram[value.clamp(0.0, 255.0) as usize] += 1;
    }
    let count = values.len() as f64;
    let total: f64 =
        histogram.iter().enumerate().map(|(level, &times)| level as f64 * f64::from(times)).sum();
    let (mut below, mut below_sum) = (0.0, 0.0);
    let mut best = (0.0, None);
    for (level, &times) in histogram.iter().enumerate() {
        below += f64::from(times);
        below_sum += level as f64 * f64::from(times);
        let above = count - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let distance = below_sum / below - (total - below_sum) / above;
        let between = below * above * distance * distance;
        if between > best.0 {
            best = (between, Some(level as f32 + 1.0));
        }
    }
    best.1
}

/// The quantile `q` of `values`. `None` if there are none.
pub fn quantile(values: &mut [f32], q: f32) -> Option<f32> {
    let index = (values.len().checked_sub(1)? as f32 * q).round() as usize;
    Some(*values.select_nth_unstable_by(index, f32::total_cmp).1)
}

/// Standard deviation of the noise around `level`, estimated from the median absolute deviation, which edges
/// and specks hardly affect. The factor 1.4826 holds for normally distributed noise.
pub fn deviation(values: &mut [f32], level: f32) -> f32 {
    values.iter_mut().for_each(|value| *value = (*value - level).abs());
    1.4826 * quantile(values, 0.5).unwrap_or(0.0)
}
