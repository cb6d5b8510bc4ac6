//! Bytes to arrays: IDX files, pictures, the built-in MNIST, and the order in which a run meets them.
//!
//! Everything here is a function of its arguments: no file, clock or environment is read.

mod augment;
mod batch;
pub mod idx;
pub mod mnist;
pub mod picture;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use ndarray::Array2;
use serde::Serialize;

pub use augment::{Augment, Elastic};
pub use batch::{Partition, epoch_order};

use crate::nn::Shape;

/// Width and height of an image in pixels.
pub const IMAGE_SIDE: usize = 28;

/// Pixels of an image.
pub const IMAGE_PIXELS: usize = IMAGE_SIDE * IMAGE_SIDE;

/// Classes of a data set.
pub const CLASSES_MAX: usize = 1_000;

/// The shape of an image: whatever pictures a data set was made of, they were brought to it.
const IMAGE: Shape = Shape { height: IMAGE_SIDE, width: IMAGE_SIDE, channels: 1 };

/// Labelled images, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    images: Array2<u8>,
    labels: Vec<u16>,
}

/// Labelled images of named classes, one part to train on and one to test with.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What it is called.
    pub name: String,
    /// What the labels stand for, label 0 first.
    pub classes: Vec<String>,
    /// The examples to train on.
    pub train: Split,
    /// The examples to test with.
    pub test: Split,
    statistics: OnceLock<Statistics>,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitName {
    /// The examples to train on.
    Train,
    /// The examples to test with.
    Test,
}

/// The figures of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Counts of each split.
    pub splits: Splits,
    /// Mean of the training pixels, 0 to 1.
    pub mean: f64,
    /// Population standard deviation of the training pixels, 0 to 1.
    pub deviation: f64,
    /// Fraction of the training pixels that are not background.
    pub nonzero_fraction: f64,
}

/// How many examples each split has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Splits {
    /// To train on.
    pub train: Counts,
    /// To test with.
    pub test: Counts,
}

/// How many examples a split has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// In all.
    pub examples: usize,
    /// Of each class, label 0 first.
    pub per_class: Vec<usize>,
}

/// What a job needs to know of a data set before it reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetShape {
    /// Its name.
    pub name: String,
    /// Rows, columns and channels of an image.
    pub input: Shape,
    /// Number of classes.
    pub classes: usize,
    /// Number of training examples.
    pub train: usize,
    /// Number of test examples.
    pub test: usize,
}

/// The data sets there are, in the order of their names.
pub fn shapes() -> Vec<DatasetShape> {
    vec![mnist::shape()]
}

/// The shape of the data set called `name`.
pub fn shape(name: &str) -> Option<DatasetShape> {
    shapes().into_iter().find(|shape| shape.name == name)
}

/// The data set called `name`.
pub fn named(name: &str) -> Option<Arc<Dataset>> {
    (name == mnist::NAME).then(mnist::dataset)
}

/// Arrays that make no data set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Images and labels are not pairs.
    #[error("there are {images} images and {labels} labels")]
    Unpaired {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// The images have another size.
    #[error("an image has {found} pixels, not {IMAGE_PIXELS}")]
    WrongPixels {
        /// Pixels of an image.
        found: usize,
    },
    /// There is nothing to learn from or to test with.
    #[error("there are no examples")]
    Empty,
    /// There are more classes than a data set may have.
    #[error("there are {0} classes, a data set has at most {CLASSES_MAX}")]
    TooManyClasses(usize),
    /// A label has no class.
    #[error("the {split} split has the label {label} at {index}, there are {classes} classes")]
    UnknownLabel {
        /// Where it stands.
        split: SplitName,
        /// Number of the example.
        index: usize,
        /// The label.
        label: u16,
        /// Number of classes.
        classes: usize,
    },
    /// A word that names no split.
    #[error("unknown split {0:?}, there are train and test")]
    UnknownSplit(String),
}

