//! The words of a path: job ids, model references and names.

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

/// Characters of a path that are repeated to its client.
const PATH_SHOWN_MAX: usize = 128;

/// The words of the path, one text or a tuple of them.
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

/// The schema of [`JobPath`].
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by its derive alone")]
pub struct JobParam {
    /// The id of a job.
    #[param(format = "uuid")]
    id: String,
}

/// The schema of [`ModelPath`].
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by its derive alone")]
pub struct ModelParam {
    /// A model: `name`, `name@3` (a version) or `name@champion` (an alias). A name alone means its alias `default`, or else the
    /// newest version.
    r#ref: String,
}

/// The id of a job, in the path.
pub struct JobPath(pub JobId);

impl FromRequestParts<App> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathWords(text) = PathWords::<String>::from_request_parts(parts, app).await?;
        parse_job_id(&text).map(Self)
    }
}

/// The id of a job.
///
/// # Errors
/// 400 where it is none.
pub fn parse_job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|error: JobIdError| Problem::new(Code::InvalidJobId, error.to_string()))
}

/// A model reference, in the path.
pub struct ModelPath(pub ModelRef);

impl FromRequestParts<App> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathWords(text) = PathWords::<String>::from_request_parts(parts, app).await?;
        Ok(Self(text.parse()?))
    }
}

/// A word of the path, to be repeated to its client.
pub fn path_text(text: &str) -> String {
    shown(text)
}
