use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use serde_json::Value;

pub use super::accept::{accepts, asked_for};
pub use super::path::{JobPath, ModelPath, PathWords, parse_job_id, path_text};
pub use super::query::{ListParams, NoParams, Page, Params, invalid};
use super::receive::{Body, Client};
use super::{Problem, busy, worked};
use crate::admission::{Charged, Lane, Price};
use crate::app::App;
use crate::fields::{Fault, JsonError, json, json_price_of};

/// A body that is longer is read in the lane of texts.
const QUICK_BYTES_MAX: usize = 16 << 10;

/// A request that says in JSON what to do: small, beside images. Its memory is charged for as long as it lives.
pub struct Json {
    /// It.
    pub value: Arc<Charged<Value>>,
    /// The server and the client of a long one.
    long: Option<(App, Client)>,
}

impl Json {
    /// What `read` makes of the request, which is dropped then.
    ///
    /// # Errors
    /// Those of `read`, and 503 if there is no place to read a long one.
    pub async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&Value) -> Result<T, Vec<Fault>> + Send + 'static,
    ) -> Result<T, Problem> {
        let Self { value, long } = self;
        let read = move || read(&value).map_err(Problem::invalid);
        match long {
            None => read(),
            Some((app, client)) => {
                worked(&app, client, Price::new(Lane::Text, 0), move |_| read()).await.map(|(read, _)| read)
            }
        }
    }
}

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
        let price = json_price_of(&body.bytes);
        let is_quick = body.bytes.len() <= QUICK_BYTES_MAX;
        let parse = move || json(&body.bytes).map_err(json_problem);
        let (value, charge, long) = if is_quick {
            let charge = app.admission().charge(client.peer, price).map_err(busy)?;
            (parse()?, charge, None)
        } else {
            let parsed = worked(app, client, Price::new(Lane::Text, price), move |_| parse());
            let (value, charge) = parsed.await?;
            (value, charge, Some((app.clone(), client)))
        };
        Ok(Self { value: Arc::new(Charged::new(value, charge)), long })
    }
}

/// 422 for JSON that says something twice, or what no `f64` holds; 400 for what is no JSON.
fn json_problem(error: JsonError) -> Problem {
    match error.into_fault() {
        Ok(fault) => Problem::invalid(vec![fault]),
        Err(error) => invalid_json(&error),
    }
}

/// 400 for a body that is not JSON.
pub fn invalid_json(error: &serde_json::Error) -> Problem {
    Problem::malformed("invalid_json", format!("the body is not JSON: {error}"))
}
