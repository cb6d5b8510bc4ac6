//! The lab: expressions, and single layers on a few numbers.

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::extract::{Json, NoParams, Params, PathWords, accepts, asked_for, invalid, path_text};
use super::{Problem, rendered};
use crate::app::App;
use crate::fields::nearest;
use crate::graph::Graph;
use crate::lab::{
    self, AffineRequest, ConvolutionRequest, Curve, CurveRequest, GraphRequest, Question, SoftmaxRequest,
};
use crate::nn::Activation;
use crate::service::Caller;

const SVG: &str = "image/svg+xml";
const DOT: &str = "text/vnd.graphviz";
pub const TEXT: &str = "text/plain";

/// What a client asks for rather than JSON.
pub fn answer_as(media_type: &'static str, body: impl IntoResponse) -> Response {
    let content_type = match media_type {
        SVG | "image/png" => media_type.to_owned(),
        text => format!("{text}; charset=utf-8"),
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// `POST /v1/graph`
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
        None => JsonResponse(graph).into_response(),
    };
    rendered(app.service().answer(&caller, question, render).await)
}

/// `POST /v1/affine`
pub async fn affine(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand(&app, &caller, request.read(AffineRequest::parse).await?).await
}

/// `POST /v1/convolution`
pub async fn convolution(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand(&app, &caller, request.read(ConvolutionRequest::parse).await?).await
}

/// `POST /v1/softmax-cross-entropy`
pub async fn softmax_cross_entropy(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand(&app, &caller, request.read(SoftmaxRequest::parse).await?).await
}

async fn by_hand<Q: Question>(app: &App, caller: &Caller, question: Q) -> Result<Response, Problem> {
    let render = |answer: Q::Answer| JsonResponse(answer).into_response();
    rendered(app.service().answer(caller, question, render).await)
}

/// The activations.
#[derive(Serialize)]
pub struct ActivationList {
    activations: Vec<lab::ActivationEntry>,
}

/// `GET /v1/activations`
pub async fn activations(Params(NoParams {}): Params<NoParams>) -> JsonResponse<ActivationList> {
    JsonResponse(ActivationList { activations: lab::activations() })
}

/// Query of [`activation`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveParams {
    from: Option<f64>,
    to: Option<f64>,
    points: Option<usize>,
}

/// `GET /v1/activations/{name}`
pub async fn activation(
    State(app): State<App>,
    caller: Caller,
    PathWords(name): PathWords<String>,
    Params(params): Params<CurveParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = path_text(&name);
    let names = Activation::ALL.map(Activation::name);
    let activation = Activation::ALL.into_iter().find(|activation| activation.name() == name);
    let activation = activation.ok_or_else(|| {
        let hint = match nearest(&name, &names) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("there are: {}", names.join(", ")),
        };
        Problem::not_found("unknown_activation", format!("there is no activation {name:?}, {hint}"))
    })?;
    let CurveParams { from, to, points } = params;
    let question = CurveRequest::new(activation, from, to, points).map_err(invalid)?;
    let render = move |curve: Curve| match accepts(&headers, SVG) {
        true => answer_as(SVG, curve.svg()),
        false => JsonResponse(curve).into_response(),
    };
    rendered(app.service().answer(&caller, question, render).await)
}
