//! A visitor for any kind of JSON. Values that are not needed are skipped without allocating them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Parses any JSON and converts it with a [`Convert`].
pub struct Any<S>(pub S);

/// What [`Any`] converts arrays, objects, numbers, strings and other values to.
pub trait Convert: Sized {
    type Value;

    fn array<'de, A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.other("an array"))
    }
    fn object<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.other("an object"))
    }
    fn number(self, _: f64) -> Self::Value {
        self.other("a number")
    }
    fn string(self, _: &str) -> Self::Value {
        self.other("a string")
    }
    fn other(self, kind: &'static str) -> Self::Value;
}

impl<'de, S: Convert> DeserializeSeed<'de> for Any<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Convert> Visitor<'de> for Any<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<S::Value, A::Error> {
        self.0.array(seq)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S::Value, A::Error> {
        self.0.object(map)
    }
    fn visit_f64<E>(self, value: f64) -> Result<S::Value, E> {
        Ok(self.0.number(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<S::Value, E> {
        Ok(self.0.number(value as f64))
    }
    fn visit_i64<E>(self, value: i64) -> Result<S::Value, E> {
        Ok(self.0.number(value as f64))
    }
    fn visit_str<E>(self, value: &str) -> Result<S::Value, E> {
        Ok(self.0.string(value))
    }
    fn visit_bool<E>(self, _: bool) -> Result<S::Value, E> {
        Ok(self.0.other("a boolean"))
    }
    fn visit_unit<E>(self) -> Result<S::Value, E> {
        Ok(self.0.other("null"))
    }
}
