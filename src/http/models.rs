use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Problem;
use super::extract::{ListParams, ModelPath, Params};
use crate::app::App;
use crate::model::ModelEntry;

/// A list of models, the one published last first.
#[derive(Serialize)]
pub struct ModelList {
    models: Vec<ModelEntry>,
    next_cursor: Option<String>,
}

/// `GET /v1/models`
pub async fn list(
    State(app): State<App>,
    Params(params): Params<ListParams>,
) -> Result<Json<ModelList>, Problem> {
    let page = params.page()?;
    let entries = app.registry().entries();
    let first = match page.cursor {
        None => 0,
        Some(name) => {
            entries.iter().position(|entry| entry.name == name).map_or(entries.len(), |index| index + 1)
        }
    };
    let has_more = entries.len() > first + page.limit as usize;
    let models: Vec<ModelEntry> = entries.into_iter().skip(first).take(page.limit as usize).collect();
    let next_cursor = if has_more { models.last().map(|entry| entry.name.clone()) } else { None };
    Ok(Json(ModelList { models, next_cursor }))
}

/// `GET /v1/models/{ref}`
pub async fn show(
    State(app): State<App>,
    ModelPath(reference): ModelPath,
) -> Result<Json<ModelEntry>, Problem> {
    Ok(Json(app.registry().entry(&reference)?))
}
