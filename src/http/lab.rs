//! The lab: expressions, and single layers on a few numbers.

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::extract::{Json, NoParams, Params, PathWords, accepts, asked_for, invalid, path_text};
use super::{Problem, rendered};
use crate::api::{self, Code};
use crate::app::App;
use crate::graph::Graph;
use crate::lab::{
    self, AffineRequest, ConvolutionRequest, Curve, CurveRequest, GraphRequest, Question, SoftmaxRequest,
};
use crate::service::Caller;

const SVG: &str = "image/svg+xml";
const DOT: &str = "text/vnd.graphviz";
pub const TEXT: &str = "text/plain";

/// Makes a response with a media type other than JSON.
pub fn answer_as(media_type: &'static str, body: impl IntoResponse) -> Response {
    let content_type = match media_type {
        SVG | "image/png" => media_type.to_owned(),
        text => format!("{text}; charset=utf-8"),
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Differentiates an expression, as JSON, text, SVG or DOT.
#[utoipa::path(
    post,
    path = "/v1/graph",
    operation_id = "graph",
    tag = "lab",
    request_body(content = api::GraphRequest, examples(
        ("board" = (summary = "as on a board", value = json!({"expression": "x = a + b; y = b + c; x*y", "inputs": {"a": -1, "b": 3, "c": 4}}))),
        ("neuron" = (summary = "a neuron", value = json!({"expression": "sigmoid(w0*x0 + w1*x1 + b)", "inputs": {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "b": -3}})))
    )),
    responses((status = 200, description = "The graph with its values and gradients, or a drawing of it.", content(
        (api::Graph = "application/json"), (String = "text/plain"), (String = "image/svg+xml"), (String = "text/vnd.graphviz")
    )))
)]
pub async fn graph(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let question = request.read(GraphRequest::parse).await?;
    let render = move |graph: Graph| match asked_for(&headers, &[SVG, DOT, TEXT]) {
        Some(SVG) => answer_as(SVG, graph.svg()),
        Some(DOT) => answer_as(DOT, graph.dot()),
        Some(_) => answer_as(TEXT, graph.text()),
        None => JsonResponse(api::Graph::from(graph)).into_response(),
    };
    rendered(app.service().answer(&caller, question, render).await)
}

/// Computes an affine layer on a few numbers, forward and backward.
#[utoipa::path(
    post,
    path = "/v1/affine",
    operation_id = "affine",
    tag = "lab",
    request_body(content = api::AffineRequest, examples(
        ("vector" = (summary = "one row, forward", value = json!({"x": [1, 2], "w": [[1, 3, 5], [2, 4, 6]]}))),
        ("batch" = (summary = "a batch, forward and backward", value = json!({
            "x": [[1, 2], [3, 4]], "w": [[1, 3, 5], [2, 4, 6]], "b": [1, 2, 3], "dy": [[1, 1, 1], [2, 2, 2]]
        })))
    )),
    responses((status = 200, description = "The output and the gradients of the layer.", body = api::Affine))
)]
pub async fn affine(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<_, api::Affine>(&app, &caller, request.read(AffineRequest::parse).await?).await
}

/// Computes a convolution on a few numbers, forward and backward.
#[utoipa::path(
    post,
    path = "/v1/convolution",
    operation_id = "convolution",
    tag = "lab",
    request_body(content = api::ConvolutionRequest, examples(
        ("image" = (summary = "one filter over a small image", value = json!({"input": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "filter": [[1, 0], [0, -1]]}))),
        ("padded" = (summary = "with padding, forward and backward", value = json!({
            "input": [[1, 2], [3, 4]], "filter": [[1, 0], [0, 1]], "bias": [0.5], "stride": 1, "padding": 1, "dy": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        }))),
        ("same" = (summary = "as large as the image", value = json!({"input": [[1, 2], [3, 4]], "filter": [[1]], "padding": "same"})))
    )),
    responses((status = 200, description = "The output and the gradients of the convolution.", body = api::Convolution))
)]
pub async fn convolution(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<_, api::Convolution>(&app, &caller, request.read(ConvolutionRequest::parse).await?).await
}

/// Computes the softmax of a few scores, a loss and its gradient.
#[utoipa::path(
    post,
    path = "/v1/softmax-cross-entropy",
    operation_id = "softmax_cross_entropy",
    tag = "lab",
    request_body(content = api::SoftmaxRequest, examples(
        ("class" = (summary = "one row", value = json!({"logits": [0.3, 2.9, 4.0], "target": 2}))),
        ("batch" = (summary = "a batch by mean squared error", value = json!({"logits": [[1, 2], [3, 0]], "target": [1, 0], "loss": "mean_squared_error"}))),
        ("smoothed" = (summary = "soft targets", value = json!({"logits": [1, 2], "target": [0.25, 0.75], "label_smoothing": 0.1})))
    )),
    responses((status = 200, description = "The probabilities, the loss and its gradient.", body = api::SoftmaxCrossEntropy))
)]
pub async fn softmax_cross_entropy(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<_, api::SoftmaxCrossEntropy>(&app, &caller, request.read(SoftmaxRequest::parse).await?).await
}

async fn by_hand<Q, A>(app: &App, caller: &Caller, question: Q) -> Result<Response, Problem>
where
    Q: Question,
    A: From<Q::Answer> + Serialize,
{
    let render = |answer: Q::Answer| JsonResponse(A::from(answer)).into_response();
    rendered(app.service().answer(caller, question, render).await)
}

/// Lists the activation functions.
#[utoipa::path(
    get,
    path = "/v1/activations",
    operation_id = "list_activations",
    tag = "lab",
    responses((status = 200, description = "The functions.", body = api::ActivationList))
)]
pub async fn activations(Params(NoParams {}): Params<NoParams>) -> JsonResponse<api::ActivationList> {
    let activations = lab::activations().into_iter().map(Into::into).collect();
    JsonResponse(api::ActivationList { activations })
}

/// Query of [`activation`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CurveParams {
    /// The left end of the interval.
    #[param(minimum = -1_000_000, maximum = 1_000_000, default = -6)]
    from: Option<f64>,
    /// The right end of the interval, above `from`.
    #[param(minimum = -1_000_000, maximum = 1_000_000, default = 6)]
    to: Option<f64>,
    /// Number of points of the curve.
    #[param(minimum = 2, maximum = 10_000, default = 200)]
    points: Option<usize>,
}

/// Shows the curve of an activation function with its derivative, as JSON or SVG.
#[utoipa::path(
    get,
    path = "/v1/activations/{name}",
    operation_id = "show_activation",
    tag = "lab",
    params(("name" = String, Path, description = "The name of a function in the list of `GET /v1/activations`."), CurveParams),
    responses((status = 200, description = "The curve, or a drawing of it.", content(
        (api::ActivationCurve = "application/json"), (String = "image/svg+xml")
    ))),
    extensions(("x-codes" = json!([Code::UnknownActivation, Code::InvalidRequest, Code::RequestTooLarge])))
)]
pub async fn activation(
    State(app): State<App>,
    caller: Caller,
    PathWords(name): PathWords<String>,
    Params(params): Params<CurveParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let activation = app.service().activation(&caller, &path_text(&name))?;
    let CurveParams { from, to, points } = params;
    let question = CurveRequest::new(activation, from, to, points).map_err(invalid)?;
    let render = move |curve: Curve| match accepts(&headers, SVG) {
        true => answer_as(SVG, curve.svg()),
        false => JsonResponse(api::ActivationCurve::from(curve)).into_response(),
    };
    rendered(app.service().answer(&caller, question, render).await)
}
