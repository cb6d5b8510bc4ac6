use ndarray::ArrayView2;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::graph::Graph;
use super::{OnnxError, Pixels};
use crate::nn::{Predictor, Shape};

/// Largest number of elements of a value between two nodes.
pub(super) const VALUES_MAX: usize = 1 << 24;

/// Images to compare two programs on when no data set is at hand: a few bright strokes each, from a fixed seed. Each row
/// has the pixels of an image of this shape.
pub fn seeded_images(shape: Shape, count: usize) -> Vec<Vec<u8>> {
    const STROKES: usize = 3;
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let mut below = |end: usize| random.next_u32() as usize % end.max(1);
    let mut image = || {
        let mut pixels = vec![0; shape.len()];
        for _ in 0..STROKES {
            let (mut row, mut column) = (below(shape.height), below(shape.width));
            for _ in 0..shape.height.max(shape.width) {
                let start = (row * shape.width + column) * shape.channels;
                pixels[start..start + shape.channels].fill(255 - below(128) as u8);
                row = (row + below(3)).saturating_sub(1).min(shape.height - 1);
                column = (column + below(3)).saturating_sub(1).min(shape.width - 1);
            }
        }
        pixels
    };
    (0..count).map(|_| image()).collect()
}

/// The largest difference between the probabilities of `graph`, as the interpreter computes them, and those of
/// `predictor`, over these images. NaN if one of them is.
///
/// # Errors
/// If the graph can't be computed, or `go_on` returns `false`.
pub(super) fn difference(
    graph: &Graph,
    predictor: &Predictor,
    (images, pixels, has_softmax): (&[&[u8]], Pixels, bool),
    go_on: &dyn Fn() -> bool,
) -> Result<f64, OnnxError> {
    let mut largest = 0.0;
    for image in images {
        let unit: Vec<f32> = image.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        let values = match pixels {
            Pixels::Byte => image.iter().map(|&pixel| f64::from(pixel)).collect(),
            Pixels::Unit => unit.iter().map(|&value| f64::from(value)).collect(),
        };
        let output = graph.run(values, VALUES_MAX, go_on)?;
        let probabilities = if has_softmax { probabilities(output.values) } else { softmax(&output.values) };
        let row = ArrayView2::from_shape((1, unit.len()), &unit);
        let row = row.map_err(|error| OnnxError::Graph(error.to_string()))?;
        let ours = predictor.probabilities(row);
        if ours.len() != probabilities.len() {
            return Err(OnnxError::Graph(format!(
                "it gives {} numbers, not {}",
                probabilities.len(),
                ours.len()
            )));
        }
        for (ours, theirs) in ours.iter().zip(&probabilities) {
            let distance = (f64::from(*ours) - theirs).abs();
            // NaN stays NaN.
            largest = if distance > largest || distance.is_nan() { distance } else { largest };
        }
    }
    Ok(largest)
}

/// The output of softmax, or of its logarithm, which is never above 0.
fn probabilities(mut output: Vec<f64>) -> Vec<f64> {
    if output.iter().all(|&value| value <= 0.0) {
        output.iter_mut().for_each(|value| *value = value.exp());
    }
    output
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
