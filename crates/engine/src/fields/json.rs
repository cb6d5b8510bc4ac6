//! Strict JSON (RFC 8259): what `serde_json` accepts, except for anything that it would silently drop.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Fault, shown};

/// Bytes of the tree node that an object allocates for its first fields.
const OBJECT_BYTES: usize = 640;

/// Upper bound of the bytes per field: a slot in a tree node, which is half full after a split.
const FIELD_BYTES: usize = 128;

/// Upper bound of the bytes per array element: its slot in the old buffer, and in the new one of twice the
/// size while the array grows.
const ELEMENT_BYTES: usize = 96;

/// The reason why a text is not accepted as the JSON of a request.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// An object has two fields with the same name. Parsers differ in which one they use.
    #[error("{pointer}: is given twice")]
    Duplicate {
        /// JSON pointer (RFC 6901) of the second field.
        pointer: String,
    },
    /// A number is too large for an `f64`.
    #[error("{pointer}: {}", out_of_range(*line, *column))]
    OutOfRange {
        /// JSON pointer (RFC 6901) of the number.
        pointer: String,
        /// Line in the text, starting at 1.
        line: usize,
        /// Byte in the line, starting at 1.
        column: usize,
    },
    /// The text is not JSON, or is nested more than 127 levels deep.
    #[error(transparent)]
    Malformed(serde_json::Error),
}

impl JsonError {
    /// The fault, if the text is JSON.
    ///
    /// # Errors
    /// The error of `serde_json`, if it is not.
    pub fn into_fault(self) -> Result<Fault, serde_json::Error> {
        match self {
            Self::Duplicate { pointer } => Ok(Fault { pointer, detail: "is given twice".to_owned() }),
            Self::OutOfRange { pointer, line, column } => {
                Ok(Fault { pointer, detail: out_of_range(line, column) })
            }
            Self::Malformed(error) => Err(error),
        }
    }
}

fn out_of_range(line: usize, column: usize) -> String {
    format!("the number at line {line} column {column} is beyond what a 64-bit float holds")
}

/// Upper bound of the bytes that [`json`] allocates for this text. It counts the characters that can start an
/// object, a field or an element.
pub fn json_price(body: &[u8]) -> usize {
    let (mut objects, mut fields, mut elements) = (0, 0, 1);
    for byte in body {
        match byte {
            b'{' => objects += 1,
            b':' => fields += 1,
            b'[' | b',' => elements += 1,
            _ => {}
        }
    }
    // Four times the text covers strings, including a buffer that grows while one is unescaped.
    4 * body.len() + OBJECT_BYTES * objects + FIELD_BYTES * fields + ELEMENT_BYTES * elements
}

/// Parses the JSON value of a request. Names must be unique within an object, and numbers must fit an `f64`.
/// A number too close to 0 becomes 0.
///
/// # Errors
/// If the text is not JSON or breaks one of these rules.
pub fn json(body: &[u8]) -> Result<Value, JsonError> {
    let mut trail = PointerTrail::default();
    let mut text = serde_json::Deserializer::from_slice(body);
    let value = Strict(&mut trail).deserialize(&mut text);
    value.and_then(|value| text.end().map(|()| value)).map_err(|error| trail.error(error))
}

/// Whether parsing stopped at a number that is too large for an `f64`.
pub fn is_out_of_range(error: &serde_json::Error) -> bool {
    // The kind of the error is private. This is the text of `ErrorCode::NumberOutOfRange`.
    error.is_syntax() && error.to_string().starts_with("number out of range")
}

/// A name as a token of a JSON pointer, cut to the length that a message repeats.
pub fn token(name: &str) -> String {
    shown(name).replace('~', "~0").replace('/', "~1")
}

/// The location of an error, collected while the recursion unwinds.
#[derive(Default)]
struct PointerTrail {
    is_duplicate: bool,
    /// The tokens of the JSON pointer, in reverse order.
    tokens: Vec<String>,
}

