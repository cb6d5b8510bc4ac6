use sha2::{Digest, Sha256};

use super::{Dataset, Split};

/// The SHA-256 of a data set, in hex. It is the digest of these bytes, where numbers are little-endian:
///
/// - for each class: the length of its name (4 bytes) and the name in UTF-8,
/// - for the training and then the test examples: their number (8 bytes), the pixels of all images, and all labels (2
///   bytes each).
///
/// The name of the data set is not part of it, so a renamed copy has the same digest.
pub(super) fn sha256(dataset: &Dataset) -> String {
    let mut sha256 = Sha256::new();
    for class in &dataset.classes {
        sha256.update((class.len() as u32).to_le_bytes());
        sha256.update(class);
    }
    [&dataset.train, &dataset.test].into_iter().for_each(|split| add(&mut sha256, split));
    sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(sha256: &mut Sha256, split: &Split) {
    sha256.update((split.len() as u64).to_le_bytes());
    for index in 0..split.len() {
        sha256.update(split.image(index));
    }
    for label in split.labels() {
        sha256.update(label.to_le_bytes());
    }
}
