//! Path parameters: job ids, model references and names.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::Problem;
use crate::api::Code;
use crate::app::App;
use crate::fields::shown;
use crate::job::{JobId, JobIdError};
use crate::model::ModelRef;

/// The most characters of a path that an error repeats.
const PATH_SHOWN_MAX: usize = 128;

/// The parameters of the path: one text, or a tuple of texts.
pub struct PathWords<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for PathWords<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(words)) => Ok(Self(words)),
            Err(_) => {
                let path: String = parts.uri.path().chars().take(PATH_SHOWN_MAX).collect();
                let detail = format!("the path {path:?} is not UTF-8 when it is decoded");
                Err(Problem::new(Code::InvalidPath, detail))
            }
        }
    }
}

/// The OpenAPI parameter of [`JobPath`].
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by its derive alone")]
pub struct JobParam {
    /// Id of the job.
    #[param(format = "uuid")]
    id: String,
}

/// The OpenAPI parameter of [`ModelPath`].
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by its derive alone")]
pub struct ModelParam {
    /// Reference to a model: `name`, `name@3` (a version) or `name@champion` (an alias). A bare name refers
    /// to its alias `default`, or else to the newest version.
    r#ref: String,
}

/// A job id in the path.
pub struct JobPath(pub JobId);

impl FromRequestParts<App> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathWords(text) = PathWords::<String>::from_request_parts(parts, app).await?;
        parse_job_id(&text).map(Self)
    }
}

/// Parses a job id.
///
/// # Errors
/// Returns 400 if it is not a UUID.
pub fn parse_job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|error: JobIdError| Problem::new(Code::InvalidJobId, error.to_string()))
}

/// A model reference in the path.
pub struct ModelPath(pub ModelRef);

impl FromRequestParts<App> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathWords(text) = PathWords::<String>::from_request_parts(parts, app).await?;
        Ok(Self(text.parse()?))
    }
}

/// Shortens a path parameter for an error message.
pub fn path_text(text: &str) -> String {
    shown(text)
}
