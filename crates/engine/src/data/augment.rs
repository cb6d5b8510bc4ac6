use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::nn::kernel::pixel;

/// Mixed into the seed, so that augmentation has its own random streams.
const SEED_OF_AUGMENT: u64 = 0xA0C3_5E1D_77B2_9F46;

/// Random changes of the images, drawn separately for each image and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Largest shift along each axis, in pixels.
    pub shift_pixels: f64,
    /// Largest rotation in either direction, in degrees.
    pub rotate_degrees: f64,
    /// Largest change of size, as a fraction.
    pub scale: f64,
    /// Largest shear in either direction, as a ratio.
    pub shear: f64,
    /// Elastic distortion, if there is any.
    pub elastic: Option<Elastic>,
}

/// Elastic distortion by a smoothed field of random displacements (Simard, Steinkraus, Platt, *Best Practices
/// for Convolutional Neural Networks*, 2003).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elastic {
    /// Largest displacement before smoothing, in pixels.
    pub alpha: f64,
    /// Standard deviation of the smoothing Gaussian, in pixels.
    pub sigma: f64,
}

impl Elastic {
    /// Radius of the smoothing kernel in pixels: three standard deviations, within the image.
    pub fn radius(self) -> usize {
        ((3.0 * self.sigma).ceil() as usize).clamp(1, IMAGE_SIDE - 1)
    }
}

impl Augment {
    /// Writes the changed image to `image`, with values from 0 to 1. `pixels` are the 784 original values from 0 to
    /// 255. The result depends only on the seed, the epoch and the index of the example.
    ///
    /// # Panics
    /// If either slice doesn't have 784 elements.
    // Inlined, so that it is compiled for the caller's vector instructions.
    #[inline(always)]
    pub fn write(&self, pixels: &[u8], seed: u64, epoch: u32, example: u32, image: &mut [f32]) {
        assert_eq!((pixels.len(), image.len()), (IMAGE_PIXELS, IMAGE_PIXELS), "pixels of an image");
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ SEED_OF_AUGMENT);
        rng.set_stream(u64::from(epoch) << 32 | u64::from(example));
        let mut within = |range: f64| range * (2.0 * rng.random::<f64>() - 1.0);
        let angle = within(self.rotate_degrees).to_radians();
        let zoom = 1.0 + within(self.scale);
        let shear = within(self.shear);
        let shift = [within(self.shift_pixels), within(self.shift_pixels)];
        // Maps a pixel of the result to a position in the original, about the centre. It is the inverse of
        // rotation · shear · scale.
        let (sin, cos) = libm::sincos(angle);
        let map = [cos + sin * shear, sin - cos * shear, -sin, cos].map(|entry| (entry / zoom) as f32);
        let field = self.elastic.map(|elastic| [field(elastic, &mut rng), field(elastic, &mut rng)]);

        let mut padded = [0.0; PADDED * PADDED];
        let (mut first, mut last) = (f32::INFINITY, f32::NEG_INFINITY);
        for (row, pixels) in pixels.chunks_exact(IMAGE_SIDE).enumerate() {
            if pixels.iter().fold(0, |any, pixel| any | pixel) == 0 {
                continue;
            }
            (first, last) = (first.min(row as f32), last.max(row as f32));
            let to = &mut padded[(row + BORDER) * PADDED + BORDER..][..IMAGE_SIDE];
            to.iter_mut().zip(pixels).for_each(|(to, &byte)| *to = pixel(byte));
        }
        let centre = (IMAGE_SIDE - 1) as f32 / 2.0;
        let [shift_x, shift_y] = shift.map(|shift| shift as f32);
        for (y, row) in image.chunks_exact_mut(IMAGE_SIDE).enumerate() {
            let dy = y as f32 - centre - shift_y;
            let [mut along, mut across] = [[0.0; IMAGE_SIDE]; 2];
            for (x, (along, across)) in along.iter_mut().zip(&mut across).enumerate() {
                let dx = x as f32 - centre - shift_x;
                *along = map[0] * dx + map[1] * dy + centre;
                *across = map[2] * dx + map[3] * dy + centre;
            }
            let (begin, end) = (across[0], across[IMAGE_SIDE - 1]);
            let misses = |at: f32| [at <= first - 1.0, at >= last + 1.0];
            if field.is_none() && misses(begin).into_iter().zip(misses(end)).any(|(begin, end)| begin && end)
            {
                row.fill(0.0);
                continue;
            }
            if let Some(field) = &field {
                for (places, field) in [&mut along, &mut across].into_iter().zip(field) {
                    let field = &field[y * IMAGE_SIDE..][..IMAGE_SIDE];
                    places.iter_mut().zip(field).for_each(|(place, moved)| *place += moved);
                }
            }
            sample(&padded, along, across, row);
        }
    }
}

/// Border of zeros around an image, so that positions outside need no bounds check.
const BORDER: usize = 2;
const PADDED: usize = IMAGE_SIDE + 2 * BORDER;

/// 2²³. From here to 2²⁴, consecutive `f32` values are consecutive integers. Adding it to a small number rounds the
/// number to an integer, which is then in the low bits. The second constant masks these bits.
const INTEGERS: f32 = 8_388_608.0;
const LAST: u32 = 63;

