//! The OpenAPI document. It is generated from the handlers, and completed with what is common to all
//! routes.

mod complete;
mod inference;

use std::sync::LazyLock;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;
use utoipa::OpenApi;

use super::accept::{Coding, accepts_gzip, etag_matches};
use super::deliver::{Sealed, Streamed, seal};
use super::{
    card, datasets, evaluation, events, exchange, inside, jobs, lab, models, networks, oip, operating,
    predict,
};
use crate::api;

/// The description of the API as a whole.
const ABOUT: &str = include_str!("about.md");

#[derive(OpenApi)]
#[openapi(
    info(
        title = "chainrule",
        description = ABOUT,
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    paths(
        jobs::create,
        jobs::list,
        jobs::show,
        jobs::delete,
        jobs::metrics,
        events::events,
        jobs::cancel,
        jobs::resume,
        jobs::checkpoints,
        jobs::checkpoint,
        networks::list,
        networks::summary,
        networks::gradient_check,
        models::list,
        models::show,
        models::delete,
        models::set_alias,
        models::delete_alias,
        exchange::export,
        exchange::upload,
        predict::predict,
        evaluation::evaluate,
        evaluation::compare,
        card::card,
        inside::explain,
        inside::trace,
        inside::microscope,
        inside::weights,
        datasets::list,
        datasets::show,
        datasets::example,
        lab::graph,
        lab::affine,
        lab::convolution,
        lab::softmax_cross_entropy,
        lab::activations,
        lab::activation,
        oip::metadata,
        oip::metadata_with_slash,
        oip::live,
        oip::ready,
        oip::model,
        oip::model_ready,
        oip::infer,
        oip::config,
        oip::statistics,
        oip::statistics_of_all,
        oip::index,
        oip::load,
        oip::unload,
        operating::healthz,
        operating::readyz,
        operating::metrics,
        operating::openapi,
        operating::page
    ),
    components(schemas(api::Code, api::Problem, api::InferenceError, api::StateEvent, api::Epoch, api::Progress)),
    tags(
        (name = "jobs", description = "Training jobs."),
        (name = "networks", description = "Networks before they are trained."),
        (name = "models", description = "Published models: their versions, aliases and predictions, and what happens inside them."),
        (name = "datasets", description = "Data sets."),
        (name = "lab", description = "The chain rule and single layers on a few numbers."),
        (name = "inference", description = "The Open Inference Protocol v2. Errors are an `InferenceError`. In place of a version, an alias can be given. Query parameters are ignored."),
        (name = "operating", description = "For operators. These requests do not wait in a lane.")
    )
)]
struct Documented;

/// Returns the document.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let made = serde_json::to_value(Documented::openapi());
        complete::complete(inference::with_versions(made.expect("a document is JSON")))
    });
    &DOCUMENT
}

/// The bytes of the document, plain and compressed.
struct Sent {
    plain: Sealed,
    packed: Sealed,
}

static SENT: LazyLock<Sent> = LazyLock::new(|| {
    let text = Bytes::from(document().to_string());
    Sent { plain: seal(text.clone(), None, true), packed: seal(text, Some(Coding::Gzip), true) }
});

/// Responds to a request for the document. The bytes are static, so the request is charged nothing and
/// waits for nothing.
pub fn answer(headers: &HeaderMap) -> Response {
    let Sealed { bytes, coding, tag } = if accepts_gzip(headers) { &SENT.packed } else { &SENT.plain };
    let tag = tag.clone().unwrap_or_else(|| HeaderValue::from_static("\"0\""));
    let is_known = tag.to_str().is_ok_and(|tag| etag_matches(headers, tag));
    let mut response = match is_known {
        true => (StatusCode::NOT_MODIFIED, Extension(Streamed)).into_response(),
        false => (Extension(Streamed), Body::from(bytes.clone())).into_response(),
    };
    let head = response.headers_mut();
    head.insert(header::ETAG, tag);
    if !is_known {
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(coding) = coding.filter(|_| !is_known) {
        head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}
