use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::data;

/// A page of data sets.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct DatasetList {
    /// The data sets, ordered by name.
    pub datasets: Vec<DatasetEntry>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A data set in a list.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct DatasetEntry {
    /// The name to use in requests and paths.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Number of training examples.
    pub train_examples: usize,
}

/// A data set with its statistics.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Dataset {
    /// The name to use in requests and paths.
    pub name: String,
    /// Names of the classes; a label is an index in this list.
    pub classes: Vec<String>,
    /// Rows and columns of an image, in pixels.
    pub shape: [usize; 2],
    /// SHA-256 of its content, in hexadecimal. It is the digest of: for each class, the length of its name (4 bytes) and
    /// the name; then for the training and the test examples, their number (8 bytes), the bytes of all pixels, and all
    /// labels (2 bytes each). Numbers are little-endian.
    pub sha256: String,
    /// Counts of each split.
    pub splits: Splits,
    /// Mean of the training pixels, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub mean: f64,
    /// Population standard deviation of the training pixels, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub deviation: f64,
    /// Fraction of the training pixels that are not background.
    #[schema(minimum = 0, maximum = 1)]
    pub nonzero_fraction: f64,
}

/// How many examples each split has.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Splits {
    /// The examples to train on.
    pub train: SplitCounts,
    /// The examples to test with.
    pub test: SplitCounts,
}

/// How many examples a split has.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SplitCounts {
    /// Number of examples.
    pub examples: usize,
    /// Number of examples of each class, label 0 first.
    pub per_class: Vec<usize>,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The examples to train on.
    Train,
    /// The examples to test with.
    Test,
}

/// One example.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Example {
    /// The data set.
    pub dataset: String,
    /// The split of the data set.
    pub split: Split,
    /// Index in the split, from 0.
    pub index: usize,
    /// Number of the class, from 0.
    pub label: u16,
    /// Name of the class.
    pub class: String,
    /// 28 rows of 28 pixels, 0 to 255, bright on dark.
    #[schema(value_type = Vec<Vec<u16>>)]
    pub image: Vec<Vec<u8>>,
}

impl Dataset {
    /// Converts a data set. The first time, its statistics and digest are computed.
    pub fn new(dataset: &data::Dataset) -> Self {
        let (name, classes, input) = (dataset.name.clone(), dataset.classes.clone(), dataset.shape().input);
        let (shape, sha256) = ([input.height, input.width], dataset.sha256().to_owned());
        let data::Statistics { splits, mean, deviation, nonzero_fraction } = dataset.statistics().clone();
        let data::Splits { train, test } = splits;
        let counts = |data::ClassCounts { examples, per_class }| SplitCounts { examples, per_class };
        let splits = Splits { train: counts(train), test: counts(test) };
        Self { name, classes, shape, sha256, splits, mean, deviation, nonzero_fraction }
    }
}

impl Split {
    /// Returns the split as a word in JSON.
    pub fn word(self) -> &'static str {
        data::SplitName::from(self).as_str()
    }
}

impl From<Split> for data::SplitName {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Test => Self::Test,
        }
    }
}

impl From<data::SplitName> for Split {
    fn from(split: data::SplitName) -> Self {
        match split {
            data::SplitName::Train => Self::Train,
            data::SplitName::Test => Self::Test,
        }
    }
}