impl Split {
    /// Pairs `images` (n, 784), 0 = background, with as many labels.
    ///
    /// # Errors
    /// If the shapes don't fit, or there are none.
    pub fn new(images: Array2<u8>, labels: Vec<u16>) -> Result<Self, DataError> {
        if images.ncols() != IMAGE_PIXELS {
            return Err(DataError::WrongPixels { found: images.ncols() });
        }
        if images.nrows() != labels.len() {
            return Err(DataError::Unpaired { images: images.nrows(), labels: labels.len() });
        }
        if labels.is_empty() {
            return Err(DataError::Empty);
        }
        let images =
            if images.is_standard_layout() { images } else { images.as_standard_layout().into_owned() };
        Ok(Self { images, labels })
    }

    /// The images (n, 784) in row-major order, 0 = background.
    pub fn images(&self) -> &Array2<u8> {
        &self.images
    }

    /// The labels (n).
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The 784 pixels of image `index`, row by row.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let pixels = self.images.as_slice().expect("the constructor made the images row-major");
        &pixels[index * IMAGE_PIXELS..(index + 1) * IMAGE_PIXELS]
    }

    /// Number of examples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a split is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    fn counts(&self, classes: usize) -> Counts {
        let mut per_class = vec![0; classes];
        for &label in &self.labels {
            per_class[usize::from(label)] += 1;
        }
        Counts { examples: self.len(), per_class }
    }
}

impl Dataset {
    /// A data set whose labels all have a class.
    ///
    /// # Errors
    /// If a label has none, or the classes are more than [`CLASSES_MAX`].
    pub fn new(name: String, classes: Vec<String>, train: Split, test: Split) -> Result<Self, DataError> {
        if classes.len() > CLASSES_MAX {
            return Err(DataError::TooManyClasses(classes.len()));
        }
        for (split, examples) in [(SplitName::Train, &train), (SplitName::Test, &test)] {
            let unknown = examples.labels.iter().position(|&label| usize::from(label) >= classes.len());
            if let Some(index) = unknown {
                let label = examples.labels[index];
                return Err(DataError::UnknownLabel { split, index, label, classes: classes.len() });
            }
        }
        Ok(Self { name, classes, train, test, statistics: OnceLock::new() })
    }

    /// The same with figures that were measured before.
    fn with_statistics(self, statistics: Statistics) -> Self {
        Self { statistics: OnceLock::from(statistics), ..self }
    }

    /// What a job needs to know of it.
    pub fn shape(&self) -> DatasetShape {
        DatasetShape {
            name: self.name.clone(),
            input: IMAGE,
            classes: self.classes.len(),
            train: self.train.len(),
            test: self.test.len(),
        }
    }

    /// The examples called `name`.
    pub fn split(&self, name: SplitName) -> &Split {
        match name {
            SplitName::Train => &self.train,
            SplitName::Test => &self.test,
        }
    }

    /// The counts of both splits and the figures of the training pixels, measured when first asked for.
    pub fn statistics(&self) -> &Statistics {
        self.statistics.get_or_init(|| self.measure())
    }

    fn measure(&self) -> Statistics {
        // Sums over 256 values instead of millions lose no digits.
        let mut histogram = [0_u64; 256];
        for &pixel in &self.train.images {
            histogram[usize::from(pixel)] += 1;
        }
        let count = self.train.images.len() as f64;
        let moment = |power: i32| {
            let values = histogram.iter().enumerate();
            values.map(|(value, &times)| (value as f64 / 255.0).powi(power) * times as f64).sum::<f64>()
                / count
        };
        let mean = moment(1);
        Statistics {
            splits: Splits {
                train: self.train.counts(self.classes.len()),
                test: self.test.counts(self.classes.len()),
            },
            mean,
            deviation: (moment(2) - mean * mean).max(0.0).sqrt(),
            nonzero_fraction: 1.0 - histogram[0] as f64 / count,
        }
    }
}

impl SplitName {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SplitName {
    type Err = DataError;

    fn from_str(word: &str) -> Result<Self, DataError> {
        match word {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(DataError::UnknownSplit(word.chars().take(64).collect())),
        }
    }
}
