use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Problem;
use super::extract::{ListParams, NoParams, Page, Params, PathWords, accepts};
use crate::app::App;
use crate::data::{self, IMAGE_SIDE, SplitName, Statistics, picture};

/// A list of data sets.
#[derive(Serialize)]
pub struct DatasetList {
    datasets: Vec<DatasetEntry>,
    next_cursor: Option<String>,
}

/// A data set in a list.
#[derive(Serialize)]
pub struct DatasetEntry {
    name: String,
    classes: usize,
    train_examples: usize,
}

/// `GET /v1/datasets`
pub async fn list(Params(params): Params<ListParams>) -> Result<Json<DatasetList>, Problem> {
    let page: Page<String> = params.page()?;
    let behind = |name: &String| page.cursor.as_ref().is_none_or(|cursor| name > cursor);
    let entries = data::shapes().into_iter().filter(|shape| behind(&shape.name)).map(|shape| DatasetEntry {
        name: shape.name,
        classes: shape.classes,
        train_examples: shape.train,
    });
    Ok(Json(DatasetList { datasets: entries.take(page.limit as usize).collect(), next_cursor: None }))
}

/// A data set with its figures.
#[derive(Serialize)]
pub struct DatasetDetails {
    name: String,
    classes: Vec<String>,
    shape: [usize; 2],
    #[serde(flatten)]
    statistics: Statistics,
}

/// `GET /v1/datasets/{name}`
pub async fn show(
    State(app): State<App>,
    PathWords(name): PathWords<String>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<DatasetDetails>, Problem> {
    let details = app.service().with_dataset(name, |dataset| DatasetDetails {
        name: dataset.name.clone(),
        classes: dataset.classes.clone(),
        shape: [IMAGE_SIDE, IMAGE_SIDE],
        statistics: dataset.statistics().clone(),
    });
    Ok(Json(details.await?))
}

/// One example.
#[derive(Serialize)]
pub struct Example {
    dataset: String,
    split: SplitName,
    index: usize,
    label: u16,
    class: String,
    image: Vec<Vec<u8>>,
}

/// `GET /v1/datasets/{name}/{split}/{index}`
pub async fn example(
    State(app): State<App>,
    PathWords((name, split, index)): PathWords<(String, String, String)>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wants_picture = accepts(&headers, "image/png");
    let answer = app.service().with_dataset(name, move |dataset| {
        let split: SplitName = split
            .parse()
            .map_err(|_| Problem::not_found("unknown_split", "there are the splits train and test"))?;
        let examples = dataset.split(split);
        let count = examples.labels().len();
        let index: usize = index.parse().ok().filter(|&index| index < count).ok_or_else(|| {
            Problem::not_found(
                "unknown_example",
                format!("split {split} has the examples 0 to {}", count - 1),
            )
        })?;
        let pixels = examples.image(index);
        if wants_picture {
            let png = picture::to_png(pixels);
            return Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response());
        }
        let label = examples.labels()[index];
        Ok(Json(Example {
            dataset: dataset.name.clone(),
            split,
            index,
            label,
            class: dataset.classes[usize::from(label)].clone(),
            image: pixels.chunks(IMAGE_SIDE).map(<[u8]>::to_vec).collect(),
        })
        .into_response())
    });
    answer.await?
}
