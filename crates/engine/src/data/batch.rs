use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Random streams for the order of examples. The initial weights of the layers use the streams below these.
const STREAM_PARTITION: u64 = 1 << 32;
const STREAM_ORDER: u64 = 2 << 32;

/// The indices of the examples to train on, and of the examples held out for validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Examples to train on.
    pub train: Vec<u32>,
    /// Examples held out for validation.
    pub validation: Vec<u32>,
}

impl Partition {
    /// Shuffles the indices of `examples` with `seed` and keeps the first `samples`. The last `validation` of
    /// these are held out.
    pub fn new(samples: usize, validation: usize, examples: usize, seed: u64) -> Self {
        let mut train = shuffled((0..examples as u32).collect(), seed, STREAM_PARTITION);
        train.truncate(samples);
        let validation = train.split_off(samples.saturating_sub(validation).min(train.len()));
        Self { train, validation }
    }
}

/// The order in which an epoch visits the training examples. The first epoch is 0. The order depends only on `seed` and
/// `epoch`, so a run can resume in the middle of an epoch.
pub fn epoch_order(train: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    shuffled(train.to_vec(), seed, STREAM_ORDER | u64::from(epoch))
}

fn shuffled(mut indices: Vec<u32>, seed: u64, stream: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    indices.shuffle(&mut rng);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_uses_each_example_once_and_depends_on_the_seed_alone() {
        let one = Partition::new(900, 100, 1_000, 7);
        assert_eq!((one.train.len(), one.validation.len()), (800, 100));
        let mut all = [one.train.clone(), one.validation.clone()].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 900);
        assert_eq!(one, Partition::new(900, 100, 1_000, 7));
        assert_ne!(one, Partition::new(900, 100, 1_000, 8));
    }

    /// A different shuffle would change every result. These are the values of the first release.
    #[test]
    fn the_shuffle_of_a_seed_stays_what_it_was() {
        let partition = Partition::new(60_000, 0, 60_000, 42);
        assert_eq!(partition.train[..4], FIRST_OF_PARTITION);
        assert_eq!(epoch_order(&partition.train, 42, 3)[..4], FIRST_OF_EPOCH_3);
    }

    const FIRST_OF_PARTITION: [u32; 4] = [46_005, 55_665, 57_007, 35_178];
    const FIRST_OF_EPOCH_3: [u32; 4] = [57_877, 41_746, 46_176, 3_076];
}
