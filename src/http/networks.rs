use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::extract::{Json, NoParams, Params, accepts};
use super::lab::{TEXT, answer_as};
use super::{Problem, rendered};
use crate::api::{self, Code};
use crate::app::App;
use crate::data;
use crate::lab::{Check, CheckRequest, NetworkRequest, Summary};
use crate::service::Caller;
use crate::train::{Preset, TrainSpec};

/// Lists the presets, each as the spec of a job.
#[utoipa::path(
    get,
    path = "/v1/networks",
    operation_id = "list_networks",
    tag = "networks",
    responses((status = 200, description = "The presets.", body = api::NetworkList))
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
) -> Result<JsonResponse<api::NetworkList>, Problem> {
    let entry = |(preset, spec): (Preset, TrainSpec)| api::Network {
        name: preset.name(),
        description: preset.description(),
        spec: spec.into(),
    };
    let networks = app.service().presets(&caller)?.into_iter().map(entry).collect();
    Ok(JsonResponse(api::NetworkList { networks }))
}

/// Shows layers, shapes, parameters, operations and memory of a network.
#[utoipa::path(
    post,
    path = "/v1/networks/summary",
    operation_id = "summarise_network",
    tag = "networks",
    request_body(content = api::SummaryRequest, examples(
        ("preset" = (summary = "a preset", value = json!({"network": "cnn"}))),
        ("layers" = (summary = "custom layers", value = json!({"network": {"layers": [{"type": "dense", "units": 50}, {"type": "sigmoid"}, {"type": "dense", "units": 10}]}, "batch_size": 64})))
    )),
    responses((status = 200, description = "The network, or a table of it.", content(
        (api::NetworkSummary = "application/json"), (String = "text/plain")
    )))
)]
pub async fn summary(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let limits = app.config().limits.spec();
    let request =
        request.read(move |request| NetworkRequest::parse(request, &data::mnist::shape(), &limits)).await?;
    let wants_text = accepts(&headers, TEXT);
    let render = move |summary: Summary| match wants_text {
        true => answer_as(TEXT, summary.text()),
        false => JsonResponse(api::NetworkSummary::from(summary)).into_response(),
    };
    rendered(app.service().answer(&caller, request, render).await)
}

/// Compares backpropagation with numerical differentiation.
#[utoipa::path(
    post,
    path = "/v1/gradient-check",
    operation_id = "gradient_check",
    tag = "networks",
    request_body(content = api::GradientCheckRequest, examples(
        ("preset" = (summary = "a preset with random weights", value = json!({"network": "lesson", "samples": 4, "parameters": 3, "seed": 7}))),
        ("model" = (summary = "a model", value = json!({"model": "digits", "dataset": "mnist", "loss": "mean_squared_error"})))
    )),
    responses((status = 200, description = "Both gradients, or a table of them.", content(
        (api::GradientCheck = "application/json"), (String = "text/plain")
    ))),
    extensions(("x-codes" = json!([Code::UnknownModel, Code::UnknownVersion, Code::UnknownAlias, Code::LOADED])))
)]
pub async fn gradient_check(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let limits = app.config().limits.lab();
    let request = request.read(move |request| CheckRequest::parse(request, &data::shapes(), &limits)).await?;
    let wants_text = accepts(&headers, TEXT);
    let render = move |check: Check| match wants_text {
        true => answer_as(TEXT, check.text()),
        false => JsonResponse(api::GradientCheck::from(check)).into_response(),
    };
    rendered(app.service().gradient_check(&caller, request, render).await)
}
