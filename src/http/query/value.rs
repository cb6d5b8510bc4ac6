use std::fmt::Display;
use std::str::FromStr;

use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use super::fault;
use crate::fields::{self, Fault, as_printed, shown};

/// The faults of a query.
#[derive(Debug)]
pub struct Faults(pub Vec<Fault>);

impl Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let details: Vec<&str> = self.0.iter().map(|fault| fault.detail.as_str()).collect();
        f.write_str(&details.join("; "))
    }
}

impl std::error::Error for Faults {}

impl de::Error for Faults {
    fn custom<T: Display>(detail: T) -> Self {
        Self(vec![Fault { pointer: String::new(), detail: detail.to_string() }])
    }
}

/// The value of a parameter.
pub struct ParameterText<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl ParameterText<'_> {
    /// Makes the fault that the value is not `what`.
    fn must_be(&self, what: impl Display) -> Faults {
        Faults(vec![fault(self.name, format!("{} must be {what}, not {:?}", self.name, shown(self.text)))])
    }

    fn whole<T: FromStr + Display>(&self, least: T, most: T) -> Result<T, Faults> {
        as_printed(self.text).ok_or_else(|| {
            if as_printed::<i128>(self.text).is_some() {
                self.must_be(format!("from {least} to {most}"))
            } else {
                self.must_be("a whole number")
            }
        })
    }

    fn number(&self) -> Result<f64, Faults> {
        let number = self.text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.must_be("a number"))
    }
}

impl<'de> IntoDeserializer<'de, Faults> for ParameterText<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Defines methods that parse whole numbers of a type.
macro_rules! whole {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
            visitor.$visit(self.whole(<$type>::MIN, <$type>::MAX)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for ParameterText<'de> {
    type Error = Faults;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        let read: Result<V::Value, Faults> = visitor.visit_str(self.text);
        read.map_err(|Faults(found)| {
            // The errors of a type's own parser don't name the parameter, so it is added.
            let named = |found: Fault| fault(self.name, format!("{}: {}", self.name, found.detail));
            Faults(found.into_iter().map(named).collect())
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        visitor.visit_bool(self.text.parse().map_err(|_| self.must_be("true or false"))?)
    }

    whole! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        visitor.visit_f64(self.number()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        visitor.visit_f64(self.number()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Faults> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Faults> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Faults> {
        if !variants.contains(&self.text) {
            return Err(Faults(vec![fault(self.name, fields::unknown(self.name, self.text, variants))]));
        }
        visitor.visit_enum(self.text.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
