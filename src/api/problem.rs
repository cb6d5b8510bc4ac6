use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::fields;

/// An error (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference for the kind of problem. Always `about:blank`, since `code` identifies the
    /// kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The reason phrase of the status.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened in this case.
    pub detail: String,
    /// A stable identifier for programs. Later versions may add codes.
    #[schema(value_type = Code)]
    pub code: String,
    /// The id of the request in the log. Null if the connection was refused before a request was read.
    pub request_id: Option<String>,
    /// Every fault of the request, if it is invalid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// A fault of a request, and its place.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field. A parameter has the pointer it would have if the query
    /// were an object.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

impl From<fields::Fault> for Fault {
    fn from(fields::Fault { pointer, detail }: fields::Fault) -> Self {
        Self { pointer, detail }
    }
}

/// Defines every code with its status, identifier and meaning.
macro_rules! codes {
    ($($status:literal { $($name:ident $word:literal $meaning:literal,)* })*) => {
        /// The stable code of an error. Each code has one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $meaning] $name,)*)*
        }

        impl Code {
            /// Every code, by status.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The HTTP status of the code.
            pub fn status(self) -> u16 {
                match self {
                    $($(Self::$name => $status,)*)*
                }
            }

            /// The identifier in responses.
            pub fn word(self) -> &'static str {
                match self {
                    $($(Self::$name => $word,)*)*
                }
            }

            /// The meaning of the code.
            pub fn meaning(self) -> &'static str {
                match self {
                    $($(Self::$name => $meaning,)*)*
                }
            }
        }
    };
}

codes! {
    400 {
        BodyCutOff "body_cut_off" "The body ended early, or its chunks are invalid.",
        DigestMismatch "digest_mismatch" "The body does not have the digest in the header Repr-Digest, or this header is invalid.",
        EmptyBody "empty_body" "The body is empty.",
        InvalidAlias "invalid_alias" "The alias in the path is not a valid name.",
        InvalidContentEncoding "invalid_content_encoding" "The body is not compressed as its Content-Encoding says.",
        InvalidHost "invalid_host" "The Host header is missing, repeated or invalid.",
        InvalidIdempotencyKey "invalid_idempotency_key" "Idempotency-Key is repeated, or is not 1 to 255 printable ASCII characters.",
        InvalidInferenceHeader "invalid_inference_header" "Inference-Header-Content-Length is not a length within the body.",
        InvalidJobId "invalid_job_id" "The job id in the path is not a UUID.",
        InvalidJson "invalid_json" "The body is not JSON.",
        InvalidLastEventId "invalid_last_event_id" "Last-Event-ID or lastEventId is not the id of an event of this job.",
        InvalidModelReference "invalid_model_reference" "The model reference in the path is invalid, or not exact enough for a deletion.",
        InvalidMultipart "invalid_multipart" "The body is not a valid form.",
        InvalidPath "invalid_path" "The path is not UTF-8 when it is decoded.",
        InvalidTensor "invalid_tensor" "Inputs or outputs of an inference request don't fit the model, or their shapes, datatypes and data disagree.",
    }
    403 {
        CrossSite "cross_site" "A page of another site has sent a request that could change something.",
    }
    404 {
        NoParameters "no_parameters" "The layer has no parameters.",
        UnknownActivation "unknown_activation" "There is no such activation function.",
        UnknownAlias "unknown_alias" "The model has no such alias.",
        UnknownCheckpoint "unknown_checkpoint" "The job has no checkpoint of that epoch.",
        UnknownDataset "unknown_dataset" "There is no such data set.",
        UnknownExample "unknown_example" "The split has no such example.",
        UnknownJob "unknown_job" "There is no such job.",
        UnknownLayer "unknown_layer" "The network has no such layer.",
        UnknownModel "unknown_model" "There is no such model.",
        UnknownPath "unknown_path" "There is nothing at this path.",
        UnknownSplit "unknown_split" "The data set has no such split.",
        UnknownVersion "unknown_version" "The model has no such version.",
    }
    405 {
        MethodNotAllowed "method_not_allowed" "The path does not support this method; the header Allow lists those it does.",
    }
    408 {
        BodyTimeout "body_timeout" "The body did not arrive in time.",
    }
    409 {
        InitialModelGone "initial_model_gone" "The version that the job starts from was deleted after the job was accepted.",
        JobEnded "job_ended" "The job has ended already.",
        JobNotEnded "job_not_ended" "The job has not ended yet.",
        JobNotStopped "job_not_stopped" "The job neither failed nor was cancelled.",
        ModelAliased "model_aliased" "An alias refers to this version.",
        ModelNeeded "model_needed" "A job that has not ended starts from this version.",
        ModelUnloaded "model_unloaded" "The model was unloaded on this server, and accepts no predictions until it is loaded again.",
        TooManyAliases "too_many_aliases" "The model already has the maximum number of aliases.",
        TooManyVersions "too_many_versions" "The models already have the maximum number of versions together.",
    }
    413 {
        BodyTooLarge "body_too_large" "The body is larger than the server accepts.",
    }
    415 {
        UnsupportedContentEncoding "unsupported_content_encoding" "The body has a Content-Encoding that this request does not accept.",
        UnsupportedMediaType "unsupported_media_type" "The media type of the body is missing or not supported by this request.",
    }
    421 {
        UnknownHost "unknown_host" "The Host header names a host that this server does not serve.",
    }
    422 {
        BlankPicture "blank_picture" "The picture is blank.",
        DatasetMisfit "dataset_misfit" "The model takes other images, or has another number of classes, than the data set.",
        EvaluationTooLarge "evaluation_too_large" "The evaluation needs more operations than one request can have.",
        ExportDiffers "export_differs" "The file would give other probabilities than the model, by more than is allowed.",
        IdempotencyKeyReused "idempotency_key_reused" "This client has sent the Idempotency-Key with another body.",
        InvalidImageSize "invalid_image_size" "The body is not a whole number of images, or has too many.",
        InvalidModel "invalid_model" "The file is not a network that this server can use; the detail names the fault.",
        InvalidPicture "invalid_picture" "The picture can't be decoded, or does not have the required size.",
        InvalidQuery "invalid_query" "A parameter of the query is unknown, repeated or invalid.",
        InvalidRequest "invalid_request" "Fields of the body are invalid; errors lists each of them.",
        PictureTooLarge "picture_too_large" "The pictures have more pixels than the server accepts.",
        PredictionTooLarge "prediction_too_large" "The prediction needs more operations than one request can have.",
        RequestTooLarge "request_too_large" "The request needs more memory than one request can have.",
        ScoresNotFinite "scores_not_finite" "The scores of the model are infinite or NaN.",
        TooManyPictures "too_many_pictures" "The form has more pictures than the server accepts.",
    }
    429 {
        QueueFull "queue_full" "The queue, or this client's share of it, is full.",
    }
    500 {
        CheckpointDamaged "checkpoint_damaged" "The file of the checkpoint is damaged or missing.",
        Internal "internal" "The server failed; its log has the cause under the request_id.",
        ModelDamaged "model_damaged" "The file of the model is damaged or missing.",
    }
    501 {
        UnsupportedTransferEncoding "unsupported_transfer_encoding" "The body has a Transfer-Encoding other than chunked.",
    }
    503 {
        ClientGone "client_gone" "The client closed its connection; nobody reads this.",
        Database "database" "Not ready: the database does not answer.",
        DatabaseUnavailable "database_unavailable" "The database could not be read or written.",
        Disk "disk" "Not ready: the data folder can't be written, or has less free space than --min-free-bytes.",
        Draining "draining" "Not ready: the server is stopping.",
        LaneFull "lane_full" "The queue for this kind of work is full, or the request waited too long.",
        ModelsInUse "models_in_use" "Models in use fill the memory for models.",
        Predictions "predictions" "Not ready: predictions are refused, because the server is overloaded.",
        Queue "queue" "Not ready: the queue is full.",
        TooManyBytes "too_many_bytes" "Other requests hold too much of the memory.",
        TooManyConnections "too_many_connections" "This client, or all clients together, have too many connections.",
        TooManyStreams "too_many_streams" "This client, or all clients together, have too many event streams.",
        TooManyWaits "too_many_waits" "This client, or all clients together, have too many requests that wait for jobs.",
    }
    507 {
        DiskFull "disk_full" "The disk of the server is full, read-only or failing.",
    }
}

