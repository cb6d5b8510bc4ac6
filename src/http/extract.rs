use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use serde_json::Value;

pub use super::accept::{accepts, asked_for};
pub use super::path::{JobPath, ModelPath, PathWords, parse_job_id, path_text};
pub use super::query::{ListParams, NoParams, Page, Params};
use super::receive::{Body, Client};
use super::{Problem, blocking, busy};
use crate::admission::Charged;
use crate::app::App;
use crate::fields::{Fault, JsonError, is_out_of_range, json, json_price_of};

/// A body that is longer is parsed where it holds up nobody.
const QUICK_BYTES_MAX: usize = 16 << 10;

/// A request that says in JSON what to do: small, beside images. Its memory is charged for as long as it lives.
pub struct Json(pub Arc<Charged<Value>>);

impl FromRequest<App> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let client = Client::of(request.extensions());
        let Ok(body) = Body::from_request(request, app).await;
        if body.bytes.is_empty() {
            return Err(Problem::malformed(
                "empty_body",
                "the body is empty; send a JSON object, {} at least",
            ));
        }
        let charge = app.admission().charge(client.peer, json_price_of(&body.bytes)).map_err(busy)?;
        let value = match body.bytes.len() {
            ..=QUICK_BYTES_MAX => json(&body.bytes).map_err(json_problem)?,
            _ => blocking(move || json(&body.bytes).map_err(json_problem)).await?,
        };
        Ok(Self(Arc::new(Charged::new(value, charge))))
    }
}

/// 422 for JSON that says something twice, or what no `f64` holds; 400 for what is no JSON.
fn json_problem(error: JsonError) -> Problem {
    match error.into_fault() {
        Ok(fault) => Problem::invalid(vec![fault]),
        Err(error) => invalid_json(&error),
    }
}

/// 400 for a body that is not JSON, 422 for one with a number that no `f64` holds.
pub fn invalid_json(error: &serde_json::Error) -> Problem {
    if is_out_of_range(error) {
        let (line, column) = (error.line(), error.column());
        let detail = format!("the number at line {line} column {column} is beyond what a 64-bit float holds");
        return Problem::invalid(vec![Fault { pointer: String::new(), detail }]);
    }
    Problem::malformed("invalid_json", format!("the body is not JSON: {error}"))
}
