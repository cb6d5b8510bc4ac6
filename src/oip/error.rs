use crate::service::OperationError;

/// Why an inference request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The request does not fit the model. The text names every fault, and what to send instead.
    #[error("{0}")]
    Invalid(String),
    /// The prediction failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The network has computed a number that is not finite.
    #[error("the model's output is not finite")]
    NotFinite,
}

impl InferError {
    /// Joins all faults of a request.
    pub fn of(faults: &[String]) -> Self {
        Self::Invalid(faults.join("; "))
    }
}
