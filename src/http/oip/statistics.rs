use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::ModelInPath;
use crate::admission::{Lane, Price, Stop};
use crate::api::{self, Code};
use crate::app::App;
use crate::http::{Problem, priced};
use crate::model::Selector;
use crate::registry::ServedVersion;
use crate::service::Caller;

/// Bytes of a version's statistics: in memory and as JSON, with all batch sizes.
const ENTRY_BYTES: usize = 16 << 10;

/// Shows what this server has counted about the predictions of a model's versions since it started.
///
/// Predictions of all routes are counted. `inference_count` counts images, `execution_count` batches.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/stats",
    operation_id = "model_statistics",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    responses((status = 200, description = "The statistics of each version.", body = api::StatisticsList)),
    extensions(("x-codes" = json!([Code::SERVED, Code::RequestTooLarge])))
)]
pub async fn statistics(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
) -> Result<Response, Problem> {
    let version = app.service().version(&caller, &reference)?.version;
    let only = (reference.selector != Selector::Default).then_some(version);
    listed(&app, &caller, Some(reference.name), only).await
}

/// Shows what this server has counted about the predictions of all models since it started.
#[utoipa::path(
    get,
    path = "/v2/models/stats",
    operation_id = "statistics",
    tag = "inference",
    responses((status = 200, description = "The statistics of each version.", body = api::StatisticsList)),
    extensions(("x-codes" = json!([Code::RequestTooLarge])))
)]
pub async fn statistics_of_all(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    listed(&app, &caller, None, None).await
}

/// Lists the statistics of all models, of one model, or of one version of it.
async fn listed(
    app: &App,
    caller: &Caller,
    name: Option<String>,
    only: Option<u32>,
) -> Result<Response, Problem> {
    let (service, reader) = (app.service().clone(), caller.clone());
    let count = if only.is_some() { 1 } else { service.version_count(caller, name.as_deref()) };
    let list = move |_: &Stop| {
        let mut versions = service.served_versions(&reader, name.as_deref());
        versions.retain(|version| only.is_none_or(|only| only == version.version));
        let entry = |ServedVersion { name, version, .. }: ServedVersion| {
            let statistics = service.statistics_of(&reader, &name, version);
            api::ModelStatistics::new(name, version, statistics)
        };
        Ok(Json(api::StatisticsList { model_stats: versions.into_iter().map(entry).collect() }))
    };
    priced(app, caller, Price::new(Lane::Text, count.saturating_mul(ENTRY_BYTES)), list).await
}
