//! Reads the fields of a JSON request one by one. Every error is reported with its JSON pointer.

mod json;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use json::{JsonError, is_out_of_range, json, json_price, token};

/// Largest number of unknown fields of an object that are reported one by one. The rest are counted.
const UNKNOWN_LISTED_MAX: usize = 20;

/// Largest number of characters of the client's text that a message repeats.
const SHOWN_MAX: usize = 64;

/// One error in a request, and its location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field.
    pub pointer: String,
    /// The reason, as a phrase in lower case.
    pub detail: String,
}

/// A message such as `unknown dataset "mnits", did you mean "mnist"?`. Lists the known names if none is
/// similar.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown = shown(name);
    match nearest(name, known) {
        Some(nearest) => format!("unknown {what} {shown:?}, did you mean {nearest:?}?"),
        None => format!("unknown {what} {shown:?}, there are: {}", known.join(", ")),
    }
}

/// The beginning of the client's text, for a message.
pub fn shown(word: &str) -> String {
    word.chars().take(SHOWN_MAX).collect()
}

/// Parses a text that is exactly the printed form of its value. A number with a `+` or a leading zero gives `None`, so each
/// value has one spelling.
pub fn as_printed<T: FromStr + Display>(text: &str) -> Option<T> {
    text.parse().ok().filter(|value: &T| value.to_string() == text)
}

/// The known name most similar to `name`, or `None` if none is similar enough.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let short = shown(name).to_lowercase();
    // Jaro-Winkler rates short words with one typo too low.
    let is_typo = |known: &str| short.chars().count() > 2 && strsim::osa_distance(&short, known) == 1;
    let similarity =
        |known: &&str| strsim::jaro_winkler(&short, known).max(if is_typo(known) { 0.9 } else { 0.0 });
    let measured = known.iter().map(|known| (similarity(known), *known));
    let (similarity, best) = measured.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (similarity > 0.8).then_some(best)
}

/// The type of a JSON value, with its article.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Parses the fields of a request with `take`.
///
/// # Errors
/// Every fault that `take` reported.
pub fn parsed<T>(request: &Value, take: impl FnOnce(Fields) -> Option<T>) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let taken = Fields::of(request, String::new(), &mut faults).and_then(take);
    match taken {
        Some(taken) if faults.is_empty() => Ok(taken),
        _ => Err(faults),
    }
}

/// An interval of finite numbers that may be open or closed at either end.
#[derive(Clone, Copy)]
pub struct Interval {
    least: f64,
    least_included: bool,
    most: f64,
    most_included: bool,
}

impl Interval {
    /// Numbers of at least `least` that fit an `f32`.
    pub const fn from(least: f64) -> Self {
        Self { least, least_included: true, most: f32::MAX as f64, most_included: true }
    }

    /// Numbers above `least` that fit an `f32`.
    pub fn above(least: f64) -> Self {
        Self { least_included: false, ..Self::from(least) }
    }