impl PointerTrail {
    fn error(self, error: serde_json::Error) -> JsonError {
        let pointer = self.tokens.iter().rev().map(|token| format!("/{token}")).collect();
        if self.is_duplicate {
            JsonError::Duplicate { pointer }
        } else if is_out_of_range(&error) {
            JsonError::OutOfRange { pointer, line: error.line(), column: error.column() }
        } else {
            JsonError::Malformed(error)
        }
    }
}

struct Strict<'a>(&'a mut PointerTrail);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            match seq.next_element_seed(Strict(&mut *self.0)) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    self.0.tokens.push(values.len().to_string());
                    return Err(error);
                }
            }
        }
        values.shrink_to_fit();
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                self.0.is_duplicate = true;
                self.0.tokens.push(token(&name));
                return Err(A::Error::custom("a name is given twice"));
            }
            match map.next_value_seed(Strict(&mut *self.0)) {
                Ok(value) => fields.insert(name, value),
                Err(error) => {
                    self.0.tokens.push(token(&name));
                    return Err(error);
                }
            };
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> (String, String) {
        let fault = json(text.as_bytes()).unwrap_err().into_fault().unwrap();
        (fault.pointer, fault.detail)
    }

    #[test]
    fn a_duplicate_name_is_reported_with_its_pointer() {
        for (text, pointer) in [
            (r#"{"epochs":3,"epochs":4}"#, "/epochs"),
            (r#"{"epochs":3,"epoch\u0073":3}"#, "/epochs"),
            (r#"{"":{"":0,"":0}}"#, "//"),
            (r#"[0,{"a/b":[{"~":{},"~":0}]}]"#, "/1/a~1b/0/~0"),
        ] {
            assert_eq!(fault(text), (pointer.to_owned(), "is given twice".to_owned()), "{text}");
        }
        let long = format!(r#"{{"{0}":0,"{0}":0}}"#, "x".repeat(100_000));
        assert_eq!(fault(&long).0.len(), 65);
    }

    #[test]
    fn a_number_beyond_f64_is_reported_with_its_pointer() {
        let detail = "the number at line 2 column 17 is beyond what a 64-bit float holds";
        let text = "{\n\"layers\":[1,1e309]}";
        assert_eq!(fault(text), ("/layers/1".to_owned(), detail.to_owned()));
        assert_eq!(fault("-1e309").0, "");
        assert_eq!(fault(&"9".repeat(400)).0, "");
        assert_eq!(json(b"[1e308,1e-400]").unwrap(), serde_json::json!([1e308, 0.0]));
    }

    #[test]
    fn what_is_not_json_gives_the_error_of_serde_json() {
        let deep = "[".repeat(200);
        for text in ["", "{", "nul", "[1,]", "{\"a\":NaN}", "[1] 2", "01", "\"\u{1}\"", "\"\\ud800\"", &deep]
        {
            let expected = serde_json::from_str::<Value>(text).unwrap_err().to_string();
            match json(text.as_bytes()) {
                Err(JsonError::Malformed(error)) => assert_eq!(error.to_string(), expected),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(json(b"\"\xff\""), Err(JsonError::Malformed(_))));
        assert!(json(format!("{0}{1}", "[".repeat(127), "]".repeat(127)).as_bytes()).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_without_duplicates_is_parsed_as_by_serde_json(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(json(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }

        #[test]
        fn any_bytes_are_accepted_or_refused_as_by_serde_json(text in r#"[\[\]{}:,"a0-9eE.\\tn u-]{0,24}"#) {
            let expected = serde_json::from_str::<Value>(&text);
            match (json(text.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected),
                (Err(JsonError::Duplicate { .. }), _) => {}
                (Err(JsonError::OutOfRange { .. }), Err(expected)) => prop_assert!(is_out_of_range(&expected)),
                (Err(JsonError::Malformed(found)), Err(expected)) => {
                    prop_assert_eq!(found.to_string(), expected.to_string());
                }
                (found, expected) => prop_assert!(false, "{:?} {:?}", found, expected),
            }
        }
    }
}
