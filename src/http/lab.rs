//! The lab: expressions, and single layers on a few numbers.

use std::collections::BTreeMap;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::{Json, NoParams, Params, PathWords, accepts, asked_for, invalid, path_text};
use super::{Problem, priced};
use crate::admission::{Lane, Price};
use crate::app::App;
use crate::fields::{Fault, kind, nearest, parsed, token};
use crate::graph::{self, Bounds, GraphError, Place};
use crate::lab::{self, AnswerCost, Question};
use crate::nn::Activation;
use crate::service::Caller;

const SVG: &str = "image/svg+xml";
const DOT: &str = "text/vnd.graphviz";
const TEXT: &str = "text/plain";

/// Times that a text is held while it is written: in a buffer that grows to twice its size, beside the one before.
const TEXT_COPIES: f64 = 3.0;

/// The price of an answer of the lab.
///
/// # Errors
/// 422 with the estimate if it is beyond what the server gives.
pub fn lab_price(app: &App, cost: AnswerCost) -> Result<Price, Problem> {
    app.config().limits.lab().check(cost).map_err(Problem::invalid)?;
    Ok(Price::new(Lane::Lab, cost.memory_bytes.max(cost.answer_bytes) as usize))
}

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
    let (expression, inputs) = request.read(expression).await?;
    // One that is too long is refused without being read.
    let is_read = expression.chars().count() <= graph::EXPRESSION_CHARS_MAX;
    let read = if is_read { expression.as_str() } else { "" };
    let Bounds { operations, held_bytes, answer_bytes } = Bounds::of(read, &inputs);
    let cost =
        AnswerCost { flops: operations, memory_bytes: held_bytes + TEXT_COPIES * answer_bytes, answer_bytes };
    let price = lab_price(&app, cost)?;
    let answer = priced(&app, &caller, price, move |_| {
        let graph = graph::differentiate(&expression, &inputs)
            .map_err(|errors| Problem::invalid(errors.iter().map(graph_fault).collect()))?;
        Ok(match asked_for(&headers, &[SVG, DOT, TEXT]) {
            Some(SVG) => answer_as(SVG, graph.svg()),
            Some(DOT) => answer_as(DOT, graph.dot()),
            Some(_) => answer_as(TEXT, graph.text()),
            None => JsonResponse(graph).into_response(),
        })
    });
    answer.await
}

fn expression(request: &Value) -> Result<(String, BTreeMap<String, f64>), Vec<Fault>> {
    parsed(request, |mut fields| {
        let expression = fields.required_string("expression");
        let mut inputs = BTreeMap::new();
        match fields.take("inputs") {
            None => {}
            Some(Value::Object(values)) => {
                for (name, value) in values {
                    match value.as_f64() {
                        Some(number) => {
                            inputs.insert(name.clone(), number);
                        }
                        None => fields
                            .fault(&pointer_token(name), format!("must be a number, not {}", kind(value))),
                    }
                }
            }
            Some(other) => {
                let detail = format!("must be an object of names and numbers, not {}", kind(other));
                fields.fault("inputs", detail);
            }
        }
        fields.refuse_unknown();
        Some((expression?, inputs))
    })
}

fn pointer_token(input: &str) -> String {
    format!("inputs/{}", token(input))
}

fn graph_fault(error: &GraphError) -> Fault {
    match &error.place {
        Place::Column(column) => {
            Fault { pointer: "/expression".to_owned(), detail: format!("column {column}: {}", error.detail) }
        }
        Place::Input(name) => {
            Fault { pointer: format!("/{}", pointer_token(name)), detail: error.detail.clone() }
        }
    }
}

/// `POST /v1/affine`
pub async fn affine(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<lab::AffineRequest>(&app, &caller, request).await
}

/// `POST /v1/convolution`
pub async fn convolution(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<lab::ConvolutionRequest>(&app, &caller, request).await
}

/// `POST /v1/softmax-cross-entropy`
pub async fn softmax_cross_entropy(
    State(app): State<App>,
    caller: Caller,
    Params(NoParams {}): Params<NoParams>,
    request: Json,
) -> Result<Response, Problem> {
    by_hand::<lab::SoftmaxRequest>(&app, &caller, request).await
}

async fn by_hand<Q: Question>(app: &App, caller: &Caller, request: Json) -> Result<Response, Problem> {
    let question = request.read(Q::parse).await?;
    let price = lab_price(app, question.cost())?;
    priced(app, caller, price, move |_| question.answer().map(JsonResponse).map_err(Problem::invalid)).await
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

/// Points of a curve, and the largest number on it.
const POINTS_MAX: usize = 10_000;
const REACH_MAX: f64 = 1e6;

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
    let (from, to) = (params.from.unwrap_or(-6.0), params.to.unwrap_or(6.0));
    let points = params.points.unwrap_or(200);
    let is_number = |x: f64| x.abs() <= REACH_MAX;
    if !(is_number(from) && is_number(to) && from < to) {
        return Err(invalid(format!(
            "from must be below to, both from -{REACH_MAX} to {REACH_MAX}: {from} and {to}"
        )));
    }
    if !(2..=POINTS_MAX).contains(&points) {
        return Err(invalid(format!("points must be from 2 to {POINTS_MAX}, not {points}")));
    }
    let price = lab_price(&app, lab::Curve::cost(points))?;
    let answer = priced(&app, &caller, price, move |_| {
        let curve = lab::Curve::new(activation, from, to, points);
        Ok(match accepts(&headers, SVG) {
            true => answer_as(SVG, curve.svg()),
            false => JsonResponse(curve).into_response(),
        })
    });
    answer.await
}
