//! Query parameters, parsed like the fields of a body. Every fault is reported with the parameter's name.

#[cfg(test)]
mod tests;
mod value;

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use utoipa::IntoParams;

use self::value::{Faults, ParameterText};
use super::{Problem, client_gone, priced};
use crate::admission::{Lane, Price, Stop};
use crate::api::Code;
use crate::app::App;
use crate::fields::{Fault, as_printed, nearest, shown, token};
use crate::service::Caller;

/// The most faults of a query that are reported.
const FAULTS_MAX: usize = 8;

/// The query of a path that takes no parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// The parameters of a query as a `T`. All fields are optional.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        // This never fails: keys and values are strings, and invalid UTF-8 is replaced.
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs.map_err(|rejection| invalid(rejection.body_text()))?;
        read(&pairs).map(Self).map_err(Problem::invalid_query)
    }
}

/// 422 for an invalid value of a parameter.
pub fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidQuery, detail)
}

/// Parses the parameters into a `T`.
///
/// # Errors
/// Returns a fault for every parameter that is unknown, given twice or invalid.
fn read<T: DeserializeOwned>(pairs: &[(String, String)]) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        if faults.len() >= FAULTS_MAX {
            break;
        }
        if pairs[..index].iter().any(|(name, _)| *name == pair.0) {
            faults.push(fault(&pair.0, format!("parameter {:?} is given twice", shown(&pair.0))));
        } else if let Err(Faults(found)) = T::deserialize(Parameters(std::slice::from_ref(pair))) {
            faults.extend(found);
        }
    }
    if faults.is_empty() {
        T::deserialize(Parameters(pairs)).map_err(|Faults(faults)| faults)
    } else {
        Err(faults)
    }
}

/// Makes a fault of the parameter `name`.
fn fault(name: &str, detail: String) -> Fault {
    Fault { pointer: format!("/{}", token(name)), detail }
}

/// Deserialises the parameters of a query to a struct.
struct Parameters<'a>(&'a [(String, String)]);

impl<'de> Deserializer<'de> for Parameters<'de> {
    type Error = Faults;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        let pairs = self.0.iter().map(|(name, text)| (name.as_str(), ParameterText { name, text }));
        visitor.visit_map(MapDeserializer::new(pairs))
    }

    /// Refuses unknown parameters. A derived `deny_unknown_fields` would have another message.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Faults> {
        match self.0.iter().find(|(name, _)| !fields.contains(&name.as_str())) {
            Some((name, _)) => Err(Faults(vec![fault(name, unknown(name, fields))])),
            None => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn unknown(name: &str, fields: &[&str]) -> String {
    let hint = match nearest(name, fields) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None if fields.is_empty() => "there are none here".to_owned(),
        None => format!("there are: {}", fields.join(", ")),
    };
    format!("unknown parameter {:?}, {hint}", shown(name))
}

/// Query of a list that has no filter.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Number of rows on the page; by default 50, and 200 for epochs.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

impl ListParams {
    /// Returns the requested page, with 50 rows by default.
    ///
    /// # Errors
    /// Returns 422 for an invalid limit or cursor.
    pub fn page<C: FromStr + Display>(&self) -> Result<Page<C>, Problem> {
        self.page_or(ROWS_SHOWN)
    }

    /// Returns the requested page, with `limit` rows by default.
    ///
    /// # Errors
    /// Returns 422 for an invalid limit or cursor.
    pub fn page_or<C: FromStr + Display>(&self, limit: u32) -> Result<Page<C>, Problem> {
        Page::of(self.limit.or(Some(limit)), self.cursor.as_deref())
    }
}

/// The default number of rows of a page.
const ROWS_SHOWN: u32 = 50;

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page<C> {
    /// The most rows of the page.
    pub limit: u32,
    /// The row after which the page begins.
    pub cursor: Option<C>,
}

impl<C: FromStr + Display> Page<C> {
    /// Parses `limit` and `cursor`.
    ///
    /// # Errors
    /// Returns 422 if one of them is invalid.
    pub fn of(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(ROWS_SHOWN);
        if !(1..=200).contains(&limit) {
            return Err(invalid(format!("limit must be from 1 to 200, not {limit}")));
        }
        let cursor = cursor.map(|cursor| {
            as_printed(cursor).ok_or_else(|| {
                invalid(format!("cursor must be the next_cursor of a response, not {:?}", shown(cursor)))
            })
        });
        Ok(Self { limit, cursor: cursor.transpose()? })
    }

    /// Responds with the result of `read`, which reads or writes rows of at most `row_bytes` each in the lane
    /// of texts.
    ///
    /// # Errors
    /// Returns the error of `read`, or 503 if there is no room for the rows.
    pub async fn answer<T: IntoResponse + Send + 'static>(
        &self,
        app: &App,
        caller: &Caller,
        row_bytes: usize,
        read: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let runtime = tokio::runtime::Handle::current();
        let price = Price::new(Lane::Text, self.limit as usize * row_bytes);
        let read = move |stop: &Stop| {
            runtime.block_on(async {
                tokio::select! {
                    read = read => read,
                    () = stop.set() => Err(client_gone()),
                }
            })
        };
        priced(app, caller, price, read).await
    }
}
