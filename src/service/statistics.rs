//! What this process counts about the predictions of each version.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// The most versions that are counted. Beyond it, the version whose last prediction is the oldest is forgotten.
const VERSIONS_MAX: usize = 1_024;

/// The most batch sizes that are counted separately for a version.
const BATCH_SIZES_MAX: usize = 32;

/// How often something was done, and how long all of it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// How long, all together.
    pub total: Duration,
}

impl Tally {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
    }
}

/// What is counted for the batches of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTally {
    /// Parsing of the requests whose first batch has this size.
    pub input: Tally,
    /// Passes through the network.
    pub infer: Tally,
    /// Responses to the requests whose first batch has this size.
    pub output: Tally,
}

/// What is counted for a version of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionStatistics {
    /// When the last prediction ended.
    pub last_inference: Option<Timestamp>,
    /// Images predicted.
    pub images: u64,
    /// Batches that passed through the network.
    pub executions: u64,
    /// Predictions that succeeded, from the request to the response.
    pub success: Tally,
    /// Predictions that failed.
    pub fail: Tally,
    /// Waiting for a place in a lane.
    pub queue: Tally,
    /// Parsing of images.
    pub input: Tally,
    /// Passes through the network.
    pub infer: Tally,
    /// Making of responses.
    pub output: Tally,
    /// The batches, by size. Sizes beyond a limit are only counted in the other fields.
    pub batches: BTreeMap<usize, BatchTally>,
}

/// How long the parts of one prediction took.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    pub(super) queue: Duration,
    pub(super) input: Duration,
    pub(super) output: Duration,
    /// Size and duration of each batch.
    pub(super) batches: Vec<(usize, Duration)>,
}

impl VersionStatistics {
    fn add(&mut self, timing: &Timing, total: Duration) {
        self.success.add(total);
        self.queue.add(timing.queue);
        self.input.add(timing.input);
        self.output.add(timing.output);
        self.infer.add(timing.batches.iter().map(|(_, took)| *took).sum());
        for (index, &(size, took)) in timing.batches.iter().enumerate() {
            self.images += size as u64;
            self.executions += 1;
            if self.batches.len() >= BATCH_SIZES_MAX && !self.batches.contains_key(&size) {
                continue;
            }
            let batch = self.batches.entry(size).or_default();
            batch.infer.add(took);
            if index == 0 {
                batch.input.add(timing.input);
                batch.output.add(timing.output);
            }
        }
    }
}

/// The statistics of all versions that have predicted, by name and number.
#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    by_name: HashMap<String, BTreeMap<u32, VersionStatistics>>,
    versions: usize,
}

impl Statistics {
    /// Counts a prediction that succeeded.
    pub(super) fn succeeded(&self, name: &str, version: u32, timing: &Timing, total: Duration) {
        self.change(name, version, |statistics| statistics.add(timing, total));
    }

    /// Counts a prediction that failed.
    pub(super) fn failed(&self, name: &str, version: u32, total: Duration) {
        self.change(name, version, |statistics| statistics.fail.add(total));
    }

    /// Returns what was counted for a version.
    pub(super) fn of(&self, name: &str, version: u32) -> VersionStatistics {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.by_name.get(name).and_then(|versions| versions.get(&version)).cloned().unwrap_or_default()
    }

    /// Forgets the versions for which `is_known` is false.
    pub(super) fn retain(&self, is_known: impl Fn(&str, u32) -> bool) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, versions) in &mut counted.by_name {
            versions.retain(|version, _| is_known(name, *version));
        }
        counted.tidy();
    }

    fn change(&self, name: &str, version: u32, change: impl FnOnce(&mut VersionStatistics)) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let statistics = counted.of(name, version);
        change(statistics);
        statistics.last_inference = Some(Timestamp::now());
    }
}

impl Counted {
    fn of(&mut self, name: &str, version: u32) -> &mut VersionStatistics {
        let is_new = self.by_name.get(name).is_none_or(|versions| !versions.contains_key(&version));
        if is_new {
            if self.versions >= VERSIONS_MAX {
                self.forget_oldest();
            }
            self.versions += 1;
            self.by_name.entry(name.to_owned()).or_default();
        }
        self.by_name.get_mut(name).expect("inserted above").entry(version).or_default()
    }

    fn forget_oldest(&mut self) {
        let all = self.by_name.iter().flat_map(|(name, versions)| {
            versions.iter().map(move |(version, statistics)| (statistics.last_inference, name, *version))
        });
        let Some((name, version)) = all.min().map(|(_, name, version)| (name.clone(), version)) else {
            return;
        };
        if let Some(versions) = self.by_name.get_mut(&name) {
            versions.remove(&version);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.by_name.retain(|_, versions| !versions.is_empty());
        self.versions = self.by_name.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn timing(sizes: &[usize]) -> Timing {
        let batches = sizes.iter().map(|&size| (size, MILLISECOND)).collect();
        Timing { queue: MILLISECOND, input: MILLISECOND, output: MILLISECOND, batches }
    }

    #[test]
    fn images_and_batches_are_counted_apart() {
        let statistics = Statistics::default();
        statistics.succeeded("digits", 1, &timing(&[1_024, 1_024, 2]), 9 * MILLISECOND);
        statistics.succeeded("digits", 1, &timing(&[2]), MILLISECOND);
        statistics.failed("digits", 1, MILLISECOND);
        let found = statistics.of("digits", 1);
        assert_eq!((found.images, found.executions), (2_052, 4));
        assert_eq!((found.success.count, found.fail.count, found.queue.count), (2, 1, 2));
        assert_eq!(found.success.total, 10 * MILLISECOND);
        assert_eq!(found.infer, Tally { count: 2, total: 4 * MILLISECOND });
        let counts = |size: usize| (found.batches[&size].input.count, found.batches[&size].infer.count);
        assert_eq!((counts(1_024), counts(2)), ((1, 2), (1, 2)));
        assert_eq!(statistics.of("digits", 2), VersionStatistics::default());
    }

    #[test]
    fn neither_versions_nor_batch_sizes_grow_without_end() {
        let statistics = Statistics::default();
        for version in 1..=VERSIONS_MAX as u32 + 10 {
            statistics.failed("digits", version, MILLISECOND);
        }
        for size in 1..100 {
            statistics.succeeded("digits", 2_000, &timing(&[size]), MILLISECOND);
        }
        assert_eq!(statistics.0.lock().expect("a lock").versions, VERSIONS_MAX);
        assert_eq!(statistics.of("digits", 1), VersionStatistics::default());
        let found = statistics.of("digits", 2_000);
        assert_eq!((found.batches.len(), found.executions), (BATCH_SIZES_MAX, 99));
        statistics.retain(|_, version| version == 2_000);
        assert_eq!(statistics.0.lock().expect("a lock").versions, 1);
    }
}