    /// The same interval, but at most `most`.
    pub const fn to(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// The same interval, but below `most`.
    pub fn below(self, most: f64) -> Self {
        Self { most, most_included: false, ..self }
    }

    fn contains(&self, value: f64) -> bool {
        (value > self.least || self.least_included && value == self.least)
            && (value < self.most || self.most_included && value == self.most)
    }

    fn describe(&self) -> String {
        let least = if self.least_included { "at least" } else { "above" };
        let most = if self.most_included { "at most" } else { "below" };
        format!("{least} {} and {most} {}", self.least, self.most)
    }
}

/// The fields of an object. They are read one by one, and every fault is collected.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    /// The faults found so far, each with its pointer.
    pub faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which is at `pointer` in the request. Reports a fault if it is not an object.
    pub fn of(value: &'a Value, pointer: String, faults: &'a mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, pointer, known: Vec::new(), faults }),
            other => {
                faults.push(Fault { pointer, detail: format!("must be an object, not {}", kind(other)) });
                None
            }
        }
    }

    /// JSON pointer of a field. An empty name means the object itself.
    pub fn pointer_of(&self, name: &str) -> String {
        if name.is_empty() { self.pointer.clone() } else { format!("{}/{name}", self.pointer) }
    }

    /// Reports a fault of a field. An empty name means the object itself.
    pub fn fault(&mut self, name: &str, detail: String) {
        let pointer = self.pointer_of(name);
        self.faults.push(Fault { pointer, detail });
    }

    /// The value of a field. `None` if it is absent or null.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The field as a string.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(value) => Some(value.clone()),
            other => {
                self.fault(name, format!("must be a string, not {}", kind(other)));
                None
            }
        }
    }

    /// The field as a string. Reports a fault if it is absent.
    pub fn required_string(&mut self, name: &'static str) -> Option<String> {
        if self.take(name).is_none() {
            self.fault(name, "is missing".to_owned());
        }
        self.string(name)
    }

    /// The field as one of the given words.
    pub fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.string(name)?;
        let choice = choices.iter().find(|(choice, _)| *choice == value).map(|(_, choice)| *choice);
        if choice.is_none() {
            let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.fault(name, unknown(name, &value, &known));
        }
        choice
    }

    /// The field as a nonnegative integer.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.whole(name, range, Value::as_u64)
    }

    /// The field as an integer.
    pub fn signed(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        self.whole(name, range, Value::as_i64)
    }

    fn whole<T: PartialOrd + std::fmt::Display>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<T>,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let integer = read(value).filter(|integer| range.contains(integer));
        if integer.is_none() {
            let (least, most) = range.into_inner();
            let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
            self.fault(name, format!("must be a whole number from {least} to {most}, not {found}"));
        }
        integer
    }

    /// The field as a number.
    pub fn number(&mut self, name: &'static str, interval: Interval) -> Option<f64> {
        let value = self.take(name)?;
        let number = value.as_f64().filter(|&number| interval.contains(number));
        if number.is_none() {
            let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
            self.fault(name, format!("must be a number {}, not {found}", interval.describe()));
        }
        number
    }

    /// The field as a boolean.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if value.as_bool().is_none() {
            self.fault(name, format!("must be true or false, not {}", kind(value)));
        }
        value.as_bool()
    }

    /// Whether the field is present and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    /// The field `betas`, the decay rates of Adam.
    pub fn betas(&mut self) -> Option<[f64; 2]> {
        let value = self.take("betas")?;
        let interval = Interval::from(0.0).below(1.0);
        let betas = value.as_array().and_then(|values| match values.as_slice() {
            [first, second] => Some([first.as_f64()?, second.as_f64()?]),
            _ => None,
        });
        let betas = betas.filter(|betas| betas.iter().all(|&beta| interval.contains(beta)));
        if betas.is_none() {
            self.fault("betas", format!("must be two numbers, each {}", interval.describe()));
        }
        betas
    }

    /// The field as an object.
    pub fn object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        let value = self.take(name)?;
        Fields::of(value, self.pointer_of(name), self.faults)
    }

    /// Reports every field that has not been read.
    pub fn refuse_unknown(&mut self) {
        let unknown = || self.map.keys().filter(|name| !self.known.contains(&name.as_str()));
        let more = unknown().count().saturating_sub(UNKNOWN_LISTED_MAX);
        for name in unknown().take(UNKNOWN_LISTED_MAX) {
            let detail = match nearest(name, &self.known) {
                Some(nearest) => format!("unknown field, did you mean {nearest:?}?"),
                None => format!("unknown field, there are: {}", self.known.join(", ")),
            };
            self.faults.push(Fault { pointer: format!("{}/{}", self.pointer, token(name)), detail });
        }
        if more > 0 {
            self.faults
                .push(Fault { pointer: self.pointer.clone(), detail: format!("{more} more unknown fields") });
        }
    }
}
