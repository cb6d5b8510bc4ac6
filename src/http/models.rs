use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use utoipa::IntoParams;

use super::Problem;
use super::extract::{self, ListParams, ModelParam, ModelPath, NoParams, Page, Params, PathWords, path_text};
use crate::api::{self, Code};
use crate::app::App;
use crate::fields::{Fault, parsed};
use crate::model::{ModelPlace, ModelRef, Selector, is_alias};
use crate::service::Caller;

/// The largest size of a model's row, in memory and as JSON, in bytes. Models are bounded because their
/// layers and aliases are limited.
const ROW_BYTES: usize = 32 << 10;

/// Lists models with their newest version.
///
/// The model that was published last comes first.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    tag = "models",
    params(ListParams),
    responses((status = 200, description = "A page of models.", body = api::ModelList)),
    extensions(("x-codes" = json!([Code::RequestTooLarge, Code::DatabaseUnavailable])))
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<ModelPlace> = params.page()?;
    let (service, reader) = (app.service().clone(), caller.clone());
    let (limit, cursor) = (page.limit as usize, page.cursor.clone());
    let read = async move {
        let (models, next) = service.models(&reader, cursor.as_ref(), limit);
        let models = models.into_iter().map(Into::into).collect();
        Ok(Json(api::ModelList { models, next_cursor: next.map(|place| place.to_string()) }))
    };
    page.answer(&app, &caller, ROW_BYTES, read).await
}

/// Returns a page of the versions of a model.
fn shown(
    app: &App,
    caller: &Caller,
    reference: &ModelRef,
    page: Page<u32>,
) -> Result<Json<api::Model>, Problem> {
    let (entry, next) = app.service().model(caller, reference, page.cursor, page.limit as usize)?;
    Ok(Json(api::Model::new(entry, next)))
}

/// Shows a model with its versions and aliases; `ref` is `name`, `name@3` or `name@alias`.
#[utoipa::path(
    get,
    path = "/v1/models/{ref}",
    operation_id = "show_model",
    tag = "models",
    params(ModelParam, ListParams),
    responses((status = 200, description = "The model with a page of its versions.", body = api::Model)),
    extensions(("x-codes" = json!([Code::MODEL, Code::RequestTooLarge, Code::DatabaseUnavailable])))
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<u32> = params.page()?;
    let read = {
        let (app, caller) = (app.clone(), caller.clone());
        async move { shown(&app, &caller, &reference, page) }
    };
    page.answer(&app, &caller, ROW_BYTES, read).await
}

/// Deletes a version.
#[utoipa::path(
    delete,
    path = "/v1/models/{ref}",
    operation_id = "delete_model_version",
    tag = "models",
    params(("ref" = String, Path, description = "A version, as `name@3`. A bare name or an alias is refused, since it can refer to another version tomorrow.")),
    responses((status = 204, description = "The version is deleted.")),
    extensions(("x-codes" = json!([Code::MODEL, Code::ModelAliased, Code::ModelNeeded, Code::ROWS])))
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, Problem> {
    let Selector::Version(version) = reference.selector else {
        return Err(Problem::new(
            Code::InvalidModelReference,
            format!(
                "{reference} can refer to another version later; name the version to delete, such as {}@1",
                reference.name
            ),
        ));
    };
    app.service().delete_version(&caller, &reference.name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Points an alias to a version.
#[utoipa::path(
    put,
    path = "/v1/models/{name}/aliases/{alias}",
    operation_id = "set_alias",
    tag = "models",
    params(AliasParams),
    request_body(content = api::AliasRequest, examples(("version" = (summary = "the first version", value = json!({"version": 1}))))),
    responses((status = 200, description = "The model with its newest versions and all aliases.", body = api::Model)),
    extensions(("x-codes" = json!([Code::MODEL, Code::InvalidAlias, Code::TooManyAliases, Code::ROWS])))
)]
pub async fn set_alias(
    State(app): State<App>,
    caller: Caller,
    PathWords((name, alias)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    request: extract::Json,
) -> Result<Json<api::Model>, Problem> {
    let reference = alias_reference(&name, &alias)?;
    let version = request.read(meant_version).await?;
    app.service().set_alias(&caller, &reference.name, &alias, version).await?;
    let model = ModelRef { name: reference.name, selector: Selector::Default };
    shown(&app, &caller, &model, Page::of(None, None)?)
}

fn meant_version(request: &Value) -> Result<u32, Vec<Fault>> {
    parsed(request, |mut fields| {
        let version = fields.integer("version", 1..=u64::from(u32::MAX));
        if version.is_none() && fields.faults.is_empty() {
            fields.fault("version", "is missing; send the number of the version".to_owned());
        }
        fields.refuse_unknown();
        version.map(|version| version as u32)
    })
}

/// Deletes an alias.
#[utoipa::path(
    delete,
    path = "/v1/models/{name}/aliases/{alias}",
    operation_id = "delete_alias",
    tag = "models",
    params(AliasParams),
    responses((status = 204, description = "The alias is deleted; its version stays.")),
    extensions(("x-codes" = json!([Code::MODEL, Code::InvalidAlias, Code::ROWS])))
)]
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

/// The path of an alias.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by its derive alone")]
struct AliasParams {
    /// Name of the model.
    name: String,
    /// Name of the alias, which must not be digits only.
    #[param(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    alias: String,
}

/// Makes the reference `name@alias`.
fn alias_reference(name: &str, alias: &str) -> Result<ModelRef, Problem> {
    if !is_alias(alias) {
        let detail = format!(
            "{:?} can't be an alias: 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, \
             and not only digits",
            path_text(alias)
        );
        return Err(Problem::new(Code::InvalidAlias, detail));
    }
    Ok(format!("{name}@{alias}").parse()?)
}
