use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::admission::Refusal;
use crate::api::{self, Code};
use crate::data::picture::PictureError;
use crate::fields::Fault;
use crate::model::ModelRefError;
use crate::registry::RegistryError;
use crate::service::OperationError;
use crate::store::StoreError;

/// An error that will be sent to the client as an [`api::Problem`].
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: String,
    errors: Vec<Fault>,
    retry_after_seconds: Option<u32>,
    allow: Option<HeaderValue>,
}

/// `Retry-After` of a 503, in seconds.
const RETRY_SOON: u32 = 1;

impl Problem {
    /// Makes a problem with this detail. A 503 gets a `Retry-After`.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut problem = Self(Box::new(Parts {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
            allow: None,
        }));
        if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
            problem.0.retry_after_seconds = Some(RETRY_SOON);
        }
        problem
    }

    /// 422 for invalid fields of the body.
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are at fault", many.len()),
        };
        Self::new(Code::InvalidRequest, detail).with_errors(errors)
    }

    /// 422 for invalid query parameters. A pointer names a parameter as if the query were an object.
    pub fn invalid_query(errors: Vec<Fault>) -> Self {
        let details: Vec<&str> = errors.iter().map(|fault| fault.detail.as_str()).collect();
        Self::new(Code::InvalidQuery, details.join("; ")).with_errors(errors)
    }

    /// 500. The log has the cause.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "the server failed; its log names the cause under this request_id")
    }

    /// 507: the disk can't store what the client sent.
    pub fn disk_full(detail: impl Into<String>) -> Self {
        Self::new(Code::DiskFull, detail)
    }

    fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Sets `Retry-After`, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Sets the methods that are allowed.
    pub fn with_allow(mut self, allow: Option<HeaderValue>) -> Self {
        self.0.allow = allow;
        self
    }

    /// Returns the stable code of the problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Makes the response to the request with this id.
    pub fn into_response_for(self, request_id: &str) -> Response {
        let status = self.status();
        let Parts { code, detail, errors, retry_after_seconds, allow } = *self.0;
        let problem = api::Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail,
            code: code.word().to_owned(),
            request_id: Some(request_id.to_owned()),
            errors: errors.into_iter().map(Into::into).collect(),
        };
        let response = sent(status, "application/problem+json", &problem);
        with_headers(response, retry_after_seconds, allow)
    }

    /// Makes the response to the request with this id, in the form of the Open Inference Protocol.
    pub fn into_inference_response_for(self, request_id: &str) -> Response {
        let Parts { code, detail, errors, retry_after_seconds, allow } = *self.0;
        let status = StatusCode::from_u16(code.inference_status()).unwrap_or(StatusCode::BAD_REQUEST);
        let faults: Vec<String> =
            errors.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
        let error = api::InferenceError {
            error: if faults.len() > 1 { faults.join("; ") } else { detail },
            code: code.word().to_owned(),
            request_id: request_id.to_owned(),
        };
        with_headers(sent(status, "application/json", &error), retry_after_seconds, allow)
    }
}

fn sent(status: StatusCode, media_type: &'static str, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}

fn with_headers(
    mut response: Response,
    retry_after_seconds: Option<u32>,
    allow: Option<HeaderValue>,
) -> Response {
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, allow);
    }
    response
}

/// Makes a response without a body. The layer that knows the request's id writes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        if error.is_of_disk() {
            return Self::disk_full(
                "the disk of the server is full, read-only or failing; the log of the server says which",
            );
        }
        if !error.is_transient() {
            return Self::internal();
        }
        Self::new(Code::DatabaseUnavailable, "the database of the server failed; its log says why")
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let error = match error {
            RegistryError::Store(error) => return error.into(),
            error => error,
        };
        let code = match &error {
            RegistryError::UnknownModel { .. } => Code::UnknownModel,
            RegistryError::UnknownVersion { .. } => Code::UnknownVersion,
            RegistryError::UnknownAlias { .. } => Code::UnknownAlias,
            RegistryError::Damaged { name, version, .. } => {
                tracing::error!(%error, "a model is damaged");
                let detail =
                    format!("the bytes of {name}@{version} are damaged or missing: it can't predict");
                return Self::new(Code::ModelDamaged, detail);
            }
            RegistryError::Unloaded(_) => Code::ModelUnloaded,
            RegistryError::InUse => return Self::new(Code::ModelsInUse, format!("{error}; try again")),
            RegistryError::Store(_)
            | RegistryError::Blob(_)
            | RegistryError::Artifact(_)
            | RegistryError::Panic => {
                tracing::error!(%error, "a model can't be read");
                return Self::internal();
            }
        };
        Self::new(code, error.to_string())
    }
}

