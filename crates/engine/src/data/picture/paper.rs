//! Corrects uneven light on the paper, such as the shadow in a photo.

use super::ink::{deviation, quantile};

/// Brightness of the picture as `a + bx + cy + dx² + exy + fy²`, with x and y from −1 to 1.
type Surface = [f64; 6];

/// Approximate number of pixels that the surface is fitted to.
const SAMPLES: usize = 10_000;

/// A background that varies by less than this many grey levels counts as evenly lit.
const UNEVEN: f32 = 3.0;

/// Removes uneven light from the grey levels.
///
/// An evenly lit picture is not changed. If no smooth surface fits the variation, the picture is not changed either.
pub fn level(values: &mut [f32], width: usize) {
    let height = values.len() / width;
    let step = (values.len() as f64 / SAMPLES as f64).sqrt().ceil().max(1.0) as usize;
    let samples: Vec<([f64; 6], f32)> = (0..height)
        .step_by(step)
        .flat_map(|y| (0..width).step_by(step).map(move |x| (x, y)))
        .map(|(x, y)| (terms(x, y, width, height), values[y * width + x]))
        .collect();
    let mut grey: Vec<f32> = samples.iter().map(|&(_, value)| value).collect();
    let Some(middle) = quantile(&mut grey, 0.5) else { return };
    let uneven = deviation(&mut grey, middle);
    if uneven < UNEVEN {
        return;
    }

    // The first fit uses all samples, the others only those near the last surface. That excludes the strokes.
    let mut near = f32::INFINITY;
    let mut best = None;
    for _ in 0..8 {
        let used = samples.iter().enumerate().filter(|(index, _)| {
            best.is_none_or(|surface| {
                (samples[*index].1 - height_at(&surface, &samples[*index].0)).abs() <= near
            })
        });
        let Some(surface) = fit(used.map(|(_, sample)| sample)) else { return };
        let mut distances: Vec<f32> =
            samples.iter().map(|(x, value)| value - height_at(&surface, x)).collect();
        near = 2.0 * deviation(&mut distances, 0.0).max(0.5);
        best = Some(surface);
    }
    let Some(surface) = best.filter(|_| near / 2.0 < uneven / 2.0) else { return };
    for (pixel, value) in values.iter_mut().enumerate() {
        *value += middle - height_at(&surface, &terms(pixel % width, pixel / width, width, height));
    }
}

fn terms(x: usize, y: usize, width: usize, height: usize) -> [f64; 6] {
    let x = 2.0 * (x as f64 + 0.5) / width as f64 - 1.0;
    let y = 2.0 * (y as f64 + 0.5) / height as f64 - 1.0;
    [1.0, x, y, x * x, x * y, y * y]
}

fn height_at(surface: &Surface, terms: &[f64; 6]) -> f32 {
    surface.iter().zip(terms).map(|(factor, term)| factor * term).sum::<f64>() as f32
}

/// Least-squares fit of the surface. `None` if the samples don't determine one.
fn fit<'a>(samples: impl Iterator<Item = &'a ([f64; 6], f32)>) -> Option<Surface> {
    // The normal equations, with the right-hand side as seventh column.
    let mut rows = [[0.0; 7]; 6];
    for (terms, value) in samples {
        for (row, term) in rows.iter_mut().zip(terms) {
            for (cell, other) in row.iter_mut().zip(terms.iter().chain([&f64::from(*value)])) {
                *cell += term * other;
            }
        }
    }
    for pivot in 0..6 {
        // The matrix is positive definite, so the diagonal elements can be pivots.
        let factor = rows[pivot][pivot];
        if factor < 1e-6 {
            return None;
        }
        rows[pivot].iter_mut().for_each(|cell| *cell /= factor);
        let solved = rows[pivot];
        for (_, row) in rows.iter_mut().enumerate().filter(|&(index, _)| index != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(solved).for_each(|(cell, other)| *cell -= factor * other);
        }
    }
    Some(rows.map(|row| row[6]))
}
