use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use crate::nn::{Loss, LossKind, ThreadPool, argmax, softmax};

/// Examples whose readings one task computes.
const ROWS: usize = 256;

/// What a classifier reads in labelled examples, in the order of the examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The class of each example.
    pub labels: Vec<u16>,
    /// The most probable class of each example.
    pub predicted: Vec<u16>,
    /// The probability of that class.
    pub confidence: Vec<f32>,
    /// The cross-entropy of each example, `−ln p` of its class.
    pub losses: Vec<f64>,
}

/// What a classifier reads in one example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Index of the example.
    pub index: usize,
    /// The class of the example.
    pub label: u16,
    /// The most probable class.
    pub predicted: u16,
    /// The probability of that class.
    pub confidence: f32,
    /// The cross-entropy, `−ln p` of the label.
    pub loss: f64,
}

/// The error of a network whose scores are infinite or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scores of the network are not finite for the example {index}")]
pub struct NotFinite {
    /// Index of the example.
    pub index: usize,
}

impl Readings {
    /// No readings yet, with memory for those of `examples` examples.
    pub fn with_capacity(examples: usize) -> Self {
        Self {
            labels: Vec::with_capacity(examples),
            predicted: Vec::with_capacity(examples),
            confidence: Vec::with_capacity(examples),
            losses: Vec::with_capacity(examples),
        }
    }

    /// Adds the readings of the next examples from their scores (n, classes) and labels (n), on the threads of `pool`.
    /// The loss is computed from the scores, so it is finite where the probability of the label underflows to 0.
    ///
    /// # Errors
    /// If a score is infinite or NaN. The new readings are then meaningless.
    pub fn add(
        &mut self,
        pool: &ThreadPool,
        mut scores: Array2<f32>,
        labels: &[u16],
    ) -> Result<(), NotFinite> {
        let begin = self.len();
        let end = begin + labels.len();
        self.labels.extend(labels);
        self.predicted.resize(end, 0);
        self.confidence.resize(end, 0.0);
        self.losses.resize(end, 0.0);
        let read = self.predicted[begin..].chunks_mut(ROWS).zip(self.confidence[begin..].chunks_mut(ROWS));
        let parts = scores.axis_chunks_iter_mut(Axis(0), ROWS).zip(labels.chunks(ROWS));
        let parts = parts.zip(read.zip(self.losses[begin..].chunks_mut(ROWS)));
        pool.for_each(parts, |((scores, labels), (read, losses))| {
            write_losses(scores.view(), labels, losses);
            write_readings(scores, read);
        });
        match self.losses[begin..].iter().position(|loss| !loss.is_finite()) {
            Some(row) => Err(NotFinite { index: begin + row }),
            None => Ok(()),
        }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The reading of the example at `index`.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn get(&self, index: usize) -> Reading {
        Reading {
            index,
            label: self.labels[index],
            predicted: self.predicted[index],
            confidence: self.confidence[index],
            loss: self.losses[index],
        }
    }

    /// Whether the example at `index` is read as what it is.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn is_right(&self, index: usize) -> bool {
        self.predicted[index] == self.labels[index]
    }

    /// Number of examples that are read as what they are.
    pub fn correct(&self) -> usize {
        (0..self.len()).filter(|&index| self.is_right(index)).count()
    }

    /// Fraction of the examples that are read as what they are. 0 without examples.
    pub fn accuracy(&self) -> f64 {
        fraction(self.correct(), self.len()).unwrap_or(0.0)
    }

    /// Up to `count` of `candidates` with the largest `key`, in decreasing order. Among equal keys, the first example
    /// comes first.
    pub(super) fn largest(
        &self,
        candidates: impl Iterator<Item = usize>,
        count: usize,
        key: impl Fn(usize) -> f64,
    ) -> Vec<Reading> {
        let order = |a: &usize, b: &usize| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
        let mut indices: Vec<usize> = candidates.collect();
        if count < indices.len() {
            indices.select_nth_unstable_by(count, order);
            indices.truncate(count);
        }
        indices.sort_unstable_by(order);
        indices.into_iter().map(|index| self.get(index)).collect()
    }
}

fn write_losses(scores: ArrayView2<f32>, labels: &[u16], losses: &mut [f64]) {
    let loss = Loss::new(LossKind::CrossEntropy);
    for (row, (label, of_row)) in labels.iter().zip(losses).enumerate() {
        *of_row = loss.forward(scores.slice(s![row..=row, ..]), std::slice::from_ref(label));
    }
}

/// Writes the most probable classes and their probabilities.
fn write_readings(mut scores: ArrayViewMut2<f32>, (predicted, confidence): (&mut [u16], &mut [f32])) {
    softmax(scores.view_mut());
    for (probabilities, (predicted, confidence)) in
        scores.rows().into_iter().zip(predicted.iter_mut().zip(confidence))
    {
        let best = argmax(probabilities.iter());
        (*predicted, *confidence) = (best as u16, probabilities[best]);
    }
}

/// `part / whole`, or `None` if the whole is 0.
pub(super) fn fraction(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
