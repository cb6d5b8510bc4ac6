use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use serde_json::Value;

pub use super::accept::{accepts, asked_for};
pub use super::path::{JobPath, ModelPath, PathWords, parse_job_id, path_text};
pub use super::query::{ListParams, NoParams, Page, Params, invalid};
use super::receive::{Body, Client, Held};
use super::{Problem, busy, worked};
use crate::admission::{Charge, Charged, Lane, Price, Stop};
use crate::app::App;
use crate::fields::{Fault, JsonError, json, json_price_of};

/// A body that is longer is read in the lane of texts.
const QUICK_BYTES_MAX: usize = 16 << 10;

/// A request that says in JSON what to do: small, beside images. Its memory is charged for as long as it lives.
pub struct Json {
    /// It.
    pub value: Arc<Charged<Value>>,
    /// The server, the client and the place of a long one.
    long: Option<(App, Client, Held)>,
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
            Some((app, client, held)) => {
                let read = worked(&app, client, Price::new(Lane::Text, 0), move |_| read());
                held.without(&app, client.peer, read).await.map(|(read, _)| read)
            }
        }
    }
}

impl FromRequest<App> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let client = Client::of(request.extensions());
        let held = request.extensions().get::<Held>().cloned().unwrap_or_default();
        let Ok(body) = Body::from_request(request, app).await;
        if body.bytes.is_empty() {
            return Err(Problem::malformed(
                "empty_body",
                "the body is empty; send a JSON object, {} at least",
            ));
        }
        if body.bytes.len() <= QUICK_BYTES_MAX {
            let charge = app.admission().charge(client.peer, json_price_of(&body.bytes)).map_err(busy)?;
            let value = json(&body.bytes).map_err(json_problem)?;
            return Ok(Self { value: Arc::new(Charged::new(value, charge)), long: None });
        }
        let (value, charge) = held.without(app, client.peer, long(app, client, body)).await?;
        Ok(Self { value: Arc::new(Charged::new(value, charge)), long: Some((app.clone(), client, held)) })
    }
}

/// Prices a long text, and then parses it, in the lane of texts.
///
/// # Errors
/// If it can't be parsed, or there is no room for it.
async fn long(app: &App, client: Client, body: Body) -> Result<(Value, Charge), Problem> {
    let priced = body.clone();
    let price = move |_: &Stop| Ok(json_price_of(&priced.bytes));
    let (price, _) = worked(app, client, Price::new(Lane::Text, 0), price).await?;
    let parse = move |_: &Stop| json(&body.bytes).map_err(json_problem);
    worked(app, client, Price::new(Lane::Text, price), parse).await
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
