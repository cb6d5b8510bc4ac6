//! Converts bytes to arrays: IDX files, pictures and the built-in MNIST. Also the split and the order in
//! which training visits the examples.
//!
//! The result of every function depends only on its arguments. No file, clock or environment is read.

mod augment;
mod batch;
mod digest;
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

/// Number of pixels of an image.
pub const IMAGE_PIXELS: usize = IMAGE_SIDE * IMAGE_SIDE;

/// Largest number of classes in a data set.
pub const CLASSES_MAX: usize = 1_000;

/// The shape of every image. Pictures of other sizes are converted to it.
const IMAGE: Shape = Shape { height: IMAGE_SIDE, width: IMAGE_SIDE, channels: 1 };

/// Labelled images. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    images: Array2<u8>,
    labels: Vec<u16>,
}

/// Labelled images with named classes, split into training and test examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The name under which jobs refer to it.
    pub name: String,
    /// Names of the classes. Label 0 is the first.
    pub classes: Vec<String>,
    /// The training examples. Validation examples are taken from these.
    pub train: Split,
    /// The test examples.
    pub test: Split,
    statistics: OnceLock<Statistics>,
    sha256: OnceLock<String>,
}

/// The splits that every data set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the split with its name")]
pub enum SplitName {
    Train,
    Test,
}

/// The statistics of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The number of examples in each split.
    pub splits: Splits,
    /// Mean of the training pixels, from 0 to 1.
    pub mean: f64,
    /// Population standard deviation of the training pixels, from 0 to 1.
    pub deviation: f64,
    /// Fraction of the training pixels that are not 0.
    pub nonzero_fraction: f64,
}

/// The number of examples in each split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each counts the examples of the split with its name")]
pub struct Splits {
    pub train: ClassCounts,
    pub test: ClassCounts,
}

/// The number of examples in one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Number of examples of all classes.
    pub examples: usize,
    /// Number of examples of each class. Label 0 is the first.
    pub per_class: Vec<usize>,
}

/// The properties of a data set that a job needs before the data set is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields without a description are counts")]
pub struct DatasetShape {
    /// The name under which jobs refer to it.
    pub name: String,
    /// Rows, columns and channels of an image.
    pub input: Shape,
    pub classes: usize,
    pub train: usize,
    pub test: usize,
}

/// Converts pixels from 0–255 to values from 0 to 1, for a prediction. The values are the quotients `pixel / 255`, as
/// clients compute them. So a picture and the same image sent as numbers have the same prediction.
///
/// Training multiplies by `1 / 255` instead ([`Images`](crate::nn::Images)). For 126 of the 256 pixels, this product is
/// one unit in the last place larger.
pub fn to_unit(pixels: &[u8]) -> impl Iterator<Item = f32> {
    pixels.iter().map(|&pixel| f32::from(pixel) / 255.0)
}

/// The shapes of all built-in data sets, sorted by name.
pub fn shapes() -> Vec<DatasetShape> {
    vec![mnist::shape()]
}

/// The shape of the built-in data set with this name.
pub fn shape(name: &str) -> Option<DatasetShape> {
    shapes().into_iter().find(|shape| shape.name == name)
}

/// The built-in data set with this name.
pub fn named(name: &str) -> Option<Arc<Dataset>> {
    (name == mnist::NAME).then(mnist::dataset)
}

/// The reason why arrays don't form a data set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum DataError {
    #[error("there are {images} images and {labels} labels")]
    Unpaired { images: usize, labels: usize },
    #[error("an image has {found} pixels, not {IMAGE_PIXELS}")]
    WrongPixels { found: usize },
    #[error("there are no examples")]
    Empty,
    #[error("there are {0} classes, a data set has at most {CLASSES_MAX}")]
    TooManyClasses(usize),
    #[error("the {split} split has the label {label} at {index}, there are {classes} classes")]
    UnknownLabel { split: SplitName, index: usize, label: u16, classes: usize },
    #[error("unknown split {0:?}, there are train and test")]
    UnknownSplit(String),
}

impl Split {
    /// Pairs `images` (n, 784) with `labels` (n). A pixel of 0 is background.
    ///
    /// # Errors
    /// If the shapes don't match, or there are no examples.
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

    /// The images (n, 784) in row-major order. A pixel of 0 is background.
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
    /// If `index` is out of range.
    pub fn image(&self, index: usize) -> &[u8] {
        let pixels = self.images.as_slice().expect("the constructor made the images row-major");
        &pixels[index * IMAGE_PIXELS..(index + 1) * IMAGE_PIXELS]
    }

    /// Number of examples. It is at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a split is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    fn counts(&self, classes: usize) -> ClassCounts {
        let mut per_class = vec![0; classes];
        for &label in &self.labels {
            per_class[usize::from(label)] += 1;
        }
        ClassCounts { examples: self.len(), per_class }
    }
}

impl Dataset {
    /// A data set from two splits.
    ///
    /// # Errors
    /// If a label is not smaller than the number of classes, or there are more than [`CLASSES_MAX`].
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
        Ok(Self { name, classes, train, test, statistics: OnceLock::new(), sha256: OnceLock::new() })
    }

    /// The same data set with precomputed statistics and digest.
    fn with_figures(self, statistics: Statistics, sha256: &str) -> Self {
        Self { statistics: OnceLock::from(statistics), sha256: OnceLock::from(sha256.to_owned()), ..self }
    }

    /// The properties that a job needs before the data set is loaded.
    pub fn shape(&self) -> DatasetShape {
        DatasetShape {
            name: self.name.clone(),
            input: IMAGE,
            classes: self.classes.len(),
            train: self.train.len(),
            test: self.test.len(),
        }
    }

    /// The split with this name.
    pub fn split(&self, name: SplitName) -> &Split {
        match name {
            SplitName::Train => &self.train,
            SplitName::Test => &self.test,
        }
    }

    /// The statistics of the data set. They are computed on the first call.
    pub fn statistics(&self) -> &Statistics {
        self.statistics.get_or_init(|| self.measure())
    }

    /// The SHA-256 of classes, images and labels, in hex. It is computed on the first call.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| digest::sha256(self))
    }

    fn measure(&self) -> Statistics {
        // A histogram keeps the sums exact: they have 256 terms instead of millions.
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
    /// The name as in a URL: `train` or `test`.
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
