use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::Problem;
use super::extract::{self, ListParams, ModelPath, NoParams, Page, Params, PathWords, path_text};
use crate::app::App;
use crate::fields::{Fault, parsed};
use crate::model::{ModelEntry, ModelPlace, ModelRef, Selector};
use crate::service::Caller;
use crate::train::is_name;

/// Bytes of a row of a model at most, as it is held and as JSON: its layers and its aliases are limited.
const ROW_BYTES: usize = 32 << 10;

/// A list of models, the one published last first, each with its newest version.
#[derive(Serialize)]
pub struct ModelList {
    models: Vec<ModelEntry>,
    next_cursor: Option<String>,
}

/// `GET /v1/models`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<ModelPlace> = params.page()?;
    let (service, limit, cursor) = (app.service().clone(), page.limit as usize, page.cursor.clone());
    let read = async move {
        let (models, next) = service.models(cursor.as_ref(), limit);
        Ok(Json(ModelList { models, next_cursor: next.map(|place| place.to_string()) }))
    };
    page.answer(&app, &caller, ROW_BYTES, read).await
}

/// A model with some of its versions.
#[derive(Serialize)]
pub struct ShownModel {
    #[serde(flatten)]
    entry: ModelEntry,
    next_cursor: Option<String>,
}

impl ShownModel {
    fn of(app: &App, reference: &ModelRef, page: Page<u32>) -> Result<Json<Self>, Problem> {
        let (entry, next) = app.service().model(reference, page.cursor, page.limit as usize)?;
        Ok(Json(Self { entry, next_cursor: next.map(|version| version.to_string()) }))
    }
}

/// `GET /v1/models/{ref}`
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<u32> = params.page()?;
    let read = {
        let app = app.clone();
        async move { ShownModel::of(&app, &reference, page) }
    };
    page.answer(&app, &caller, ROW_BYTES, read).await
}

/// `DELETE /v1/models/{ref}`
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, Problem> {
    let Selector::Version(version) = reference.selector else {
        return Err(Problem::malformed(
            "invalid_model_reference",
            format!(
                "{reference} can mean another version tomorrow; name the one to delete, as {}@1",
                reference.name
            ),
        ));
    };
    app.service().delete_version(&caller, &reference.name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/models/{name}/aliases/{alias}`
pub async fn set_alias(
    State(app): State<App>,
    caller: Caller,
    PathWords((name, alias)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    request: extract::Json,
) -> Result<Json<ShownModel>, Problem> {
    let reference = alias_reference(&name, &alias)?;
    let version = request.read(meant_version).await?;
    app.service().set_alias(&caller, &reference.name, &alias, version).await?;
    let model = ModelRef { name: reference.name, selector: Selector::Default };
    ShownModel::of(&app, &model, Page::of(None, None)?)
}

fn meant_version(request: &Value) -> Result<u32, Vec<Fault>> {
    parsed(request, |mut fields| {
        let version = fields.integer("version", 1..=u64::from(u32::MAX));
        if version.is_none() && fields.faults.is_empty() {
            fields.fault("version", "is missing: the number of the version to be meant".to_owned());
        }
        fields.refuse_unknown();
        version.map(|version| version as u32)
    })
}

/// `DELETE /v1/models/{name}/aliases/{alias}`
pub async fn delete_alias(
    State(app): State<App>,
    caller: Caller,
    PathWords((name, alias)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, Problem> {
    let reference = alias_reference(&name, &alias)?;
    app.service().delete_alias(&caller, &reference.name, &alias).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The reference `name@alias`; an alias is a name, and no number.
fn alias_reference(name: &str, alias: &str) -> Result<ModelRef, Problem> {
    if !is_name(alias) || alias.parse::<u32>().is_ok() {
        let detail = format!(
            "{:?} can't be an alias: 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, \
             and not a number",
            path_text(alias)
        );
        return Err(Problem::malformed("invalid_alias", detail));
    }
    Ok(format!("{name}@{alias}").parse()?)
}
