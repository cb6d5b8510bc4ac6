use std::time::Duration;

use crate::admission::{Refusal, WorkError};
use crate::blobs::BlobError;
use crate::data::picture::PictureError;
use crate::data::{IMAGE_SIDE, SplitName};
use crate::evaluation::NotFinite;
use crate::fields::Fault;
use crate::job::{JobId, JobState};
use crate::model::{ModelRef, ModelRefError};
use crate::nn::{Activation, Shape};
use crate::registry::RegistryError;
use crate::store::{StoreError, queue_share};
use crate::telemetry::MetricsError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is no job with this id.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job has ended already.
    #[error("job {id} {} already", standing(*state))]
    JobEnded {
        /// Id of the job.
        id: JobId,
        /// Its final state.
        state: JobState,
    },
    /// The job is neither failed nor cancelled.
    #[error("job {id} {}; only one that failed or was cancelled is resumed", standing(*state))]
    JobNotStopped {
        /// Id of the job.
        id: JobId,
        /// Queued, running or succeeded.
        state: JobState,
    },
    /// The job has not ended.
    #[error("job {id} {}; cancel it, or wait until it has ended", standing(*state))]
    JobNotEnded {
        /// Id of the job.
        id: JobId,
        /// Queued or running.
        state: JobState,
    },
    /// The queue is full, or the caller has used up its share of the queue.
    #[error(
        "the queue is full, or has too many jobs of this client: it holds at most {queue_max}, and at most {} of \
         one client; try again later",
        queue_share(*queue_max)
    )]
    QueueFull {
        /// The most jobs that may wait.
        queue_max: u32,
        /// The recently measured time between the ends of two jobs.
        interval: Option<Duration>,
    },
    /// The caller has used the key for another request.
    #[error("the key was used before for another request")]
    KeyReused,
    /// The reference to the model that a job starts from is invalid.
    #[error(transparent)]
    InitialModelRef(ModelRefError),
    /// The model that a job starts from does not exist.
    #[error("{0}")]
    InitialModelUnknown(RegistryError),
    /// The model that a job starts from has no layer in common with its network, or takes another input.
    #[error("{0}")]
    InitialModelMisfit(String),
    /// The version that a new job starts from was deleted just now.
    #[error("names a version that has just been deleted")]
    InitialModelDeleted,
    /// The version that a job starts from was deleted after the job was accepted.
    #[error("job {0} starts from a version that has been deleted")]
    InitialModelGone(JobId),
    /// The disk has too little free space for a job.
    #[error("the disk of the server has {free} free bytes; no jobs are accepted below {least}")]
    DiskFull {
        /// Free bytes.
        free: u64,
        /// The least number of free bytes for a new job.
        least: u64,
    },
    /// The job has no checkpoint of that epoch.
    #[error(
        "job {id} has no checkpoint of epoch {epoch}; epochs with a checkpoint: {}",
        if epochs.is_empty() { "none" } else { epochs }
    )]
    UnknownCheckpoint {
        /// Id of the job.
        id: JobId,
        /// The epoch that was asked for.
        epoch: String,
        /// The epochs of its checkpoints.
        epochs: String,
    },
    /// The job has replaced the checkpoint with a newer one.
    #[error("job {id} no longer has a checkpoint of epoch {epoch}")]
    CheckpointReplaced {
        /// Id of the job.
        id: JobId,
        /// The epoch of the checkpoint.
        epoch: u32,
    },
    /// The file of a checkpoint is damaged or missing.
    #[error("the bytes of the checkpoint of epoch {epoch} are damaged or missing")]
    CheckpointDamaged {
        /// Id of the job.
        id: JobId,
        /// The epoch of the checkpoint.
        epoch: u32,
        /// What is wrong with the file.
        source: BlobError,
    },
    /// The version has an alias.
    #[error("{}@{alias} is {reference}; move the alias or delete it first", reference.name)]
    ModelAliased {
        /// Reference to the version.
        reference: ModelRef,
        /// Name of the alias, such as `champion`.
        alias: String,
    },
    /// A job that has not ended starts from the version.
    #[error("job {job} starts from {reference} and has not ended")]
    ModelNeeded {
        /// Reference to the version.
        reference: ModelRef,
        /// Id of the job.
        job: JobId,
    },
    /// The model already has the maximum number of aliases.
    #[error("model {name} has {aliases_max} aliases, which is the limit; move or delete one of them")]
    TooManyAliases {
        /// Name of the model.
        name: String,
        /// The largest number.
        aliases_max: u32,
    },
    /// The models already have the maximum number of versions together.
    #[error("there are {versions_max} versions of models, which is the limit; delete some of them first")]
    TooManyVersions {
        /// The largest number.
        versions_max: usize,
    },
    /// A file does not have the digest that was announced.
    #[error("the body has the SHA-256 {found}, not {expected} as announced")]
    DigestMismatch {
        /// The digest of the file, in hex.
        found: String,
        /// The announced one.
        expected: String,
    },
    /// A file is no network that can be used.
    #[error("{0}")]
    InvalidModel(String),
    /// A written file would give other probabilities than its model.
    #[error("the model can't be exported: {0}")]
    ExportDiffers(String),
    /// A file can't be written.
    #[error("{0}")]
    ExportFailed(String),
    /// An alias was to point to a version that the model does not have.
    #[error("{0}")]
    AliasedVersionUnknown(RegistryError),
    /// The reference no longer refers to anything.
    #[error("there is no {0}")]
    ModelGone(ModelRef),
    /// The model is unknown or can't be loaded.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The server is too busy, or the work can never be admitted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The work panicked, or the server is stopping.
    #[error(transparent)]
    Lost(#[from] WorkError),
    /// Nobody waits for the result any more.
    #[error("the client has gone")]
    ClientGone,
    /// The prediction needs more operations than one request can have.
    #[error(
        "predicting {images} images takes about {flops:.1e} floating-point operations; the limit of a request \
         is {flops_max:.1e}; send fewer images at a time"
    )]
    PredictionTooLarge {
        /// The most images that the request can contain.
        images: usize,
        /// Floating-point operations that it needs.
        flops: f64,
        /// Floating-point operations that one request may use.
        flops_max: f64,
    },
    /// The evaluation needs more operations than one request can have.
    #[error(
        "reading {images} examples takes about {flops:.1e} floating-point operations; the limit of a request is \
         {flops_max:.1e}"
    )]
    EvaluationTooLarge {
        /// Number of examples.
        images: usize,
        /// Floating-point operations that it needs.
        flops: f64,
        /// Floating-point operations that one request may use.
        flops_max: f64,
    },
    /// The model takes other images or has another number of classes than the data set.
    #[error(
        "{model} reads {} in {} classes, but the images of {dataset:?} are {} in {} classes",
        of_model.0, of_model.1, of_dataset.0, of_dataset.1
    )]
    DatasetMisfit {
        /// Reference to the version.
        model: String,
        /// Its input, and its number of classes.
        of_model: (Shape, usize),
        /// Name of the data set.
        dataset: String,
        /// The shape of its images, and its number of classes.
        of_dataset: (Shape, usize),
    },
    /// The scores of the model are not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A prediction is to have more of the most probable classes than there are, or none.
    #[error("top must be from 1 to {classes}")]
    TopOutOfRange {
        /// The number of classes of the model.
        classes: usize,
    },
    /// The model has no class of this number.
    #[error("class must be from 0 to {last}")]
    ClassOutOfRange {
        /// The number of its last class.
        last: usize,
    },
    /// A picture can't be turned into an image.
    #[error("{}{source}", place_of_picture(*index, *count))]
    Picture {
        /// Index of the picture in the request.
        index: usize,
        /// Number of pictures in the request.
        count: usize,
        /// Why it can't be turned into an image.
        source: PictureError,
    },
    /// The network takes images of another size than the one to which pictures are prepared.
    #[error("pictures are prepared as {IMAGE_SIDE}x{IMAGE_SIDE} pixels, but the model takes {0}")]
    NoPictures(Shape),
    /// The pictures of a request have too many pixels.
    #[error("the pictures have {pixels} pixels to decode; a request may have at most {pixels_max}")]
    PicturesTooLarge {
        /// Pixels to decode.
        pixels: u64,
        /// The most pixels that one request may have.
        pixels_max: u64,
    },
    /// Too many callers wait for the end of a job.
    #[error("this client has too many requests that wait for jobs, or all clients together have {waits_max}")]
    TooManyWaits {
        /// The most callers that may wait.
        waits_max: usize,
    },
    /// Too many callers follow jobs.
    #[error("the client follows too many jobs, or all clients together follow {streams_max}")]
    TooManyStreams {
        /// The most callers that may follow jobs.
        streams_max: usize,
    },
    /// The request is invalid. Each fault names its field.
    #[error("the request can't be answered")]
    Invalid(Vec<Fault>),
    /// The network has no such layer. The text lists its layers.
    #[error("{0}")]
    UnknownLayer(String),
    /// The layer has no parameters.
    #[error("layer {0} has no parameters")]
    NoParameters(String),
    /// There is no data set of this name.
    #[error(
        "there is no dataset {name:?}{}",
        nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
    )]
    UnknownDataset {
        /// The name that was asked for.
        name: String,
        /// The most similar name of a data set.
        nearest: Option<String>,
    },
    /// There is no split of this name.
    #[error("there is no such split; the splits are train and test")]
    UnknownSplit,
    /// The split has no example at this index.
    #[error("split {split} has the examples 0 to {last}")]
    UnknownExample {
        /// The split that was asked for.
        split: SplitName,
        /// The index of its last example.
        last: usize,
    },
    /// There is no activation function of this name.
    #[error("there is no activation {name:?}, {}", match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("there are: {}", Activation::ALL.map(Activation::name).join(", ")),
    })]
    UnknownActivation {
        /// The name that was asked for.
        name: String,
        /// The most similar name of a function.
        nearest: Option<&'static str>,
    },
    /// The metrics can't be encoded.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The database can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob can't be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The server stopped before the operation was complete.
    #[error("the server is stopping")]
    Stopped,
}

/// Names the picture if there are several.
fn place_of_picture(index: usize, count: usize) -> String {
    if count == 1 { String::new() } else { format!("picture {} of {count}: ", index + 1) }
}

/// Completes the sentence "job … " with this state.
fn standing(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "waits in the queue",
        JobState::Running => "is running",
        JobState::Succeeded => "has succeeded",
        JobState::Failed => "has failed",
        JobState::Cancelled => "has been cancelled",
    }
}
