use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::Problem;
use super::extract::{ListParams, NoParams, Page, Params, PathWords, accepts};
use crate::api::{self, Code};
use crate::app::App;
use crate::data::picture;
use crate::service::Caller;

/// Lists data sets.
#[utoipa::path(
    get,
    path = "/v1/datasets",
    operation_id = "list_datasets",
    tag = "datasets",
    params(ListParams),
    responses((status = 200, description = "A page of data sets.", body = api::DatasetList))
)]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<api::DatasetList>, Problem> {
    let page: Page<String> = params.page()?;
    let (shapes, next_cursor) = app.service().datasets(&caller, page.cursor.as_deref(), page.limit);
    let datasets = shapes.into_iter().map(|shape| api::DatasetEntry {
        name: shape.name,
        classes: shape.classes,
        train_examples: shape.train,
    });
    Ok(Json(api::DatasetList { datasets: datasets.collect(), next_cursor }))
}

/// Shows the size and statistics of a data set.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}",
    operation_id = "show_dataset",
    tag = "datasets",
    params(("name" = String, Path, description = "The name of a data set.")),
    responses((status = 200, description = "The data set.", body = api::Dataset)),
    extensions(("x-codes" = json!([Code::UnknownDataset])))
)]
pub async fn show(
    State(app): State<App>,
    caller: Caller,
    PathWords(name): PathWords<String>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<api::Dataset>, Problem> {
    let details = app.service().with_dataset(&caller, name, |dataset| api::Dataset::new(dataset));
    Ok(Json(details.await?))
}

/// Shows an example, as JSON or a picture.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}/{split}/{index}",
    operation_id = "show_example",
    tag = "datasets",
    params(
        ("name" = String, Path, description = "The name of a data set."),
        ("split" = inline(api::Split), Path, description = "A split of the data set."),
        ("index" = usize, Path, description = "The index in the split, from 0.")
    ),
    responses((status = 200, description = "The example, or its image.", content(
        (api::Example = "application/json"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::UnknownDataset, Code::UnknownSplit, Code::UnknownExample])))
)]
pub async fn example(
    State(app): State<App>,
    caller: Caller,
    PathWords((name, split, index)): PathWords<(String, String, String)>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let example = app.service().example(&caller, name, &split, &index).await?;
    let pixels = example.pixels();
    if accepts(&headers, "image/png") {
        return Ok(([(header::CONTENT_TYPE, "image/png")], picture::to_png(pixels)).into_response());
    }
    let label = example.label();
    Ok(Json(api::Example {
        dataset: example.dataset.name.clone(),
        split: example.split.into(),
        index: example.index,
        label,
        class: example.dataset.classes[usize::from(label)].clone(),
        image: pixels.chunks(example.dataset.shape().input.width).map(<[u8]>::to_vec).collect(),
    })
    .into_response())
}
