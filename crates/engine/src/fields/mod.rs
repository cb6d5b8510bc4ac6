//! The fields of a request, taken one by one: every fault is told, with its place.

mod json;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use json::{BYTES_PER_BYTE_MAX, JsonError, is_out_of_range, json, json_price, json_price_of, token};

/// Unknown fields that are told one by one, of all that a request may hold.
const UNKNOWN_TOLD_MAX: usize = 20;

/// Characters of a client's word that are repeated to it.
const SHOWN_MAX: usize = 64;

/// One thing wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the field.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// `unknown dataset "mnits", did you mean "mnist"?`, or the list of what there is.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown = shown(name);
    match nearest(name, known) {
        Some(nearest) => format!("unknown {what} {shown:?}, did you mean {nearest:?}?"),
        None => format!("unknown {what} {shown:?}, there are: {}", known.join(", ")),
    }
}

/// The beginning of a client's word, to be repeated to it.
pub fn shown(word: &str) -> String {
    word.chars().take(SHOWN_MAX).collect()
}

/// The known name that `name` most likely stands for.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let short = shown(name).to_lowercase();
    // Of short words that differ in a letter, or in the order of two, Jaro and Winkler think too little.
    let is_slip = |known: &str| short.chars().count() > 2 && strsim::osa_distance(&short, known) == 1;
    let likeness =
        |known: &&str| strsim::jaro_winkler(&short, known).max(if is_slip(known) { 0.9 } else { 0.0 });
    let measured = known.iter().map(|known| (likeness(known), *known));
    let (likeness, best) = measured.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness > 0.8).then_some(best)
}

/// What a JSON value is, in words.
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

/// What `take` makes of the fields of a request.
///
/// # Errors
/// All faults that were noted meanwhile.
pub fn parsed<T>(request: &Value, take: impl FnOnce(Fields) -> Option<T>) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let taken = Fields::of(request, String::new(), &mut faults).and_then(take);
    match taken {
        Some(taken) if faults.is_empty() => Ok(taken),
        _ => Err(faults),
    }
}

/// An interval of finite numbers, open or closed at either end.
#[derive(Clone, Copy)]
pub struct Bounds {
    least: f64,
    least_included: bool,
    most: f64,
    most_included: bool,
}

impl Bounds {
    /// At least this, and at most what `f32` holds.
    pub const fn from(least: f64) -> Self {
        Self { least, least_included: true, most: f32::MAX as f64, most_included: true }
    }

    /// Above this, and at most what `f32` holds.
    pub fn above(least: f64) -> Self {
        Self { least_included: false, ..Self::from(least) }
    }

    /// The same up to this.
    pub const fn to(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// The same below this.
    pub fn below(self, most: f64) -> Self {
        Self { most, most_included: false, ..self }
    }

    fn hold(&self, value: f64) -> bool {
        (value > self.least || self.least_included && value == self.least)
            && (value < self.most || self.most_included && value == self.most)
    }

    fn describe(&self) -> String {
        let least = if self.least_included { "at least" } else { "above" };
        let most = if self.most_included { "at most" } else { "below" };
        format!("{least} {} and {most} {}", self.least, self.most)
    }
}

/// The fields of an object, taken one by one; every fault is noted with its pointer.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    /// Where faults are noted.
    pub faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which lies at `pointer`; where it is no object, a fault.
    pub fn of(value: &'a Value, pointer: String, faults: &'a mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, pointer, known: Vec::new(), faults }),
            other => {
                faults.push(Fault { pointer, detail: format!("must be an object, not {}", kind(other)) });
                None
            }
        }
    }

    /// The pointer of a field.
    pub fn pointer_of(&self, name: &str) -> String {
        if name.is_empty() { self.pointer.clone() } else { format!("{}/{name}", self.pointer) }
    }

    /// Notes a fault of a field, or of the object itself where `name` is empty.
    pub fn fault(&mut self, name: &str, detail: String) {
        let pointer = self.pointer_of(name);
        self.faults.push(Fault { pointer, detail });
    }

    /// The value, unless it is absent or null.
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

    /// The field as a string; a fault where it is absent.
    pub fn required_string(&mut self, name: &'static str) -> Option<String> {
        if self.take(name).is_none() {
            self.fault(name, "is missing".to_owned());
        }
        self.string(name)
    }

    /// The field as one of some words.
    pub fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let value = self.string(name)?;
        let choice = choices.iter().find(|(choice, _)| *choice == value).map(|(_, choice)| *choice);
        if choice.is_none() {
            let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.fault(name, unknown(name, &value, &known));
        }
        choice
    }

    /// The field as a whole number.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.whole(name, range, Value::as_u64)
    }

    /// The field as a whole number that may be below 0.
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
    pub fn number(&mut self, name: &'static str, bounds: Bounds) -> Option<f64> {
        let value = self.take(name)?;
        let number = value.as_f64().filter(|&number| bounds.hold(number));
        if number.is_none() {
            let found = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
            self.fault(name, format!("must be a number {}, not {found}", bounds.describe()));
        }
        number
    }

    /// The field as true or false.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if value.as_bool().is_none() {
            self.fault(name, format!("must be true or false, not {}", kind(value)));
        }
        value.as_bool()
    }

    /// Whether the field is there and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    /// The decays of Adam.
    pub fn betas(&mut self) -> Option<[f64; 2]> {
        let value = self.take("betas")?;
        let bounds = Bounds::from(0.0).below(1.0);
        let betas = value.as_array().and_then(|values| match values.as_slice() {
            [first, second] => Some([first.as_f64()?, second.as_f64()?]),
            _ => None,
        });
        let betas = betas.filter(|betas| betas.iter().all(|&beta| bounds.hold(beta)));
        if betas.is_none() {
            self.fault("betas", format!("must be two numbers, each {}", bounds.describe()));
        }
        betas
    }

    /// The field as an object.
    pub fn object(&mut self, name: &'static str) -> Option<Fields<'_>> {
        let value = self.take(name)?;
        Fields::of(value, self.pointer_of(name), self.faults)
    }

    /// Notes every field that was not asked for.
    pub fn refuse_unknown(&mut self) {
        let unknown = || self.map.keys().filter(|name| !self.known.contains(&name.as_str()));
        let more = unknown().count().saturating_sub(UNKNOWN_TOLD_MAX);
        for name in unknown().take(UNKNOWN_TOLD_MAX) {
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
