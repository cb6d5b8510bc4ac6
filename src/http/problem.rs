use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::admission::Refusal;
use crate::data::picture::PictureError;
use crate::fields::Fault;
use crate::model::ModelRefError;
use crate::registry::RegistryError;
use crate::service::OperationError;
use crate::store::StoreError;

/// An error as clients see it (RFC 9457): `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problem(Box<ProblemDetails>);

/// The fields of a [`Problem`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProblemDetails {
    /// A URI reference for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, this time.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// The request, as the log knows it.
    pub request_id: Option<String>,
    /// Every fault of the input, where it was at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
    #[serde(skip)]
    allow: Option<HeaderValue>,
}

impl Problem {
    /// A problem with this status, stable word and text.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemDetails {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: None,
            errors: Vec::new(),
            retry_after_seconds: None,
            allow: None,
        }))
    }

    /// 400: the request can't be read.
    pub fn malformed(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404.
    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 422: the request can be read, but not carried out.
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are at fault", many.len()),
        };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail);
        problem.0.errors = errors;
        problem
    }

    /// 422: parameters of the query that can't be. A pointer names a parameter as if the query were an object.
    pub fn invalid_query(errors: Vec<Fault>) -> Self {
        let details: Vec<&str> = errors.iter().map(|fault| fault.detail.as_str()).collect();
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", details.join("; "));
        problem.0.errors = errors;
        problem
    }

    /// The same, said to be of a part of the request.
    pub fn within(mut self, part: impl std::fmt::Display) -> Self {
        self.0.detail = format!("{part}: {}", self.0.detail);
        self
    }

    /// 503: too much to do; the client may try again.
    pub fn busy(code: &str, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.0.retry_after_seconds = Some(1);
        problem
    }

    /// 429: the client may try again after so many seconds.
    pub fn too_many(code: &str, detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
        problem.0.retry_after_seconds = Some(retry_after_seconds);
        problem
    }

    /// 507: there is no room to keep what the client sends.
    pub fn disk_full(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail)
    }

    /// 409: not in this state.
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 500: a fault of the server. What it was stands in the log.
    pub fn internal() -> Self {
        let detail = "the server failed; its log names the cause under this request_id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The same with the methods that would have been allowed.
    pub fn with_allow(mut self, allow: Option<HeaderValue>) -> Self {
        self.0.allow = allow;
        self
    }

    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer, told which request it belongs to.
    pub fn into_response_for(mut self, request_id: &str) -> Response {
        self.0.request_id = Some(request_id.to_owned());
        let status = self.status_code();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl std::ops::Deref for Problem {
    type Target = ProblemDetails;

    fn deref(&self) -> &ProblemDetails {
        &self.0
    }
}

/// A response without a body that carries the problem to the layer that knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status_code().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        if error.is_of_disk() {
            return Self::disk_full("the disk of the server is full, read-only or fails; its log says which");
        }
        if !error.is_transient() {
            return Self::internal();
        }
        Self::busy("database_unavailable", "the database of the server failed; its log says why")
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let error = match error {
            RegistryError::Store(error) => return error.into(),
            error => error,
        };
        let code = match &error {
            RegistryError::UnknownModel { .. } => "unknown_model",
            RegistryError::UnknownVersion { .. } => "unknown_version",
            RegistryError::UnknownAlias { .. } => "unknown_alias",
            RegistryError::Damaged { name, version, .. } => {
                tracing::error!(%error, "a model is damaged");
                let detail = format!("the bytes of {name}@{version} are damaged or missing: it can't answer");
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "model_damaged", detail);
            }
            RegistryError::InUse => return Self::busy("models_in_use", format!("{error}; try again")),
            RegistryError::Store(_)
            | RegistryError::Blob(_)
            | RegistryError::Artifact(_)
            | RegistryError::Panic => {
                tracing::error!(%error, "a model can't be read");
                return Self::internal();
            }
        };
        Self::not_found(code, error.to_string())
    }
}

