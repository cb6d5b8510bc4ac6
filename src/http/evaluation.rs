//! Evaluations of models on labelled examples, and comparisons of two models.

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Json, ModelParam, ModelPath, Page, Params, PathWords, accepts, invalid};
use super::lab::answer_as;
use super::{Problem, rendered};
use crate::api::{self, Code};
use crate::app::App;
use crate::data::{self, SplitName};
use crate::evaluation::{self, Cell};
use crate::fields::{Fault, parsed, unknown};
use crate::model::ModelRef;
use crate::service::{Caller, Compared, ComparedPage, Evaluated, EvaluationForm, OperationError};

const PNG: &str = "image/png";

/// The most examples in each list of an evaluation, and their default.
const LISTED_MAX: u64 = 200;
const LISTED: u64 = 20;

/// Query of [`evaluate`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EvaluateParams {
    /// What the picture shows; only with `Accept: image/png`.
    #[param(inline)]
    picture: Option<EvaluationPicture>,
}

/// What the picture of an evaluation shows.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(default = json!("confusion"))]
pub enum EvaluationPicture {
    /// The confusion matrix, a row for each true class. Dark cells have many examples of their row.
    #[default]
    Confusion,
    /// The examples of `worst`, ten a row. Below each are its class and the class that is read.
    Worst,
    /// The examples of `confidently_wrong`, in the same way.
    ConfidentlyWrong,
}

/// A request to evaluate a model.
struct Request {
    dataset: String,
    split: SplitName,
    all: bool,
    listed: usize,
}

/// Evaluates a model on the examples of a data set.
///
/// The response has its accuracy, loss, confusion, calibration and the examples that it misreads.
#[utoipa::path(
    post,
    path = "/v1/models/{ref}/evaluate",
    operation_id = "evaluate",
    tag = "models",
    params(ModelParam, EvaluateParams),
    request_body(content = api::EvaluationRequest, examples(
        ("defaults" = (summary = "on the test examples of MNIST", value = json!({}))),
        ("all" = (summary = "what it reads in each example", value = json!({"dataset": "mnist", "split": "test", "predictions": true, "worst": 5})))
    )),
    responses((status = 200, description = "The figures, or a picture.", content(
        (api::Evaluation = "application/json"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::EVALUATED])))
)]
pub async fn evaluate(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<EvaluateParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let wants_picture = accepts(&headers, PNG);
    if params.picture.is_some() && !wants_picture {
        return Err(invalid("picture chooses what a picture shows: send Accept: image/png as well"));
    }
    let picture = wants_picture.then(|| params.picture.unwrap_or_default());
    let Request { dataset, split, all, listed } = request.read(asked).await?;
    let form = match picture {
        None => EvaluationForm::Figures { all },
        Some(EvaluationPicture::Confusion) => EvaluationForm::Confusion,
        Some(EvaluationPicture::Worst | EvaluationPicture::ConfidentlyWrong) => EvaluationForm::Sheet,
    };
    let examples = app.service().examples(&caller, dataset, split).await?;
    let render = move |evaluated: Evaluated| match picture {
        None => JsonResponse(api::Evaluation::new(evaluated, all)).into_response(),
        Some(picture) => answer_as(PNG, drawn(&evaluated, picture)),
    };
    rendered(app.service().evaluate(&caller, &reference, examples, listed, form, render).await)
}

fn asked(request: &Value) -> Result<Request, Vec<Fault>> {
    parsed(request, |mut fields| {
        let dataset = fields.string("dataset").unwrap_or_else(|| data::mnist::NAME.to_owned());
        let shapes = data::shapes();
        let known: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        if !known.contains(&dataset.as_str()) {
            fields.fault("dataset", unknown("dataset", &dataset, &known));
        }
        let splits = [("train", SplitName::Train), ("test", SplitName::Test)];
        let split = fields.one_of("split", &splits).unwrap_or(SplitName::Test);
        let all = fields.boolean("predictions").unwrap_or(false);
        let listed = fields.integer("worst", 0..=LISTED_MAX).unwrap_or(LISTED) as usize;
        fields.refuse_unknown();
        Some(Request { dataset, split, all, listed })
    })
}

