use std::io::Read;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::*;

fn digest_of_content(file: &[u8]) -> String {
    let mut content = Vec::new();
    MultiGzDecoder::new(file).read_to_end(&mut content).unwrap();
    Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digests of the uncompressed files, from `data/mnist/SHA256SUMS.raw`.
#[test]
fn the_embedded_files_are_the_original_ones() {
    let files = [
        (TRAIN_IMAGES, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        (TRAIN_LABELS, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (TEST_IMAGES, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        (TEST_LABELS, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ];
    for (file, digest) in files {
        assert_eq!(digest_of_content(file), digest);
    }
}

#[test]
fn it_has_60000_examples_to_train_on_and_10000_to_test_with() {
    let dataset = dataset();
    assert_eq!(dataset.name, "mnist");
    assert_eq!(dataset.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(dataset.train.images().dim(), (60_000, 784));
    assert_eq!(dataset.test.images().dim(), (10_000, 784));
    assert_eq!(dataset.train.labels()[..5], [5, 0, 4, 1, 9]);
    assert_eq!(dataset.test.labels()[..5], [7, 2, 1, 0, 4]);
}

#[test]
fn it_is_inflated_once() {
    assert!(Arc::ptr_eq(&dataset(), &dataset()));
}

#[test]
fn its_statistics_are_those_that_are_measured() {
    assert_eq!(dataset().statistics(), inflate().statistics());
}

/// The constant is also what `tests/fixtures/evaluation.py` computes from the files.
#[test]
fn its_digest_is_the_one_that_is_computed() {
    let inflated = inflate();
    assert_eq!(dataset().sha256(), inflated.sha256());
    let renamed = Dataset { name: "copy".to_owned(), ..inflate() };
    assert_eq!(renamed.sha256(), inflated.sha256());
    let named = Dataset { classes: vec!["zero".to_owned()], ..inflate() };
    assert_ne!(named.sha256(), inflated.sha256());
}

/// Mean and deviation are those in PyTorch's MNIST example. The 19.1 % is from `data/mnist/README.md`.
#[test]
fn its_statistics_are_the_published_ones() {
    let statistics = dataset().statistics().clone();
    assert!((statistics.mean - 0.1307).abs() < 5e-5, "{}", statistics.mean);
    assert!((statistics.deviation - 0.3081).abs() < 5e-5, "{}", statistics.deviation);
    assert!((statistics.nonzero_fraction - 0.191).abs() < 5e-4, "{}", statistics.nonzero_fraction);
    assert_eq!(statistics.splits.train.examples, 60_000);
    assert_eq!(
        statistics.splits.train.per_class,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    );
    assert_eq!(statistics.splits.test.per_class, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
}

#[test]
fn the_shape_known_in_advance_is_that_of_the_data() {
    assert_eq!(shape(), dataset().shape());
}
