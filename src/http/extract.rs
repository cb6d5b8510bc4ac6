use axum::extract::{FromRequest, Request};
use serde_json::Value;
use tokio::runtime::Handle;

pub use super::accept::{accepts, asked_for};
pub use super::path::{JobParam, JobPath, ModelParam, ModelPath, PathWords, parse_job_id, path_text};
pub use super::query::{ListParams, NoParams, Page, Params, invalid};
use super::receive::{Body, HeldPlace, caller};
use super::{Problem, worked};
use crate::admission::{Charged, Lane, Price, Stop};
use crate::api::Code;
use crate::app::App;
use crate::fields::{Fault, JsonError, json, json_price};
use crate::registry::Model;
use crate::service::{Caller, Wanted};

/// JSON longer than this many bytes is parsed in the lane of texts.
const PARSED_AT_ONCE_BYTES_MAX: usize = 4 << 10;

/// A request in JSON.
pub struct Json(Text);

enum Text {
    /// A short body, which is parsed.
    Short(Charged<Value>),
    /// A long body, which is parsed later in the lane of texts.
    Long { body: Body, app: App, caller: Caller, held: HeldPlace },
}

impl Json {
    /// Converts the request with `read`.
    ///
    /// # Errors
    /// Returns the error of `read`. For a long body, also an error if it can't be parsed or there is no room
    /// for it.
    pub async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&Value) -> Result<T, Vec<Fault>> + Send + 'static,
    ) -> Result<T, Problem> {
        let read = move |value: &Value| read(value).map_err(Problem::invalid);
        match self.0 {
            Text::Short(value) => read(&value),
            Text::Long { body, app, caller, held } => {
                held.without(&app, &caller, read_long(&app, &caller, body, read)).await
            }
        }
    }

    /// Like [`read`](Self::read), with a model. A long request does not hold the model while it waits.
    ///
    /// # Errors
    /// See [`read`](Self::read) and [`Service::held`](crate::service::Service::held).
    pub async fn read_with<T: Send + 'static>(
        self,
        app: &App,
        wanted: &Wanted,
        read: impl FnOnce(&Value, &Model) -> Result<T, Vec<Fault>> + Send + 'static,
    ) -> Result<T, Problem> {
        match self.0 {
            Text::Short(value) => {
                let model = app.service().held(wanted).await?;
                read(&value, &model).map_err(Problem::invalid)
            }
            Text::Long { body, app, caller, .. } => {
                let (runtime, wanted, service) = (Handle::current(), wanted.clone(), app.service().clone());
                let read = move |value: &Value| {
                    let model = runtime.block_on(service.held(&wanted))?;
                    read(value, &model).map_err(Problem::invalid)
                };
                read_long(&app, &caller, body, read).await
            }
        }
    }

    /// Returns whether a short request has this field. The fields of a long request are known only after
    /// parsing.
    pub fn has_at_hand(&self, field: &str) -> bool {
        matches!(&self.0, Text::Short(value) if value.get(field).is_some())
    }
}

impl FromRequest<App> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let caller = caller(request.extensions());
        let held = request.extensions().get::<HeldPlace>().cloned().unwrap_or_default();
        let Ok(body) = Body::from_request(request, app).await;
        if body.bytes.is_empty() {
            return Err(Problem::new(Code::EmptyBody, "the body is empty; send a JSON object, {} at least"));
        }
        if body.bytes.len() > PARSED_AT_ONCE_BYTES_MAX {
            return Ok(Self(Text::Long { body, app: app.clone(), caller, held }));
        }
        let charge = app.admission().charge(caller.peer(), json_price(&body.bytes))?;
        let value = json(&body.bytes).map_err(json_problem)?;
        Ok(Self(Text::Short(Charged::new(value, charge))))
    }
}

/// Prices a long body in the lane of texts. Then parses and converts it there in one step, so that parsed
/// JSON never waits.
///
/// # Errors
/// Returns the error of `read`, or an error if the body can't be parsed or there is no room for it.
async fn read_long<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    body: Body,
    read: impl FnOnce(&Value) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let priced = body.clone();
    let price = move |_: &Stop| Ok(json_price(&priced.bytes));
    let (price, _) = worked(app, caller, Price::new(Lane::Text, 0), price).await?;
    let read = move |_: &Stop| {
        let value = json(&body.bytes).map_err(json_problem)?;
        read(&value)
    };
    Ok(worked(app, caller, Price::new(Lane::Text, price), read).await?.0)
}

/// 422 for a duplicate name or a number that does not fit an `f64`; 400 for a syntax error.
pub fn json_problem(error: JsonError) -> Problem {
    match error.into_fault() {
        Ok(fault) => Problem::invalid(vec![fault]),
        Err(error) => invalid_json(&error),
    }
}

/// 400 for a body that is not JSON.
pub fn invalid_json(error: &serde_json::Error) -> Problem {
    Problem::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
}
