use super::Readings;
use super::readings::fraction;

/// Number of bins, as in the experiments of Guo et al.
const BINS: usize = 15;

/// Whether confidence is the probability of being right.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The expected calibration error `Σ_b n_b/n · |accuracy_b − confidence_b|` over the bins (Guo, Pleiss, Sun,
    /// Weinberger, *On Calibration of Modern Neural Networks*, 2017).
    pub expected_error: f64,
    /// The bins, from low to high confidence.
    pub bins: Vec<Bin>,
}

/// The examples whose confidence is in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The end below the interval, excluded.
    pub above: f64,
    /// The upper end of the interval, included.
    pub to: f64,
    /// Number of examples.
    pub examples: usize,
    /// Their mean confidence. `None` without examples.
    pub confidence: Option<f64>,
    /// Fraction of them that are right. `None` without examples.
    pub accuracy: Option<f64>,
}

impl Calibration {
    /// The calibration of these readings in 15 intervals of equal width.
    pub fn of(readings: &Readings) -> Self {
        let (mut examples, mut correct, mut sums) = ([0; BINS], [0; BINS], [0.0; BINS]);
        for (index, &confidence) in readings.confidence.iter().enumerate() {
            let confidence = f64::from(confidence);
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            examples[bin] += 1;
            correct[bin] += usize::from(readings.is_right(index));
            sums[bin] += confidence;
        }
        let bin = |bin: usize| Bin {
            above: bin as f64 / BINS as f64,
            to: (bin + 1) as f64 / BINS as f64,
            examples: examples[bin],
            confidence: (examples[bin] > 0).then(|| sums[bin] / examples[bin] as f64),
            accuracy: fraction(correct[bin], examples[bin]),
        };
        let bins: Vec<Bin> = (0..BINS).map(bin).collect();
        let error = |bin: usize| (correct[bin] as f64 - sums[bin]).abs();
        let errors: f64 = (0..BINS).map(error).sum();
        Self { expected_error: errors / readings.len().max(1) as f64, bins }
    }
}
