use std::time::Duration;

use crate::admission::{Refusal, WorkError};
use crate::blobs::BlobError;
use crate::fields::Fault;
use crate::job::{JobId, JobState};
use crate::model::{ModelRef, ModelRefError};
use crate::registry::RegistryError;
use crate::store::{StoreError, queue_share};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job has ended already.
    #[error("job {id} {} already", standing(*state))]
    JobEnded {
        /// The job.
        id: JobId,
        /// Where it stands.
        state: JobState,
    },
    /// The job is neither failed nor cancelled.
    #[error("job {id} {}; only one that failed or was cancelled is resumed", standing(*state))]
    JobNotStopped {
        /// The job.
        id: JobId,
        /// Where it stands.
        state: JobState,
    },
    /// The job has not ended.
    #[error("job {id} {}; cancel it, or wait until it has ended", standing(*state))]
    JobNotEnded {
        /// The job.
        id: JobId,
        /// Where it stands.
        state: JobState,
    },
    /// The queue, or the caller's share of it, is full.
    #[error("the queue takes {queue_max} jobs, {} of one client; try again later", queue_share(*queue_max))]
    QueueFull {
        /// Jobs that may wait in it.
        queue_max: u32,
        /// After how long one leaves it, as measured of late.
        interval: Option<Duration>,
    },
    /// The caller's key came before with another request.
    #[error("this Idempotency-Key came before with another body")]
    KeyReused,
    /// The reference to the model that a job starts from can't be read.
    #[error(transparent)]
    InitialModelRef(ModelRefError),
    /// The model that a job starts from is not there.
    #[error("{0}")]
    InitialModelUnknown(RegistryError),
    /// The model that a job starts from fits no layer of its network, or can't be compared with it.
    #[error("{0}")]
    InitialModelMisfit(String),
    /// The version that a new job starts from was deleted meanwhile.
    #[error("names a version that has just been deleted")]
    InitialModelDeleted,
    /// The version that a job starts from has been deleted since the job was accepted.
    #[error("job {0} starts from a version that has been deleted")]
    InitialModelGone(JobId),
    /// The disk has too little room for a job.
    #[error("the disk of the server has {free} bytes left, and takes no more jobs below {least}")]
    DiskFull {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must be.
        least: u64,
    },
    /// The job keeps no checkpoint of that epoch.
    #[error(
        "job {id} keeps no checkpoint of epoch {epoch}; of these it does: {}",
        if epochs.is_empty() { "none" } else { epochs }
    )]
    UnknownCheckpoint {
        /// The job.
        id: JobId,
        /// The epoch, as asked for.
        epoch: String,
        /// Those it keeps.
        epochs: String,
    },
    /// The job has replaced the checkpoint by newer ones meanwhile.
    #[error("job {id} keeps no checkpoint of epoch {epoch} any more")]
    CheckpointReplaced {
        /// The job.
        id: JobId,
        /// The epoch.
        epoch: u32,
    },
    /// The bytes of a checkpoint are damaged or missing.
    #[error("the bytes of the checkpoint of epoch {epoch} are damaged or missing")]
    CheckpointDamaged {
        /// The job.
        id: JobId,
        /// The epoch.
        epoch: u32,
        /// How.
        source: BlobError,
    },
    /// An alias means the version.
    #[error("{}@{alias} is {reference}; move the alias or delete it first", reference.name)]
    ModelAliased {
        /// The version.
        reference: ModelRef,
        /// The alias.
        alias: String,
    },
    /// A job that has not ended starts from the version.
    #[error("job {job} starts from {reference} and has not ended")]
    ModelNeeded {
        /// The version.
        reference: ModelRef,
        /// The job.
        job: JobId,
    },
    /// The model has as many aliases as it may have.
    #[error(
        "model {name} has {aliases_max} aliases, which is as many as it may have; move or delete one of them"
    )]
    TooManyAliases {
        /// Its name.
        name: String,
        /// How many it may have.
        aliases_max: u32,
    },
    /// The version that an alias shall mean is not there, but the model is.
    #[error("{0}")]
    AliasedVersionUnknown(RegistryError),
    /// A reference means nothing that is there any more.
    #[error("there is no {0}")]
    ModelGone(ModelRef),
    /// A model can't be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is no room for the work, now or ever.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The work came to no end.
    #[error(transparent)]
    Lost(#[from] WorkError),
    /// Nobody waits for the work any more.
    #[error("the client has gone")]
    ClientGone,
    /// A prediction takes more operations than the server gives to one.
    #[error(
        "reading {images} images takes about {flops:.1e} floating-point operations, this server gives {flops_max:.1e}; \
         send fewer at a time"
    )]
    PredictionTooLarge {
        /// Its images, at most.
        images: usize,
        /// What it takes.
        flops: f64,
        /// What there is.
        flops_max: f64,
    },
    /// The request can't be answered; each fault names the field.
    #[error("the request can't be answered")]
    Invalid(Vec<Fault>),
    /// There is no such layer; the text lists those that there are.
    #[error("{0}")]
    UnknownLayer(String),
    /// The layer has nothing to train.
    #[error("layer {0} has no parameters")]
    NoParameters(String),
    /// There is no such data set.
    #[error(
        "there is no dataset {name:?}{}",
        nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
    )]
    UnknownDataset {
        /// The name, as asked for.
        name: String,
        /// The name of a data set that is much like it.
        nearest: Option<String>,
    },
    /// The rows can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes can't be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The server stopped before it was done.
    #[error("the server stops")]
    Stopped,
}

/// What a job in this state does, as the end of a sentence that begins with it.
fn standing(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "waits in the queue",
        JobState::Running => "is running",
        JobState::Succeeded => "has succeeded",
        JobState::Failed => "has failed",
        JobState::Cancelled => "has been cancelled",
    }
}
