//! The Open Inference Protocol v2 over REST, with its extensions.

mod answer;
mod describe;
mod head;
mod infer;
mod repository;
mod statistics;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

pub use self::describe::{
    __path_config, __path_live, __path_metadata, __path_metadata_with_slash, __path_model,
    __path_model_ready, __path_ready,
};
pub use self::describe::{config, live, metadata, metadata_with_slash, model, model_ready, ready};
pub use self::infer::{__path_infer, infer};
pub use self::repository::{__path_index, __path_load, __path_unload, index, load, unload};
pub use self::statistics::{__path_statistics, __path_statistics_of_all, statistics, statistics_of_all};

use super::Problem;
use super::extract::{PathWords, path_text};
use crate::api::Code;
use crate::app::App;
use crate::fields::as_printed;
use crate::model::{ModelRef, Selector, is_alias};
use crate::oip::InferError;
use crate::train::is_name;

/// Returns whether a path belongs to the protocol, so that its errors have the protocol's form.
pub fn is_of_protocol(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The model in the path, and its version or alias if there is one.
pub struct ModelInPath(pub ModelRef);

impl FromRequestParts<App> for ModelInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let PathWords(words) = PathWords::<BTreeMap<String, String>>::from_request_parts(parts, app).await?;
        let word = |name: &str| words.get(name).map(String::as_str);
        reference(word("name").unwrap_or_default(), word("version")).map(Self)
    }
}

/// Makes a reference from the words of a path.
///
/// # Errors
/// Returns 404 for words that can't be the name of a model, or a version of it.
fn reference(name: &str, version: Option<&str>) -> Result<ModelRef, Problem> {
    if !is_name(name) {
        return Err(Problem::new(Code::UnknownModel, format!("there is no model {:?}", path_text(name))));
    }
    let selector = match version {
        None => Selector::Default,
        Some(word) => match as_printed(word) {
            Some(version) => Selector::Version(version),
            None if is_alias(word) => Selector::Alias(word.to_owned()),
            None => {
                let detail = format!("model {name:?} has no version {:?}", path_text(word));
                return Err(Problem::new(Code::UnknownVersion, detail));
            }
        },
    };
    Ok(ModelRef { name: name.to_owned(), selector })
}

impl From<InferError> for Problem {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Invalid(detail) => Self::new(Code::InvalidTensor, detail),
            InferError::Operation(error) => error.into(),
            InferError::NotFinite => {
                tracing::error!("a model computes numbers that are not finite");
                Self::internal()
            }
        }
    }
}
