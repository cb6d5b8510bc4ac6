//! What disks do to files.

use std::fs;
use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Bytes at the front of a file that hold its header: a length of 8 bytes, then JSON.
const HEADER_BYTES: usize = 64;

/// Bytes of a page of the database.
const PAGE_BYTES: usize = 4096;

/// A way in which a file is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A bit anywhere is another.
    Bit,
    /// A bit of the header is another.
    Header,
    /// A bit of the last byte is another.
    Last,
    /// Nothing is left but the name.
    Empty,
    /// The last byte is missing.
    Short,
    /// The second half is missing.
    Half,
    /// A byte came behind.
    Longer,
    /// The file is gone.
    Gone,
    /// It is another's: who applies it swaps the files.
    Swap,
    /// Some bytes of a page of a database are others.
    Page,
}

impl Damage {
    /// Every damage of a blob.
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