/// Bilinear interpolation at each position.
#[inline(always)]
fn sample(
    padded: &[f32; PADDED * PADDED],
    along: [f32; IMAGE_SIDE],
    across: [f32; IMAGE_SIDE],
    row: &mut [f32],
) {
    // Two passes: the positions can be computed with vector instructions, the lookups can't.
    let [mut right, mut below] = [[0.0; IMAGE_SIDE]; 2];
    let mut places = [0_u32; IMAGE_SIDE];
    for at in 0..IMAGE_SIDE {
        let [x, y] = [along[at], across[at]].map(|at| (at + BORDER as f32).clamp(0.5, (PADDED - 2) as f32));
        // Rounding `at − 0.5` gives the pixel to the left of or above the position, without a conversion to
        // an integer.
        let [column, line] = [x, y].map(|at| at - 0.5 + INTEGERS);
        (right[at], below[at]) = (x - (column - INTEGERS), y - (line - INTEGERS));
        places[at] = (line.to_bits() & LAST) * PADDED as u32 + (column.to_bits() & LAST);
    }
    for (((pixel, place), right), below) in row.iter_mut().zip(places).zip(right).zip(below) {
        let pixels = &padded[place as usize..][..PADDED + 2];
        let upper = pixels[0] + right * (pixels[1] - pixels[0]);
        let lower = pixels[PADDED] + right * (pixels[PADDED + 1] - pixels[PADDED]);
        *pixel = upper + below * (lower - upper);
    }
}

/// Random displacements along one axis, in pixels.
fn field(elastic: Elastic, rng: &mut ChaCha8Rng) -> [f32; IMAGE_PIXELS] {
    let mut field = [0.0; IMAGE_PIXELS];
    for value in &mut field {
        *value = (elastic.alpha * (2.0 * rng.random::<f64>() - 1.0)) as f32;
    }
    let radius = elastic.radius();
    let mut weights = [0.0; IMAGE_SIDE];
    for (distance, weight) in weights.iter_mut().enumerate().take(radius + 1) {
        let deviations = distance as f64 / elastic.sigma;
        *weight = libm::exp(-deviations * deviations / 2.0) as f32;
    }
    let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    let rows = smoothed(&field, &weights[..=radius], |line, at| line * IMAGE_SIDE + at);
    smoothed(&rows, &weights[..=radius], |line, at| at * IMAGE_SIDE + line)
}

/// Convolves each line of the field with the symmetric kernel `weights`. Outside the image the field is 0.
fn smoothed(
    field: &[f32; IMAGE_PIXELS],
    weights: &[f32],
    index: impl Fn(usize, usize) -> usize,
) -> [f32; IMAGE_PIXELS] {
    let mut result = [0.0; IMAGE_PIXELS];
    for line in 0..IMAGE_SIDE {
        for at in 0..IMAGE_SIDE {
            let near = at.saturating_sub(weights.len() - 1)..(at + weights.len()).min(IMAGE_SIDE);
            result[index(line, at)] =
                near.map(|other| weights[at.abs_diff(other)] * field[index(line, other)]).sum();
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Augment =
        Augment { shift_pixels: 0.0, rotate_degrees: 0.0, scale: 0.0, shear: 0.0, elastic: None };

    fn digit() -> Vec<u8> {
        let place = |index: usize| (index % IMAGE_SIDE, index / IMAGE_SIDE);
        let pixel = |(x, y): (usize, usize)| u8::from((8..20).contains(&x) && (6..22).contains(&y)) * 200;
        (0..IMAGE_PIXELS).map(place).map(pixel).collect()
    }

    fn changed(augment: Augment, seed: u64, epoch: u32, example: u32) -> Vec<f32> {
        let mut image = vec![0.0; IMAGE_PIXELS];
        augment.write(&digit(), seed, epoch, example, &mut image);
        image
    }

    #[test]
    fn no_change_leaves_an_image_as_it_is() {
        let expected: Vec<f32> = digit().iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        for (found, expected) in changed(NONE, 1, 0, 0).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn changes_depend_on_seed_epoch_and_example_only_and_keep_the_ink() {
        let some = Augment {
            shift_pixels: 2.0,
            rotate_degrees: 12.0,
            scale: 0.1,
            shear: 0.15,
            elastic: Some(Elastic { alpha: 20.0, sigma: 4.0 }),
        };
        let one = changed(some, 1, 2, 3);
        assert_eq!(one, changed(some, 1, 2, 3));
        for other in [changed(some, 2, 2, 3), changed(some, 1, 3, 3), changed(some, 1, 2, 4)] {
            assert_ne!(one, other);
        }
        let ink = |image: &[f32]| image.iter().sum::<f32>();
        for example in 0..50 {
            let ratio = ink(&changed(some, 1, 0, example)) / ink(&changed(NONE, 1, 0, 0));
            assert!((0.7..1.4).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn a_shift_moves_and_a_turn_turns_about_the_centre() {
        let centre = |image: &[f32]| {
            let sum: f32 = image.iter().sum();
            let along = |f: fn(usize) -> usize| {
                image.iter().enumerate().map(|(index, value)| f(index) as f32 * value).sum::<f32>() / sum
            };
            (along(|index| index % IMAGE_SIDE), along(|index| index / IMAGE_SIDE))
        };
        let (x, y) = centre(&changed(NONE, 1, 0, 0));
        let mut furthest = 0.0_f32;
        for example in 0..20 {
            let (moved_x, moved_y) = centre(&changed(Augment { shift_pixels: 3.0, ..NONE }, 1, 0, example));
            assert!((moved_x - x).abs() <= 3.01 && (moved_y - y).abs() <= 3.01);
            let (turned_x, turned_y) =
                centre(&changed(Augment { rotate_degrees: 40.0, ..NONE }, 1, 0, example));
            assert!((turned_x - x).abs() < 0.1 && (turned_y - y).abs() < 0.1);
            assert_ne!(
                changed(Augment { rotate_degrees: 40.0, ..NONE }, 1, 0, example),
                changed(NONE, 1, 0, 0)
            );
            furthest = furthest.max((moved_x - x).abs());
        }
        assert!(furthest > 1.5, "{furthest}");
    }
}
