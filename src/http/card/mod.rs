//! Model cards, as JSON or Markdown.

mod markdown;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::evaluation::of_query;
use super::extract::{ModelParam, ModelPath, Params, accepts};
use super::lab::answer_as;
use super::{Problem, paid};
use crate::api::{self, Code};
use crate::app::App;
use crate::service::{Caller, ModelCard};

const MARKDOWN: &str = "text/markdown";

/// Query of [`card`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CardParams {
    /// The data set of the figures; by default the one that the model was trained on.
    dataset: Option<String>,
}

/// Shows what is known about a version of a model, as JSON or Markdown.
#[utoipa::path(
    get,
    path = "/v1/models/{ref}/card",
    operation_id = "show_card",
    tag = "models",
    params(ModelParam, CardParams),
    responses((status = 200, description = "The card.", content(
        (api::ModelCard = "application/json"), (String = "text/markdown")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::EVALUATED, Code::RequestTooLarge])))
)]
pub async fn card(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<CardParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wants_markdown = accepts(&headers, MARKDOWN);
    let render = move |card: ModelCard| {
        let card = api::ModelCard::from(card);
        match wants_markdown {
            true => answer_as(MARKDOWN, markdown::render(&card)),
            false => JsonResponse(card).into_response(),
        }
    };
    let card = app.service().card(&caller, &reference, params.dataset, render).await;
    let (response, charge) = of_query(card)?;
    Ok(paid(charge, response))
}