/// `Retry-After` of a full queue in seconds: the value if no rate has been measured, and the maximum.
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
            Error::UnknownJob(_) => Self::new(Code::UnknownJob, detail),
            Error::JobEnded { .. } => Self::new(Code::JobEnded, detail),
            Error::JobNotStopped { .. } => Self::new(Code::JobNotStopped, detail),
            Error::JobNotEnded { .. } => Self::new(Code::JobNotEnded, detail),
            Error::QueueFull { interval, .. } => {
                let measured = interval.map(|interval| interval.as_secs_f64().ceil());
                let bounded = |seconds: f64| seconds.clamp(1.0, RETRY_AFTER.1.into()) as u32;
                Self::new(Code::QueueFull, detail).retry_after(measured.map_or(RETRY_AFTER.0, bounded))
            }
            Error::KeyReused => Self::new(
                Code::IdempotencyKeyReused,
                "this Idempotency-Key was used before with another body",
            ),
            Error::InitialModelRef(_)
            | Error::InitialModelUnknown(_)
            | Error::InitialModelMisfit(_)
            | Error::InitialModelDeleted => field("initial_model"),
            Error::InitialModelGone(_) => Self::new(Code::InitialModelGone, detail),
            Error::DiskFull { .. } => Self::disk_full(detail),
            Error::UnknownCheckpoint { .. } | Error::CheckpointReplaced { .. } => {
                Self::new(Code::UnknownCheckpoint, detail)
            }
            Error::CheckpointDamaged { id, source, .. } => {
                tracing::error!(job = %id, error = %source, "a checkpoint can't be read");
                Self::new(Code::CheckpointDamaged, detail)
            }
            Error::ModelAliased { .. } => Self::new(Code::ModelAliased, detail),
            Error::ModelNeeded { .. } => Self::new(Code::ModelNeeded, detail),
            Error::TooManyAliases { .. } => Self::new(Code::TooManyAliases, detail),
            Error::TooManyVersions { .. } => Self::new(Code::TooManyVersions, detail),
            Error::DigestMismatch { .. } => Self::new(Code::DigestMismatch, detail),
            Error::InvalidModel(_) => Self::new(Code::InvalidModel, detail),
            Error::ExportDiffers(_) => Self::new(Code::ExportDiffers, detail),
            Error::ExportFailed(_) => {
                tracing::error!(error = detail, "a model can't be exported");
                Self::internal()
            }
            Error::AliasedVersionUnknown(_) => field("version"),
            Error::ModelGone(_) => Self::new(Code::UnknownModel, detail),
            Error::Blob(error) => {
                tracing::error!(%error, "bytes can't be read");
                Self::internal()
            }
            Error::Refused(refusal) => refusal.into(),
            Error::Lost(_) => {
                tracing::error!("work for a request was lost");
                Self::internal()
            }
            Error::ClientGone => Self::new(Code::ClientGone, detail),
            Error::PredictionTooLarge { .. } => Self::new(Code::PredictionTooLarge, detail),
            Error::EvaluationTooLarge { .. } => Self::new(Code::EvaluationTooLarge, detail),
            Error::DatasetMisfit { .. } => Self::new(Code::DatasetMisfit, detail),
            Error::NotFinite(_) => Self::new(Code::ScoresNotFinite, detail),
            Error::Picture { source, .. } => Self::new(code_of_picture(&source), detail),
            Error::TopOutOfRange { .. } | Error::ClassOutOfRange { .. } => {
                Self::new(Code::InvalidQuery, detail)
            }
            Error::NoPictures(_) => Self::new(Code::InvalidPicture, format!("{detail}; send bytes or JSON")),
            Error::PicturesTooLarge { .. } => Self::new(Code::PictureTooLarge, detail),
            Error::TooManyWaits { .. } => Self::new(Code::TooManyWaits, detail),
            Error::TooManyStreams { streams_max } => Self::new(
                Code::TooManyStreams,
                format!(
                    "this client has too many open event streams, or all clients together have {streams_max}"
                ),
            ),
            Error::Invalid(faults) => Self::invalid(faults),
            Error::UnknownLayer(_) => Self::new(Code::UnknownLayer, detail),
            Error::NoParameters(_) => Self::new(Code::NoParameters, detail),
            Error::UnknownDataset { .. } => Self::new(Code::UnknownDataset, detail),
            Error::UnknownSplit => Self::new(Code::UnknownSplit, detail),
            Error::UnknownExample { .. } => Self::new(Code::UnknownExample, detail),
            Error::UnknownActivation { .. } => Self::new(Code::UnknownActivation, detail),
            Error::Metrics(error) => {
                tracing::error!(%error, "the metrics could not be written");
                Self::internal()
            }
            Error::Stopped => Self::internal(),
        }
    }
}

/// 503 if other requests hold the capacity now, 422 if the request exceeds what one request can have.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Memory => Code::TooManyBytes,
            Refusal::LaneFull(_) | Refusal::LaneSlow(_) => Code::LaneFull,
            Refusal::TooLarge { .. } => {
                let detail = refusal.to_string();
                return Self::new(Code::RequestTooLarge, detail);
            }
        };
        Self::new(code, format!("{refusal}; try again"))
    }
}

impl From<ModelRefError> for Problem {
    fn from(error: ModelRefError) -> Self {
        Self::new(Code::InvalidModelReference, error.to_string())
    }
}

/// Returns the code of an invalid picture.
fn code_of_picture(error: &PictureError) -> Code {
    match error {
        PictureError::Blank => Code::BlankPicture,
        PictureError::TooLarge { .. } => Code::PictureTooLarge,
        PictureError::NotAPicture | PictureError::Damaged { .. } | PictureError::WrongSize { .. } => {
            Code::InvalidPicture
        }
    }
}
