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

/// Bytes that a byte of JSON can become, at most.
const JSON_PRICE: usize = 100;

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
        let charge = app.admission().charge(client.peer, JSON_PRICE * body.bytes.len()).map_err(busy)?;
        let value = match body.bytes.len() {
            ..=QUICK_BYTES_MAX => {
                serde_json::from_slice(&body.bytes).map_err(|error| invalid_json(&error))?
            }
            _ => {
                blocking(move || serde_json::from_slice(&body.bytes).map_err(|error| invalid_json(&error)))
                    .await?
            }
        };
        Ok(Self(Arc::new(Charged::new(value, charge))))
    }
}

/// 400 for a body that is not JSON.
pub fn invalid_json(error: &serde_json::Error) -> Problem {
    Problem::malformed("invalid_json", format!("the body is not JSON: {error}"))
}