fn drawn(evaluated: &Evaluated, picture: EvaluationPicture) -> Vec<u8> {
    match picture {
        EvaluationPicture::Confusion => evaluation::confusion_picture(&evaluated.report.confusion),
        EvaluationPicture::Worst => evaluated.sheet(&evaluated.report.worst),
        EvaluationPicture::ConfidentlyWrong => evaluated.sheet(&evaluated.report.most_confidently_wrong),
    }
}

/// Query of [`compare`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CompareParams {
    /// The data set.
    #[param(default = "mnist")]
    dataset: Option<String>,
    /// The split of the data set.
    #[param(inline, default = "test")]
    split: Option<api::Split>,
    /// Which examples are listed.
    #[param(inline)]
    cell: Option<ComparedCell>,
    /// Number of examples on the page; by default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A cell of the table of a comparison: who reads an example rightly.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(default = json!("only_a"))]
pub enum ComparedCell {
    /// Both models.
    BothRight,
    /// The first model only.
    #[default]
    OnlyA,
    /// The second model only.
    OnlyB,
    /// Neither of them.
    BothWrong,
}

impl ComparedCell {
    fn cell(self) -> Cell {
        match self {
            Self::BothRight => Cell::BothRight,
            Self::OnlyA => Cell::OnlyA,
            Self::OnlyB => Cell::OnlyB,
            Self::BothWrong => Cell::BothWrong,
        }
    }
}

/// Compares two models on the examples of a data set.
///
/// The response has both accuracies, the table of who reads how many examples rightly, McNemar's test, and a page of the
/// examples in one cell of the table. A picture shows the same page, ten examples a row. Below each are its class, what the
/// first model reads, and what the second model reads.
#[utoipa::path(
    get,
    path = "/v1/models/{ref}/compare/{other}",
    operation_id = "compare_models",
    tag = "models",
    params(
        ModelParam,
        ("other" = String, Path, description = "Reference to the second model."),
        CompareParams
    ),
    responses((status = 200, description = "The comparison, or a picture of the examples. A picture that is not the last page has a `Link` to the next one.", content(
        (api::Comparison = "application/json"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::EVALUATED, Code::RequestTooLarge])))
)]
pub async fn compare(
    State(app): State<App>,
    caller: Caller,
    PathWords((reference, other)): PathWords<(String, String)>,
    Params(params): Params<CompareParams>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (a, b): (ModelRef, ModelRef) = (reference.parse()?, other.parse()?);
    let page: Page<usize> = Page::of(params.limit, params.cursor.as_deref())?;
    let is_picture = accepts(&headers, PNG);
    let split = params.split.map_or(SplitName::Test, Into::into);
    let dataset = params.dataset.unwrap_or_else(|| data::mnist::NAME.to_owned());
    let examples = of_query(app.service().examples(&caller, dataset, split).await)?;
    let cell = params.cell.unwrap_or_default().cell();
    let page = ComparedPage { cell, after: page.cursor, limit: page.limit as usize, is_picture };
    let render = move |compared: Compared| match is_picture {
        true => (next_page(&uri, compared.next), answer_as(PNG, compared.sheet())).into_response(),
        false => JsonResponse(api::Comparison::from(compared)).into_response(),
    };
    rendered(app.service().compare(&caller, [&a, &b], examples, page, render).await)
}

/// Returns the header that refers to the next page (RFC 8288).
fn next_page(uri: &Uri, next: Option<usize>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let next = next.map(|cursor| {
        let query = uri.query().unwrap_or_default().split('&');
        let kept = query.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let kept: String = kept.map(|pair| format!("{pair}&")).collect();
        HeaderValue::from_str(&format!("<?{kept}cursor={cursor}>; rel=\"next\""))
    });
    headers.extend(next.and_then(Result::ok).map(|link| (header::LINK, link)));
    headers
}

/// Makes an unknown data set a fault of the query that names it.
///
/// # Errors
/// Returns the error of `found`.
pub fn of_query<T>(found: Result<T, OperationError>) -> Result<T, Problem> {
    found.map_err(|error| match &error {
        OperationError::UnknownDataset { .. } => {
            Problem::invalid_query(vec![Fault { pointer: "/dataset".to_owned(), detail: error.to_string() }])
        }
        _ => error.into(),
    })
}
