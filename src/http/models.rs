use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Problem;
use super::extract::{self, ListParams, ModelPath, NoParams, Page, Params, PathWords, path_text};
use super::receive::Client;
use crate::app::App;
use crate::fields::{Fault, parsed};
use crate::model::{ModelEntry, ModelPlace, ModelRef, Selector};
use crate::store::{DeletedVersion, SetAlias};
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
    client: Client,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<ModelPlace> = params.page()?;
    let (registry, limit, cursor) = (app.registry().clone(), page.limit as usize, page.cursor.clone());
    let read = async move {
        let (models, next) = registry.page(cursor.as_ref(), limit);
        Ok(Json(ModelList { models, next_cursor: next.map(|place| place.to_string()) }))
    };
    page.answer(&app, client, ROW_BYTES, read).await
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
        let (entry, next) = app.registry().entry(reference, page.cursor, page.limit as usize)?;
        Ok(Json(Self { entry, next_cursor: next.map(|version| version.to_string()) }))
    }
}

/// `GET /v1/models/{ref}`
pub async fn show(
    State(app): State<App>,
    client: Client,
    ModelPath(reference): ModelPath,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let page: Page<u32> = params.page()?;
    let read = {
        let app = app.clone();
        async move { ShownModel::of(&app, &reference, page) }
    };
    page.answer(&app, client, ROW_BYTES, read).await
}

/// `DELETE /v1/models/{ref}`
pub async fn delete(
    State(app): State<App>,
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
    match app.store().delete_version(&reference.name, version).await? {
        DeletedVersion::Gone(key) => {
            app.registry().refresh().await?;
            if app.registry().newest(&reference.name).is_none() {
                app.metrics().forget_model(&reference.name);
            }
            app.blobs().delete_dead([key]).await;
            Ok(StatusCode::NO_CONTENT)
        }
        DeletedVersion::Aliased(alias) => Err(Problem::conflict(
            "model_aliased",
            format!("{}@{alias} is {reference}; move the alias or delete it first", reference.name),
        )),
        DeletedVersion::Needed(job) => Err(Problem::conflict(
            "model_needed",
            format!("job {job} starts from {reference} and has not ended"),
        )),
        DeletedVersion::Unknown => Err(unknown(&app, reference).await),
    }
}

/// `PUT /v1/models/{name}/aliases/{alias}`
pub async fn set_alias(
    State(app): State<App>,
    PathWords((name, alias)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    extract::Json { value: request, .. }: extract::Json,
) -> Result<Json<ShownModel>, Problem> {
    let reference = alias_reference(&name, &alias)?;
    let version = parsed(&request, |mut fields| {
        let version = fields.integer("version", 1..=u64::from(u32::MAX));
        if version.is_none() && fields.faults.is_empty() {
            fields.fault("version", "is missing: the number of the version to be meant".to_owned());
        }
        fields.refuse_unknown();
        version
    })
    .map_err(Problem::invalid)? as u32;
    let aliases_max = app.config().limits.aliases_max;
    let set = app.store().set_alias(&name, &alias, version, aliases_max).await?;
    app.registry().refresh().await?;
    let model = ModelRef { name: reference.name, selector: Selector::Default };
    match set {
        SetAlias::Set => ShownModel::of(&app, &model, Page::of(None, None)?),
        SetAlias::TooMany => Err(Problem::conflict(
            "too_many_aliases",
            format!(
                "model {name} has {aliases_max} aliases, which is as many as it may have; move or delete one of them"
            ),
        )),
        SetAlias::Unknown => {
            let meant = ModelRef { name, selector: Selector::Version(version) };
            let detail =
                app.registry().version(&meant).err().map_or_else(String::new, |error| error.to_string());
            if app.registry().version(&model).is_err() {
                return Err(Problem::not_found("unknown_model", detail));
            }
            Err(Problem::invalid(vec![Fault { pointer: "/version".to_owned(), detail }]))
        }
    }
}

/// `DELETE /v1/models/{name}/aliases/{alias}`
pub async fn delete_alias(
    State(app): State<App>,
    PathWords((name, alias)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<StatusCode, Problem> {
    let reference = alias_reference(&name, &alias)?;
    if !app.store().delete_alias(&name, &alias).await? {
        return Err(unknown(&app, reference).await);
    }
    app.registry().refresh().await?;
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

/// 404 that names what is missing of a reference; another server may have deleted it.
async fn unknown(app: &App, reference: ModelRef) -> Problem {
    if let Err(error) = app.registry().refresh().await {
        return error.into();
    }
    match app.registry().version(&reference) {
        Err(error) => error.into(),
        Ok(_) => Problem::not_found("unknown_model", format!("there is no {reference}")),
    }
}
