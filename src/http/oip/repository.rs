use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::ModelInPath;
use crate::admission::{Lane, Price, Stop};
use crate::api::{self, Code};
use crate::app::App;
use crate::fields::{Fault, json, json_price, parsed, token};
use crate::http::extract::json_problem;
use crate::http::receive::Body;
use crate::http::{Problem, priced, worked};
use crate::service::Caller;

/// Bytes of a version in the index: in memory and as JSON.
const ENTRY_BYTES: usize = 512;

/// Bodies longer than this many bytes are parsed by other threads.
const QUICK_BYTES_MAX: usize = 4 << 10;

/// The most parameters that an error names.
const FAULTS_MAX: usize = 8;

/// Lists the versions of all models, and whether they accept predictions.
///
/// A model that was unloaded is `UNAVAILABLE`. With `{"ready": true}`, only versions that are `READY` are listed. The
/// body may be empty.
#[utoipa::path(
    post,
    path = "/v2/repository/index",
    operation_id = "repository_index",
    tag = "inference",
    request_body(content = Option<api::IndexRequest>, examples(
        ("ready" = (summary = "only versions that accept predictions", value = json!({"ready": true})))
    )),
    responses((status = 200, description = "The versions, by name and number.", body = Vec<api::IndexEntry>))
)]
pub async fn index(State(app): State<App>, caller: Caller, body: Body) -> Result<Response, Problem> {
    let is_ready_only = read(&app, &caller, body, |request| {
        parsed(request, |mut fields| Some(fields.boolean("ready") == Some(true)))
    });
    let is_ready_only = is_ready_only.await?;
    let (service, reader) = (app.service().clone(), caller.clone());
    let price = Price::new(Lane::Text, service.version_count(&caller, None).saturating_mul(ENTRY_BYTES));
    let list = move |_: &Stop| {
        let versions = service.served_versions(&reader, None).into_iter();
        let entries = versions.filter(|version| version.is_served || !is_ready_only).map(Into::into);
        Ok(Json(entries.collect::<Vec<api::IndexEntry>>()))
    };
    priced(&app, &caller, price, list).await
}

/// Loads the weights of a model, and accepts its predictions again if it was unloaded.
///
/// It loads the version that the bare name refers to. The body may be empty. Models come from jobs, so the parameters
/// `config` and `file:…` are refused.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/load",
    operation_id = "load_model",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    request_body(content = Option<api::RepositoryRequest>, examples(("load" = (summary = "nothing to say", value = json!({}))))),
    responses((status = 200, description = "The model is loaded.")),
    extensions(("x-codes" = json!([Code::SERVED, Code::LOADED])))
)]
pub async fn load(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
    body: Body,
) -> Result<StatusCode, Problem> {
    read(&app, &caller, body, |request| check_parameters(request, &[])).await?;
    app.service().load_model(&caller, &reference.name).await?;
    Ok(StatusCode::OK)
}

/// Drops the weights of a model, and refuses its predictions until it is loaded again.
///
/// Predictions that run are completed. This affects all versions of the model and all routes that use its weights, on
/// this server only, and only until the server ends. The body may be empty. The parameter `unload_dependents` has no
/// effect, because no model depends on another.
#[utoipa::path(
    post,
    path = "/v2/repository/models/{name}/unload",
    operation_id = "unload_model",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    request_body(content = Option<api::RepositoryRequest>, examples(
        ("unload" = (summary = "as Triton's client sends it", value = json!({"parameters": {"unload_dependents": false}})))
    )),
    responses((status = 200, description = "The model is unloaded.")),
    extensions(("x-codes" = json!([Code::SERVED])))
)]
pub async fn unload(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
    body: Body,
) -> Result<StatusCode, Problem> {
    read(&app, &caller, body, |request| check_parameters(request, &["unload_dependents"])).await?;
    app.service().unload_model(&caller, &reference.name)?;
    Ok(StatusCode::OK)
}

/// Returns a fault for each parameter that is not known.
fn check_parameters(request: &Value, known: &[&str]) -> Result<(), Vec<Fault>> {
    let parameters = request.get("parameters").and_then(Value::as_object);
    let unknown = parameters.into_iter().flat_map(|parameters| parameters.keys());
    let unknown = unknown.filter(|name| !known.contains(&name.as_str())).take(FAULTS_MAX);
    let fault = |name: &String| Fault {
        pointer: format!("/parameters/{}", token(name)),
        detail: "this parameter is not supported; models come from jobs".to_owned(),
    };
    let faults: Vec<Fault> = unknown.map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Reads a body that is empty or a JSON object.
async fn read<T: Default + Send + 'static>(
    app: &App,
    caller: &Caller,
    body: Body,
    read: impl FnOnce(&Value) -> Result<T, Vec<Fault>> + Send + 'static,
) -> Result<T, Problem> {
    if body.bytes.is_empty() {
        return Ok(T::default());
    }
    let is_quick = body.bytes.len() <= QUICK_BYTES_MAX;
    let price = Price::new(Lane::Text, json_price(&body.bytes)).instant(is_quick);
    let read = move |_: &Stop| {
        let value = json(&body.bytes).map_err(json_problem)?;
        parsed(&value, |_| Some(())).and_then(|()| read(&value)).map_err(Problem::invalid)
    };
    Ok(worked(app, caller, price, read).await?.0)
}
