use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::fields;

/// An error (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference for the kind of problem: `about:blank`, since `code` says which it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened, this time.
    pub detail: String,
    /// A stable word for programs. A client may meet one that it does not know yet.
    #[schema(value_type = Code)]
    pub code: String,
    /// The request, as the log knows it. Null if the connection was refused before a request was read.
    pub request_id: Option<String>,
    /// Every fault of the input, if the input is at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// One thing wrong with a request, and where.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field, or of the parameter as if the query were an object.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl From<fields::Fault> for Fault {
    fn from(fields::Fault { pointer, detail }: fields::Fault) -> Self {
        Self { pointer, detail }
    }
}

/// Every code with the status that it is sent with, and what it means.
macro_rules! codes {
    ($($status:literal { $($name:ident $word:literal $meaning:literal,)* })*) => {
        /// A stable word for what went wrong. Each is sent with one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $meaning] $name,)*)*
        }

        impl Code {
            /// Every code, by status.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The HTTP status that it is sent with.
            pub fn status(self) -> u16 {
                match self {
                    $($(Self::$name => $status,)*)*
                }
            }

            /// The word on the wire.
            pub fn word(self) -> &'static str {
                match self {
                    $($(Self::$name => $word,)*)*
                }
            }

            /// What it means.
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
        BodyCutOff "body_cut_off" "The body ended before all that was announced had come, or its chunks can't be read.",
        EmptyBody "empty_body" "The body is empty.",
        InvalidAlias "invalid_alias" "The path names an alias that can't be one.",
        InvalidHost "invalid_host" "The Host header is missing, given twice, or names no host.",
        InvalidIdempotencyKey "invalid_idempotency_key" "Idempotency-Key is given twice, or is not 1 to 255 visible ASCII characters.",
        InvalidJobId "invalid_job_id" "The path names a job by something that is not a UUID.",
        InvalidJson "invalid_json" "The body is not JSON.",
        InvalidLastEventId "invalid_last_event_id" "Last-Event-ID is not the id of an event of this job.",
        InvalidModelReference "invalid_model_reference" "The path has no model reference, or one that is not exact enough to delete by.",
        InvalidMultipart "invalid_multipart" "The body is not the form that its Content-Type announces.",
        InvalidPath "invalid_path" "The path is not UTF-8 when it is decoded.",
    }
    403 {
        CrossSite "cross_site" "A page of another site sends what would change something.",
    }
    404 {
        NoParameters "no_parameters" "The layer has no parameters.",
        UnknownActivation "unknown_activation" "There is no such activation function.",
        UnknownAlias "unknown_alias" "The model has no such alias.",
        UnknownCheckpoint "unknown_checkpoint" "The job keeps no checkpoint of that epoch.",
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
        MethodNotAllowed "method_not_allowed" "The path does not offer this method; the header Allow names those it does.",
    }
    408 {
        BodyTimeout "body_timeout" "The body did not arrive in time.",
    }
    409 {
        InitialModelGone "initial_model_gone" "The version that the job starts from has been deleted since the job was accepted.",
        JobEnded "job_ended" "The job has ended already.",
        JobNotEnded "job_not_ended" "The job has not ended yet.",
        JobNotStopped "job_not_stopped" "The job neither failed nor was cancelled.",
        ModelAliased "model_aliased" "An alias means this version.",
        ModelNeeded "model_needed" "A job that has not ended starts from this version.",
        TooManyAliases "too_many_aliases" "The model has as many aliases as it may have.",
    }
    413 {
        BodyTooLarge "body_too_large" "The body is larger than the server takes.",
    }
    415 {
        UnsupportedContentEncoding "unsupported_content_encoding" "The body has a Content-Encoding; it is taken only as it is.",
        UnsupportedMediaType "unsupported_media_type" "The body has another media type than this request takes, or none.",
    }
    421 {
        UnknownHost "unknown_host" "The Host header names a host that this server does not answer for.",
    }
    422 {
        BlankPicture "blank_picture" "The picture is blank.",
        IdempotencyKeyReused "idempotency_key_reused" "This client has sent the Idempotency-Key with another body.",
        InvalidImageSize "invalid_image_size" "The body of bytes is not a whole number of images, or has too many.",
        InvalidPicture "invalid_picture" "The picture can't be read, or has another size than was asked for.",
        InvalidQuery "invalid_query" "A parameter of the query is unknown, given twice, or has a value that can't be.",
        InvalidRequest "invalid_request" "Fields of the body are at fault; errors names each.",
        PictureTooLarge "picture_too_large" "The pictures have more pixels than the server decodes.",
        PredictionTooLarge "prediction_too_large" "The images would take more operations than the server gives to one request.",
        RequestTooLarge "request_too_large" "The answer would take more memory than the server gives to one client.",
        TooManyPictures "too_many_pictures" "The form has more pictures than the server takes at a time.",
    }
    429 {
        QueueFull "queue_full" "The queue, or this client's share of it, is full.",
    }
    500 {
        CheckpointDamaged "checkpoint_damaged" "The bytes of the checkpoint are damaged or missing.",
        Internal "internal" "The server failed; its log names the cause under the request_id.",
        ModelDamaged "model_damaged" "The bytes of the model are damaged or missing.",
    }
    501 {
        UnsupportedTransferEncoding "unsupported_transfer_encoding" "The body has a Transfer-Encoding other than chunked.",
    }
    503 {
        ClientGone "client_gone" "The client closed its connection; nobody reads this.",
        Database "database" "Not ready: the database does not answer.",
        DatabaseUnavailable "database_unavailable" "The database could not be read or written.",
        Disk "disk" "Not ready: the data folder can't be written.",
        Draining "draining" "Not ready: the server is stopping.",
        LaneFull "lane_full" "As much of this kind of work waits as the server takes, or it waited too long.",
        ModelsInUse "models_in_use" "The models in memory are all at work, so that there is no room for another.",
        Predictions "predictions" "Not ready: predictions are refused, there is too much to do.",
        Queue "queue" "Not ready: the queue is full.",
        TooManyBytes "too_many_bytes" "Requests hold as much memory as they may.",
        TooManyConnections "too_many_connections" "This client, or all together, have as many connections as they may.",
        TooManyStreams "too_many_streams" "This client, or all together, have as many event streams as they may.",
        TooManyWaits "too_many_waits" "As many requests of this client, or of all, wait for jobs as may.",
    }
    507 {
        DiskFull "disk_full" "The disk of the server is full, read-only or fails.",
    }
}

impl Code {
    /// Of what names a job by its id.
    pub const JOB: &[Self] = &[Self::InvalidJobId, Self::UnknownJob];

    /// Of what names a model by a reference.
    pub const MODEL: &[Self] =
        &[Self::InvalidModelReference, Self::UnknownModel, Self::UnknownVersion, Self::UnknownAlias];

    /// Of what works with a model.
    pub const LOADED: &[Self] = &[Self::ModelDamaged, Self::ModelsInUse, Self::DatabaseUnavailable];

    /// Of what reads or writes rows.
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
