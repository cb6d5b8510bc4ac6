use super::readings::fraction;
use super::{Calibration, Reading, Readings, wilson_interval};

/// The least confidence of a wrong reading that counts as confidently wrong.
pub const CONFIDENCE_MIN: f32 = 0.9;

/// The figures of a classifier on labelled examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Number of examples.
    pub examples: usize,
    /// Number of examples that are read rightly.
    pub correct: usize,
    /// Fraction of them.
    pub accuracy: f64,
    /// The 95 % interval of the accuracy; see [`wilson_interval`].
    pub accuracy_interval: [f64; 2],
    /// Mean cross-entropy.
    pub loss: f64,
    /// Number of examples of each class (row) that are read as each class (column).
    pub confusion: Vec<Vec<u32>>,
    /// The figures of each class.
    pub classes: Vec<ClassFigures>,
    /// Whether confidence is the probability of being right.
    pub calibration: Calibration,
    /// The examples with the highest loss, highest first.
    pub worst: Vec<Reading>,
    /// Number of examples that are read wrongly with a confidence of at least [`CONFIDENCE_MIN`].
    pub confidently_wrong: usize,
    /// The most confident of these, most confident first.
    pub most_confidently_wrong: Vec<Reading>,
}

/// The figures of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassFigures {
    /// Fraction of the examples read as this class that have it. `None` if there are none.
    pub precision: Option<f64>,
    /// Fraction of the examples of this class that are read as it. `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of both, `2 right / (read as it + has it)`. `None` if there are neither.
    pub f1: Option<f64>,
    /// Number of examples of this class.
    pub support: usize,
}

impl Report {
    /// The figures of these readings. `listed` is the largest number of examples in each list.
    ///
    /// # Panics
    /// If a label or a prediction is not below `classes`.
    pub fn of(readings: &Readings, classes: usize, listed: usize) -> Self {
        let examples = readings.len();
        let confusion = confusion(readings, classes);
        let correct = readings.correct();
        let is_confidently_wrong =
            |index: &usize| !readings.is_right(*index) && readings.confidence[*index] >= CONFIDENCE_MIN;
        let confidently_wrong = || (0..examples).filter(is_confidently_wrong);
        Self {
            examples,
            correct,
            accuracy: readings.accuracy(),
            accuracy_interval: wilson_interval(correct, examples),
            loss: readings.losses.iter().sum::<f64>() / examples.max(1) as f64,
            classes: figures(&confusion),
            confusion,
            calibration: Calibration::of(readings),
            worst: readings.largest(0..examples, listed, |index| readings.losses[index]),
            confidently_wrong: confidently_wrong().count(),
            most_confidently_wrong: readings
                .largest(confidently_wrong(), listed, |index| readings.confidence[index].into()),
        }
    }
}

fn confusion(readings: &Readings, classes: usize) -> Vec<Vec<u32>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (&label, &predicted) in readings.labels.iter().zip(&readings.predicted) {
        counts[usize::from(label)][usize::from(predicted)] += 1;
    }
    counts
}

fn figures(confusion: &[Vec<u32>]) -> Vec<ClassFigures> {
    let mut read_as = vec![0; confusion.len()];
    for row in confusion {
        read_as.iter_mut().zip(row).for_each(|(sum, &count)| *sum += count as usize);
    }
    let of_class = |(class, row): (usize, &Vec<u32>)| {
        let right = row[class] as usize;
        let support = row.iter().map(|&count| count as usize).sum();
        ClassFigures {
            precision: fraction(right, read_as[class]),
            recall: fraction(right, support),
            f1: fraction(2 * right, read_as[class] + support),
            support,
        }
    };
    confusion.iter().enumerate().map(of_class).collect()
}
