use axum::Json;
use axum::extract::State;

use super::ModelInPath;
use crate::api::{self, Code};
use crate::app::App;
use crate::http::Problem;
use crate::http::operating::readiness;
use crate::model::{ModelRef, ModelVersion, Selector};
use crate::oip::Interface;
use crate::service::Caller;

/// The most versions in the metadata of a model, the newest ones. The index lists all.
const VERSIONS_LISTED: usize = 256;

/// Answers if the server is alive.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    operation_id = "server_live",
    tag = "inference",
    responses((status = 200, description = "The server is alive.", body = api::ServerLive))
)]
pub async fn live() -> Json<api::ServerLive> {
    Json(api::ServerLive { live: true })
}

/// Reports whether the server is ready for work.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    operation_id = "server_ready",
    tag = "inference",
    responses((status = 200, description = "The server is ready.", body = api::ServerReady)),
    extensions(("x-codes" = json!([Code::Draining, Code::Database, Code::Disk, Code::Queue, Code::Predictions])))
)]
pub async fn ready(State(app): State<App>) -> Result<Json<api::ServerReady>, Problem> {
    readiness(&app).await?;
    Ok(Json(api::ServerReady { ready: true }))
}

/// Describes the server and the extensions of the protocol that it has.
#[utoipa::path(
    get,
    path = "/v2",
    operation_id = "server_metadata",
    tag = "inference",
    responses((status = 200, description = "The server.", body = api::ServerMetadata))
)]
pub async fn metadata() -> Json<api::ServerMetadata> {
    Json(api::ServerMetadata::default())
}

/// Describes the server; the same as `GET /v2`.
#[utoipa::path(
    get,
    path = "/v2/",
    operation_id = "server_metadata_with_slash",
    tag = "inference",
    responses((status = 200, description = "The server.", body = api::ServerMetadata))
)]
pub async fn metadata_with_slash() -> Json<api::ServerMetadata> {
    metadata().await
}

/// Describes the input and the outputs of a model, and lists its versions.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    operation_id = "model_metadata",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    responses((status = 200, description = "The model.", body = api::ModelMetadata)),
    extensions(("x-codes" = json!([Code::SERVED, Code::LOADED])))
)]
pub async fn model(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
) -> Result<Json<api::ModelMetadata>, Problem> {
    let (interface, version) = described(&app, &caller, &reference).await?;
    let versions = match reference.selector {
        Selector::Default => app.service().newest_versions(&caller, &reference.name, VERSIONS_LISTED),
        _ => vec![interface.version],
    };
    Ok(Json(api::ModelMetadata::new(&interface, &version, versions)))
}

/// Reports whether a model accepts predictions. Its weights are loaded by the first one.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/ready",
    operation_id = "model_ready",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    responses((status = 200, description = "The model is ready.", body = api::ModelReady)),
    extensions(("x-codes" = json!([Code::SERVED, Code::ModelUnloaded, Code::Draining])))
)]
pub async fn model_ready(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
) -> Result<Json<api::ModelReady>, Problem> {
    if app.draining().is_cancelled() {
        return Err(Problem::new(Code::Draining, "the server is stopping"));
    }
    app.service().served_version(&caller, &reference)?;
    Ok(Json(api::ModelReady { name: reference.name, ready: true }))
}

/// Shows the configuration of a model in the form of Triton.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/config",
    operation_id = "model_config",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    responses((status = 200, description = "The configuration.", body = api::ModelConfig)),
    extensions(("x-codes" = json!([Code::SERVED, Code::LOADED])))
)]
pub async fn config(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
) -> Result<Json<api::ModelConfig>, Problem> {
    let (interface, _) = described(&app, &caller, &reference).await?;
    Ok(Json(api::ModelConfig::new(&interface, app.config().limits.images_max)))
}

/// Returns what clients must know about a version. Its file has the shape of the input, so it is loaded.
async fn described(
    app: &App,
    caller: &Caller,
    reference: &ModelRef,
) -> Result<(Interface, ModelVersion), Problem> {
    let service = app.service();
    let interface = Interface::of(&*service.loaded(caller, reference).await?);
    let version = ModelRef { name: interface.model.clone(), selector: Selector::Version(interface.version) };
    Ok((interface, service.served_version(caller, &version)?))
}
