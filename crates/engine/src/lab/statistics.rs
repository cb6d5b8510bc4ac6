use serde::Serialize;

use crate::nn::Float;

/// Summary statistics of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub struct TensorStatistics {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
    /// Euclidean norm.
    pub norm: f64,
    /// Fraction of the numbers that are exactly 0.
    pub zero_fraction: f64,
}

impl TensorStatistics {
    /// The statistics of `values`, which must not be empty.
    pub fn of<'a, T: Float>(values: impl Iterator<Item = &'a T> + Clone) -> Self {
        let wide = || values.clone().map(|value| value.wide());
        let count = values.clone().count() as f64;
        let mean = wide().sum::<f64>() / count;
        let squares = wide().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        Self {
            min: wide().fold(f64::INFINITY, f64::min),
            max: wide().fold(f64::NEG_INFINITY, f64::max),
            mean,
            deviation: (squares / count).sqrt(),
            norm: wide().map(|value| value * value).sum::<f64>().sqrt(),
            zero_fraction: wide().filter(|&value| value == 0.0).count() as f64 / count,
        }
    }
}

/// A histogram with bins of equal width between the smallest and the largest number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histogram {
    /// The edges of the bins, one more than there are bins.
    pub edges: Vec<f64>,
    /// The count of each bin. A number on an edge belongs to the bin above, except that the last bin includes
    /// its upper edge.
    pub counts: Vec<usize>,
}

/// Number of bins of a [`Histogram`].
pub const BINS: usize = 32;

impl Histogram {
    /// The histogram of `values`, whose statistics are given.
    pub fn of<'a, T: Float>(values: impl Iterator<Item = &'a T>, statistics: &TensorStatistics) -> Self {
        let TensorStatistics { min, max, .. } = *statistics;
        let width = (max - min) / BINS as f64;
        let mut counts = vec![0; BINS];
        for value in values {
            let bin = if width > 0.0 { ((value.wide() - min) / width) as usize } else { 0 };
            counts[bin.min(BINS - 1)] += 1;
        }
        let edge = |index: usize| if index == BINS { max } else { min + width * index as f64 };
        Self { edges: (0..=BINS).map(edge).collect(), counts }
    }
}