impl Code {
    /// Codes of operations with the id of a job in their path.
    pub const JOB: &[Self] = &[Self::InvalidJobId, Self::UnknownJob];

    /// Codes of operations with a model reference in their path.
    pub const MODEL: &[Self] =
        &[Self::InvalidModelReference, Self::UnknownModel, Self::UnknownVersion, Self::UnknownAlias];

    /// Codes of operations of the Open Inference Protocol with a model in their path.
    pub const SERVED: &[Self] = &[Self::UnknownModel, Self::UnknownVersion, Self::UnknownAlias];

    /// Codes of operations that load a model.
    pub const LOADED: &[Self] =
        &[Self::ModelDamaged, Self::ModelUnloaded, Self::ModelsInUse, Self::DatabaseUnavailable];

    /// Codes of operations that decode pictures.
    pub const PICTURES: &[Self] = &[Self::BlankPicture, Self::InvalidPicture, Self::PictureTooLarge];

    /// The HTTP status of the code under `/v2`. Clients of the Open Inference Protocol know 400 for a request or a state
    /// that is not accepted.
    pub fn inference_status(self) -> u16 {
        match self.status() {
            409 | 422 => 400,
            status => status,
        }
    }

    /// Codes of operations that evaluate a model.
    pub const EVALUATED: &[Self] = &[Self::DatasetMisfit, Self::EvaluationTooLarge, Self::ScoresNotFinite];

    /// Codes of operations that read or write the database.
    pub const ROWS: &[Self] = &[Self::DatabaseUnavailable, Self::DiskFull];
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|code| code.word());
        let text = "A stable word for what went wrong. Each is sent with one status.";
        ObjectBuilder::new().schema_type(Type::String).description(Some(text)).enum_values(Some(words)).into()
    }
}

impl ToSchema for Code {}