/// Seconds after which a refused client may come again if none is measured, and at most.
const RETRY_AFTER: (u32, u32) = (10, 3_600);

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        use OperationError as Error;
        let detail = error.to_string();
        let field =
            |name: &str| Self::invalid(vec![Fault { pointer: format!("/{name}"), detail: detail.clone() }]);
        match error {
            Error::Store(error) => error.into(),
            Error::Registry(error) => error.into(),
            Error::UnknownJob(_) => Self::not_found("unknown_job", detail),
            Error::JobEnded { .. } => Self::conflict("job_ended", detail),
            Error::JobNotStopped { .. } => Self::conflict("job_not_stopped", detail),
            Error::JobNotEnded { .. } => Self::conflict("job_not_ended", detail),
            Error::QueueFull { interval, .. } => {
                let measured = interval.map(|interval| interval.as_secs_f64().ceil());
                let bounded = |seconds: f64| seconds.clamp(1.0, RETRY_AFTER.1.into()) as u32;
                Self::too_many("queue_full", detail, measured.map_or(RETRY_AFTER.0, bounded))
            }
            Error::KeyReused => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail),
            Error::InitialModelRef(_)
            | Error::InitialModelUnknown(_)
            | Error::InitialModelMisfit(_)
            | Error::InitialModelDeleted => field("initial_model"),
            Error::InitialModelGone(_) => Self::conflict("initial_model_gone", detail),
            Error::DiskFull { .. } => Self::disk_full(detail),
            Error::UnknownCheckpoint { .. } | Error::CheckpointReplaced { .. } => {
                Self::not_found("unknown_checkpoint", detail)
            }
            Error::CheckpointDamaged { id, source, .. } => {
                tracing::error!(job = %id, error = %source, "a checkpoint can't be read");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "checkpoint_damaged", detail)
            }
            Error::ModelAliased { .. } => Self::conflict("model_aliased", detail),
            Error::ModelNeeded { .. } => Self::conflict("model_needed", detail),
            Error::TooManyAliases { .. } => Self::conflict("too_many_aliases", detail),
            Error::AliasedVersionUnknown(_) => field("version"),
            Error::ModelGone(_) => Self::not_found("unknown_model", detail),
            Error::Blob(error) => {
                tracing::error!(%error, "bytes can't be read");
                Self::internal()
            }
            Error::Refused(refusal) => refusal.into(),
            Error::Lost(_) => {
                tracing::error!("work for a request is lost");
                Self::internal()
            }
            Error::ClientGone => Self::busy("client_gone", detail),
            Error::PredictionTooLarge { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "prediction_too_large", detail)
            }
            Error::Invalid(faults) => Self::invalid(faults),
            Error::UnknownLayer(_) => Self::not_found("unknown_layer", detail),
            Error::NoParameters(_) => Self::not_found("no_parameters", detail),
            Error::UnknownDataset { .. } => Self::not_found("unknown_dataset", detail),
            Error::Stopped => Self::internal(),
        }
    }
}

/// 503 if others hold the room at present, 422 if no request can have so much.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Memory => "too_many_bytes",
            Refusal::LaneFull(_) | Refusal::LaneSlow(_) => "lane_full",
            Refusal::TooLarge { .. } => {
                let detail = refusal.to_string();
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "request_too_large", detail);
            }
        };
        Self::busy(code, format!("{refusal}; try again"))
    }
}

impl From<ModelRefError> for Problem {
    fn from(error: ModelRefError) -> Self {
        Self::malformed("invalid_model_reference", error.to_string())
    }
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        let code = match &error {
            PictureError::Blank => "blank_picture",
            PictureError::TooLarge { .. } => "picture_too_large",
            PictureError::NotAPicture | PictureError::Damaged { .. } | PictureError::WrongSize { .. } => {
                "invalid_picture"
            }
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string())
    }
}
