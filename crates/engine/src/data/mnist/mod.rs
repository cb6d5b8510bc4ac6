//! The MNIST database of handwritten digits (Y. LeCun, C. Cortes, C. J. C. Burges), embedded in the binary:
//! 60,000 training and 10,000 test examples.

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use super::idx::{IdxLimits, parse_images, parse_labels};
use super::{ClassCounts, Dataset, DatasetShape, IMAGE, Split, Splits, Statistics};

/// The name under which jobs refer to it.
pub const NAME: &str = "mnist";

/// Numbers of training and test examples.
const TRAIN: usize = 60_000;
const TEST: usize = 10_000;

/// Number of classes, the digits.
const CLASSES: usize = 10;

/// Embeds a file of `data/mnist`. In the repository it is a link to the actual file. A package of the crate contains
/// the file itself.
macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist/", $name))
    };
}

static TRAIN_IMAGES: &[u8] = file!("train-images-idx3-ubyte.gz");
static TRAIN_LABELS: &[u8] = file!("train-labels-idx1-ubyte.gz");
static TEST_IMAGES: &[u8] = file!("t10k-images-idx3-ubyte.gz");
static TEST_LABELS: &[u8] = file!("t10k-labels-idx1-ubyte.gz");

/// The digest of the data set, so that no request waits for it. A test compares it with the computed one.
const SHA256: &str = "2c3b22b11ebcd8c4006ab4d81a1344969df99489efd92979e87d7b40d21157e8";

const LIMITS: IdxLimits = IdxLimits { examples_max: TRAIN };

/// The shape of MNIST, without decompressing it.
pub fn shape() -> DatasetShape {
    DatasetShape { name: NAME.to_owned(), input: IMAGE, classes: CLASSES, train: TRAIN, test: TEST }
}

/// MNIST. The first call decompresses it, to 55 MB.
pub fn dataset() -> Arc<Dataset> {
    static DATASET: LazyLock<Arc<Dataset>> =
        LazyLock::new(|| Arc::new(inflate().with_figures(statistics(), SHA256)));
    Arc::clone(&DATASET)
}

/// The statistics of MNIST, so that no job waits for them. A test compares them with computed ones.
fn statistics() -> Statistics {
    let counts = |per_class: [usize; CLASSES]| ClassCounts {
        examples: per_class.iter().sum(),
        per_class: per_class.to_vec(),
    };
    Statistics {
        splits: Splits {
            train: counts([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
            test: counts([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        },
        mean: 0.1306604762738429,
        deviation: 0.3081078038564627,
        nonzero_fraction: 0.19120229591836735,
    }
}

fn inflate() -> Dataset {
    // The files are embedded and a test checks their digests, so they can be parsed.
    const REASON: &str = "the embedded MNIST is intact";
    let split = |images, labels| {
        let images = parse_images(images, LIMITS).expect(REASON);
        Split::new(images, parse_labels(labels, LIMITS).expect(REASON)).expect(REASON)
    };
    let classes = (0..CLASSES).map(|digit| digit.to_string()).collect();
    let train = split(TRAIN_IMAGES, TRAIN_LABELS);
    Dataset::new(NAME.to_owned(), classes, train, split(TEST_IMAGES, TEST_LABELS)).expect(REASON)
}
