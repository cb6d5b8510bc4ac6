//! The HTTP API: routes, requests, responses. The only room that knows axum.
//!
//! A request passes through these steps: `observe` (its id, access checks, the log), the door of its route
//! (`receive`: the body, a place in a lane), its handler, and `deliver` (caching, compression, and the charge
//! until the response is sent).

mod accept;
mod card;
mod connections;
mod datasets;
mod deliver;
mod evaluation;
mod events;
mod exchange;
mod extract;
mod growing;
mod guard;
mod guests;
mod images;
mod inflate;
mod inside;
mod jobs;
mod lab;
mod models;
mod networks;
mod observe;
mod oip;
pub mod openapi;
mod operating;
mod path;
mod predict;
mod problem;
mod query;
mod receive;
mod socket;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};

pub use connections::serve;
pub use problem::Problem;

use self::deliver::Paid;
use self::observe::observe;
use self::receive::{Door, Takes, Works, enter};
use crate::admission::{Charge, Price, Stop};
use crate::app::App;
use crate::service::{Caller, OperationError};

/// Builds the router. The door of each route determines which bodies it accepts and in which lane it works.
pub fn router(app: App) -> Router {
    let door = |takes, works| {
        let door = Door { app: app.clone(), takes, works };
        move |handlers: MethodRouter<App>| handlers.layer(from_fn_with_state(door.clone(), enter))
    };
    let read = door(Takes::Nothing, Works::Short);
    let json = door(Takes::Json, Works::Short);
    let look = door(Takes::Nothing, Works::Priced);
    let work = door(Takes::Json, Works::Priced);
    let images = door(Takes::Images, Works::Priced);
    let tensors = door(Takes::Tensors, Works::Priced);
    let command = door(Takes::Command, Works::Priced);
    let network = door(Takes::Network, Works::Priced);
    Router::new()
        .route("/v1/jobs", json(post(jobs::create)).merge(look(get(jobs::list))))
        .route("/v1/jobs/{id}", read(delete(jobs::delete)).merge(read(get(jobs::show))))
        .route("/v1/jobs/{id}/metrics", read(get(jobs::metrics)))
        .route("/v1/jobs/{id}/events", read(get(events::events)))
        .route("/v1/jobs/{id}/cancel", read(post(jobs::cancel)))
        .route("/v1/jobs/{id}/resume", read(post(jobs::resume)))
        .route("/v1/jobs/{id}/checkpoints", read(get(jobs::checkpoints)))
        .route("/v1/jobs/{id}/checkpoints/{epoch}", look(get(jobs::checkpoint)))
        .route("/v1/networks", read(get(networks::list)))
        .route("/v1/networks/summary", work(post(networks::summary)))
        .route("/v1/gradient-check", work(post(networks::gradient_check)))
        .route("/v1/models", look(get(models::list)))
        .route("/v1/models/{ref}", read(delete(models::delete)).merge(look(get(models::show))))
        .route(
            "/v1/models/{ref}/aliases/{alias}",
            json(put(models::set_alias)).merge(read(delete(models::delete_alias))),
        )
        .route("/v1/models/{ref}/export", look(get(exchange::export)))
        .route("/v1/models/{ref}/versions", network(post(exchange::upload)))
        .route("/v1/models/{ref}/predict", images(post(predict::predict)))
        .route("/v1/models/{ref}/evaluate", work(post(evaluation::evaluate)))
        .route("/v1/models/{ref}/compare/{other}", look(get(evaluation::compare)))
        .route("/v1/models/{ref}/card", look(get(card::card)))
        .route("/v1/models/{ref}/explain", images(post(inside::explain)))
        .route("/v1/models/{ref}/trace", work(post(inside::trace)))
        .route("/v1/models/{ref}/microscope", work(post(inside::microscope)))
        .route("/v1/models/{ref}/layers/{name}/weights", look(get(inside::weights)))
        .route("/v1/datasets", read(get(datasets::list)))
        .route("/v1/datasets/{name}", read(get(datasets::show)))
        .route("/v1/datasets/{name}/{split}/{index}", read(get(datasets::example)))
        .route("/v1/graph", work(post(lab::graph)))
        .route("/v1/affine", work(post(lab::affine)))
        .route("/v1/convolution", work(post(lab::convolution)))
        .route("/v1/softmax-cross-entropy", work(post(lab::softmax_cross_entropy)))
        .route("/v1/activations", read(get(lab::activations)))
        .route("/v1/activations/{name}", look(get(lab::activation)))
        .route("/v2", read(get(oip::metadata)))
        .route("/v2/", read(get(oip::metadata_with_slash)))
        .route("/v2/models/stats", look(get(oip::statistics_of_all)))
        .route("/v2/models/{name}", look(get(oip::model)))
        .route("/v2/models/{name}/versions/{version}", look(get(oip::model)))
        .route("/v2/models/{name}/ready", read(get(oip::model_ready)))
        .route("/v2/models/{name}/versions/{version}/ready", read(get(oip::model_ready)))
        .route("/v2/models/{name}/infer", tensors(post(oip::infer)))
        .route("/v2/models/{name}/versions/{version}/infer", tensors(post(oip::infer)))
        .route("/v2/models/{name}/config", look(get(oip::config)))
        .route("/v2/models/{name}/versions/{version}/config", look(get(oip::config)))
        .route("/v2/models/{name}/stats", look(get(oip::statistics)))
        .route("/v2/models/{name}/versions/{version}/stats", look(get(oip::statistics)))
        .route("/v2/repository/index", command(post(oip::index)))
        .route("/v2/repository/models/{name}/load", command(post(oip::load)))
        .route("/v2/repository/models/{name}/unload", command(post(oip::unload)))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        // These serve operators, so they work even if other requests are refused.
        .route("/healthz", get(operating::healthz))
        .route("/readyz", get(operating::readyz))
        .route("/metrics", get(operating::metrics))
        .route("/openapi.json", get(operating::openapi))
        .route("/", read(get(operating::page)))
        .fallback(operating::not_found)
        .method_not_allowed_fallback(operating::method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Turns the result of an operation into a response that holds its charge.
///
/// # Errors
/// Returns the error of the operation.
fn rendered<T: IntoResponse, E: Into<Problem>>(answer: Result<(T, Charge), E>) -> Result<Response, Problem> {
    let (answer, charge) = answer.map_err(E::into)?;
    Ok(paid(charge, answer))
}

/// The result of work whose client is gone. Nobody reads it.
fn client_gone() -> Problem {
    OperationError::ClientGone.into()
}

/// Makes a response that holds `charge` until it is sent.
fn paid(charge: Charge, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Paid::new(charge));
    response
}

/// Does work of this price. Returns its result and the charge for its memory.
///
/// # Errors
/// Returns the error of `work`, 503 if there is no room for it, or 500 if it panics.
async fn worked<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    price: Price,
    work: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
) -> Result<(T, Charge), Problem> {
    app.service().work(caller, price, work).await
}

/// Does work of this price and makes its result the response, which holds the charge until it is sent.
///
/// # Errors
/// Returns the error of `work`, 503 if there is no room for it, or 500 if it panics.
async fn priced<T: IntoResponse>(
    app: &App,
    caller: &Caller,
    price: Price,
    work: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let work = move |stop: &Stop| work(stop).map(IntoResponse::into_response);
    let (response, charge) = worked(app, caller, price, work).await?;
    Ok(paid(charge, response))
}
