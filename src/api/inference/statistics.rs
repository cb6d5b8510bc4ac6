use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::service::{BatchTally, Tally, VersionStatistics};

/// Statistics of versions.
#[derive(Serialize, ToSchema)]
pub struct StatisticsList {
    /// One entry for each version.
    pub model_stats: Vec<ModelStatistics>,
}

/// What the server has counted about the predictions of a version since it started.
#[derive(Serialize, ToSchema)]
pub struct ModelStatistics {
    /// Name of the model.
    pub name: String,
    /// Number of the version.
    pub version: String,
    /// When the last prediction ended, in milliseconds since 1970; 0 if there was none.
    pub last_inference: i64,
    /// Images predicted.
    pub inference_count: u64,
    /// Batches that passed through the network.
    pub execution_count: u64,
    /// The durations of predictions and of their parts.
    pub inference_stats: InferenceStatistics,
    /// Always empty; responses are not streamed.
    pub response_stats: BTreeMap<String, Value>,
    /// The durations of batches by size, for the first 32 sizes.
    pub batch_stats: Vec<BatchStatistics>,
    /// Always empty.
    pub memory_usage: Vec<Value>,
}

/// How often something was done, and how long all of it took.
#[derive(Serialize, ToSchema)]
pub struct CountedDuration {
    /// How often.
    pub count: u64,
    /// How long all of it took, in nanoseconds.
    pub ns: u64,
}

impl From<Tally> for CountedDuration {
    fn from(Tally { count, total }: Tally) -> Self {
        let ns = |total: Duration| u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        Self { count, ns: ns(total) }
    }
}

/// The durations of predictions and of their parts.
#[derive(Serialize, ToSchema)]
pub struct InferenceStatistics {
    /// Predictions that succeeded.
    pub success: CountedDuration,
    /// Predictions that failed.
    pub fail: CountedDuration,
    /// Waiting for a place.
    pub queue: CountedDuration,
    /// Parsing of images.
    pub compute_input: CountedDuration,
    /// Passes through the network.
    pub compute_infer: CountedDuration,
    /// Making of responses.
    pub compute_output: CountedDuration,
    /// Always 0; responses are not cached.
    pub cache_hit: CountedDuration,
    /// Always 0.
    pub cache_miss: CountedDuration,
}

/// The durations of batches of one size.
#[derive(Serialize, ToSchema)]
pub struct BatchStatistics {
    /// Images of a batch.
    pub batch_size: usize,
    /// Parsing of the requests whose first batch has this size.
    pub compute_input: CountedDuration,
    /// Passes through the network.
    pub compute_infer: CountedDuration,
    /// Making of the responses to these requests.
    pub compute_output: CountedDuration,
}

impl ModelStatistics {
    /// Converts the statistics of a version.
    pub fn new(name: String, version: u32, statistics: VersionStatistics) -> Self {
        let VersionStatistics {
            last_inference,
            images,
            executions,
            success,
            fail,
            queue,
            input,
            infer,
            output,
            batches,
        } = statistics;
        let batch = |(batch_size, BatchTally { input, infer, output })| BatchStatistics {
            batch_size,
            compute_input: CountedDuration::from(input),
            compute_infer: infer.into(),
            compute_output: output.into(),
        };
        Self {
            name,
            version: version.to_string(),
            last_inference: last_inference.map_or(0, |time| time.as_millisecond()),
            inference_count: images,
            execution_count: executions,
            inference_stats: InferenceStatistics {
                success: success.into(),
                fail: fail.into(),
                queue: queue.into(),
                compute_input: input.into(),
                compute_infer: infer.into(),
                compute_output: output.into(),
                cache_hit: Tally::default().into(),
                cache_miss: Tally::default().into(),
            },
            response_stats: BTreeMap::new(),
            batch_stats: batches.into_iter().map(batch).collect(),
            memory_usage: Vec::new(),
        }
    }
}
