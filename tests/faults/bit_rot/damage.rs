//! Kinds of damage to files.

use std::fs;
use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Bytes at the start of a safetensors file that belong to its header: 8 bytes of length, then JSON.
const HEADER_BYTES: usize = 64;

/// The page size of the database, in bytes.
const PAGE_BYTES: usize = 4096;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A random bit is flipped.
    Bit,
    /// A random bit of the header is flipped.
    Header,
    /// A bit of the last byte is flipped.
    Last,
    /// The file is empty.
    Empty,
    /// The last byte is missing.
    Short,
    /// The second half is missing.
    Half,
    /// A byte is appended.
    Longer,
    /// The file is deleted.
    Gone,
    /// The file is swapped with another file. The caller does this.
    Swap,
    /// Some bytes of a page of the database are changed.
    Page,
}

impl Damage {
    /// All kinds of damage to blobs.
    pub const ALL: [Self; 9] = [
        Self::Bit,
        Self::Header,
        Self::Last,
        Self::Empty,
        Self::Short,
        Self::Half,
        Self::Longer,
        Self::Gone,
        Self::Swap,
    ];
}

/// Damages the file at `path`.
pub fn apply(damage: Damage, path: &Path, rng: &mut ChaCha8Rng) {
    let mut bytes = fs::read(path).expect("a file to damage");
    let length = bytes.len();
    let mut flip = |from: usize, to: usize| {
        let at = rng.random_range(from..to);
        bytes[at] ^= 1 << rng.random_range(0..8);
    };
    match damage {
        Damage::Bit => flip(0, length),
        Damage::Header => flip(0, HEADER_BYTES.min(length)),
        Damage::Last => flip(length - 1, length),
        Damage::Empty => bytes.clear(),
        Damage::Short => bytes.truncate(length - 1),
        Damage::Half => bytes.truncate(length / 2),
        Damage::Longer => bytes.push(0),
        Damage::Page => {
            let page = rng.random_range(0..length / PAGE_BYTES);
            for _ in 0..16 {
                let at = page * PAGE_BYTES + rng.random_range(0..PAGE_BYTES);
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        Damage::Swap => return,
        Damage::Gone => return fs::remove_file(path).expect("a file to remove"),
    }
    fs::write(path, bytes).expect("a file to damage");
}
