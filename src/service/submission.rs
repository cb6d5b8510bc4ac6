//! How a request becomes a job in the queue.

use std::str::FromStr;

use serde_json::Value;

use super::datasets::shape;
use super::{Caller, OperationError, Service};
use crate::blobs::digest;
use crate::data::{self, DatasetShape};
use crate::fields::Fault;
use crate::job::{Job, Progress};
use crate::model::ModelRef;
use crate::nn::fitting_layers;
use crate::store::{Inserted, NewJob};
use crate::train::{self, TrainSpec};

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A key that makes it safe to repeat a request. The same key from the same caller returns the same job.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(String);

/// The text can't be an idempotency key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("must be 1 to {KEY_BYTES_MAX} printable ASCII characters")]
pub struct IdempotencyKeyError;

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(key: &str) -> Result<Self, IdempotencyKeyError> {
        let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let is_valid = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(is_printable);
        if is_valid { Ok(Self(key.to_owned())) } else { Err(IdempotencyKeyError) }
    }
}

/// A request for a job, after parsing.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The validated specification, or what is wrong with the request. An invalid request may still repeat one that was
    /// accepted under other limits.
    spec: Result<TrainSpec, Vec<Fault>>,
    /// SHA-256 of the request's canonical JSON, in hex.
    request_sha256: String,
}

impl Service {
    /// Parses a request for a job, and compares its price with the limits. [`Self::submit_job`] reports what is wrong
    /// with it.
    pub fn submission(&self, _caller: &Caller, request: &Value) -> Submission {
        Submission {
            spec: train::parse(request, &data::shapes(), &self.limits.spec),
            request_sha256: digest(request.to_string().as_bytes()),
        }
    }

    /// Accepts a job and returns when it is on disk. A request with the key of an earlier one returns the job
    /// that the earlier request created, even if this server would not accept that request any more.
    ///
    /// # Errors
    /// Returns an error if the request is invalid, if the queue or the disk is full, if the initial model does
    /// not fit, if the key belongs to another request, or if the database can't be written.
    pub async fn submit_job(
        &self,
        caller: &Caller,
        submission: Submission,
        key: Option<IdempotencyKey>,
    ) -> Result<Job, OperationError> {
        let Submission { spec, request_sha256 } = submission;
        let idempotency_key = key.map(|IdempotencyKey(key)| key);
        if let Some(key) = &idempotency_key
            && let Some(inserted) = self.dispatch.by_key(&caller.owner(), key, &request_sha256).await?
        {
            return self.inserted(inserted).await;
        }
        let mut spec = spec.map_err(OperationError::Invalid)?;
        let dataset = shape(&spec.dataset)?;
        if let Some(reference) = &spec.initial_model {
            spec.initial_model = Some(self.initial_model(reference, &spec, &dataset)?);
        }
        self.check_disk_space()?;
        let progress = Progress {
            epochs: spec.epochs,
            steps: spec.steps_per_epoch(dataset.train) as u64 * u64::from(spec.epochs),
            ..Progress::default()
        };
        let owner = caller.owner();
        let job = NewJob { owner, progress, spec, idempotency_key, request_sha256 };
        // `dispatch` runs the insert to its end. So a caller that disconnects does not affect the other
        // inserts of the same commit.
        let inserted = self.dispatch.insert_job(job, self.limits.queue_max).await?;
        self.inserted(inserted).await
    }

    async fn inserted(&self, inserted: Inserted) -> Result<Job, OperationError> {
        match inserted {
            Inserted::Accepted(job) | Inserted::Repeated(job) => {
                self.catch_up_with(std::slice::from_ref(&job)).await?;
                Ok(job)
            }
            Inserted::OtherRequest => Err(OperationError::KeyReused),
            Inserted::QueueFull => Err(self.queue_full()),
            Inserted::InitialModelGone => Err(OperationError::InitialModelDeleted),
        }
    }

    /// Resolves `reference` to `name@version`, because the initial model of a job must not change later.
    fn initial_model(
        &self,
        reference: &str,
        spec: &TrainSpec,
        dataset: &DatasetShape,
    ) -> Result<String, OperationError> {
        let reference: ModelRef = reference.parse().map_err(OperationError::InitialModelRef)?;
        let version = self.registry.version(&reference).map_err(OperationError::InitialModelUnknown)?;
        let name = format!("{}@{}", reference.name, version.version);
        match fitting_layers(dataset.input, &spec.network.layers, &version.layers) {
            Err(error) => Err(OperationError::InitialModelMisfit(error.to_string())),
            Ok(0) => Err(OperationError::InitialModelMisfit(format!(
                "no layer of {name} has the same position, type and shape as a layer of this network"
            ))),
            Ok(_) => Ok(name),
        }
    }
}
