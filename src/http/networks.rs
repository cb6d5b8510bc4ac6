use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::{Json, NoParams, Params, accepts};
use super::lab::{answer_as, lab_price};
use super::{Problem, client_gone, datasets, priced, priced_with};
use crate::admission::Stop;
use crate::app::App;
use crate::data;
use crate::fields::Fault;
use crate::lab::{self, CheckRequest, NetworkRequest};
use crate::model::{ModelRef, ModelRefError};
use crate::nn::{LayerSpec, Network};
use crate::registry::Model;
use crate::service::{Caller, Wanted};
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
    let request = request.read(move |request| NetworkRequest::parse(request, &limits)).await?;
    let price = lab_price(&app, lab::summary_cost(request.layers.len()))?;
    let wants_text = accepts(&headers, "text/plain");
    let work = move |_: &Stop| {
        let summary = lab::summary(&request.layers, request.batch_size).map_err(|error| {
            Problem::invalid(vec![Fault { pointer: "/network".to_owned(), detail: error.to_string() }])
        })?;
        Ok(match wants_text {
            true => answer_as("text/plain", summary.text()),
            false => JsonResponse(summary).into_response(),
        })
    };
    priced(&app, &caller, price, work).await
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
    let dataset = datasets::loaded(request.dataset.clone()).await?;
    let model = match &request.model {
        Some(reference) => Some(checked_model(&app, &caller, reference, dataset.classes.len()).await?),
        None => None,
    };
    let layers = match &model {
        Some((_, layers)) => layers.as_slice(),
        None => request.layers.as_deref().unwrap_or_default(),
    };
    let price = lab_price(&app, request.cost(layers))?;
    let wants_text = accepts(&headers, "text/plain");
    let request = Arc::new(request);
    let drawn = {
        let request = Arc::clone(&request);
        move || request.draw().map_err(Problem::invalid)
    };
    let answer = move |network: Network<f64>, stop: &Stop| {
        let check = lab::check(network, &request, &dataset, &|| !stop.is_set()).map_err(|_| client_gone())?;
        Ok(match wants_text {
            true => answer_as("text/plain", check.text()),
            false => JsonResponse(check).into_response(),
        })
    };
    match model {
        Some((wanted, _)) => {
            let check = move |model: &Model, stop: &Stop| answer(model.predictor.network().converted(), stop);
            priced_with(&app, &caller, price, &wanted, check).await
        }
        None => priced(&app, &caller, price, move |stop| answer(drawn()?, stop)).await,
    }
}

/// The model of a check with its layers, which has as many classes as the data set.
async fn checked_model(
    app: &App,
    caller: &Caller,
    reference: &str,
    classes: usize,
) -> Result<(Wanted, Vec<LayerSpec>), Problem> {
    let invalid = |detail| Problem::invalid(vec![Fault { pointer: "/model".to_owned(), detail }]);
    let reference: ModelRef = reference.parse().map_err(|error: ModelRefError| invalid(error.to_string()))?;
    let version = app.registry().version(&reference).map_err(|error| invalid(error.to_string()))?;
    let model = app.service().loaded(caller, &reference).await?;
    if model.classes.len() != classes {
        let detail = format!("it has {} classes, the dataset has {classes}", model.classes.len());
        return Err(invalid(detail));
    }
    Ok((Wanted::new(&model), version.layers))
}
