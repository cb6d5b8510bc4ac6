//! Requests and responses of the Open Inference Protocol.

mod description;
mod repository;
mod request;
mod statistics;

use serde::Serialize;
use utoipa::ToSchema;

pub use description::{ModelConfig, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady};
pub use repository::{IndexEntry, IndexRequest, RepositoryRequest};
pub use request::{InferRequest, InferResponse, Tensors, example};
pub use statistics::{ModelStatistics, StatisticsList};

/// An error of a request under `/v2`.
#[derive(Serialize, ToSchema)]
pub struct InferenceError {
    /// What is wrong, and what to send instead. If several things are wrong, all of them.
    pub error: String,
    /// A stable identifier for programs. Later versions may add codes.
    #[schema(value_type = crate::api::Code)]
    pub code: String,
    /// The id of the request in the log.
    pub request_id: String,
}
