use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::{Json, NoParams, Params, accepts};
use super::lab::{TEXT, answer_as};
use super::{Problem, rendered};
use crate::app::App;
use crate::data;
use crate::lab::{Check, CheckRequest, NetworkRequest, Summary};
use crate::service::Caller;
use crate::train::{self, Preset, SpecLimits, TrainSpec};

/// The presets, with the recipe each fills into a spec.
#[derive(Serialize)]
pub struct NetworkList {
    networks: Vec<NetworkEntry>,
}

/// A preset.
#[derive(Serialize)]
pub struct NetworkEntry {
    name: &'static str,
    description: &'static str,
    spec: TrainSpec,
}

/// Presets are shown whatever this server accepts.
const UNLIMITED: SpecLimits = SpecLimits {
    epochs_max: u32::MAX,
    layers_max: usize::MAX,
    units_max: usize::MAX,
    flops_max: f64::INFINITY,
    memory_bytes_max: f64::INFINITY,
};

/// `GET /v1/networks`
pub async fn list(Params(NoParams {}): Params<NoParams>) -> Result<JsonResponse<NetworkList>, Problem> {
    let entry = |preset: Preset| {
        let request = serde_json::json!({ "network": preset.name() });
        let spec = train::parse(&request, &data::shapes(), &UNLIMITED).map_err(Problem::invalid)?;
        Ok(NetworkEntry { name: preset.name(), description: preset.description(), spec })
    };
    let networks = Preset::ALL.into_iter().map(entry).collect::<Result<_, Problem>>()?;
    Ok(JsonResponse(NetworkList { networks }))
}

/// `POST /v1/networks/summary`
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
        false => JsonResponse(summary).into_response(),
    };
    rendered(app.service().answer(&caller, request, render).await)
}

/// `POST /v1/gradient-check`
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
        false => JsonResponse(check).into_response(),
    };
    rendered(app.service().gradient_check(&caller, request, render).await)
}
