//! The JSON of a request for inference. Everything in it has a limit, and tensors stay as text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::oip::{Parameter, Parameters};

/// The most inputs, and the most outputs.
const TENSORS_MAX: usize = 8;

/// The most sides of a shape.
const SIDES_MAX: usize = 8;

/// The most parameters of a request, an input or an output.
const PARAMETERS_MAX: usize = 16;

/// A request for inference as its JSON has it. Unknown fields are ignored, as the protocol wants.
#[derive(serde::Deserialize)]
pub struct Head<'a> {
    /// The client's name for the request.
    #[serde(default, borrow)]
    pub id: Option<Cow<'a, str>>,
    /// Parameters of the request.
    #[serde(default)]
    pub parameters: SomeParameters,
    /// The input tensors.
    #[serde(borrow)]
    pub inputs: AtMost<Object<HeadInput<'a>>, TENSORS_MAX>,
    /// The requested outputs.
    #[serde(default, borrow)]
    pub outputs: AtMost<Object<HeadOutput<'a>>, TENSORS_MAX>,
}

/// An input tensor.
#[derive(serde::Deserialize)]
pub struct HeadInput<'a> {
    /// Name of the input.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The shape.
    pub shape: AtMost<i64, SIDES_MAX>,
    /// Name of the datatype.
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    /// Parameters of the input.
    #[serde(default)]
    pub parameters: SomeParameters,
    /// The elements, unless they follow the JSON as bytes.
    #[serde(default, borrow)]
    pub data: Option<&'a RawValue>,
}

/// A requested output.
#[derive(serde::Deserialize)]
pub struct HeadOutput<'a> {
    /// Name of the output.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Parameters of the output.
    #[serde(default)]
    pub parameters: SomeParameters,
}

/// A struct that is an object in JSON. A derived parser would also accept a list of its fields.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A list of at most `MAX` elements.
pub struct AtMost<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for AtMost<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = AtMost<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX {
            match seq.next_element()? {
                Some(element) => list.push(element),
                None => return Ok(AtMost(list)),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(AtMost(list)),
            Some(_) => Err(A::Error::custom(format!("a list has more than {MAX} elements"))),
        }
    }
}

/// Some parameters. Null is the same as none.
#[derive(Default)]
pub struct SomeParameters(pub Parameters);

impl<'de> Deserialize<'de> for SomeParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = SomeParameters;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_unit<E>(self) -> Result<SomeParameters, E> {
        Ok(SomeParameters::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SomeParameters, A::Error> {
        let mut parameters = Parameters::new();
        while let Some((name, ParameterValue(value))) = map.next_entry::<String, ParameterValue>()? {
            if parameters.insert(name, value).is_some() {
                return Err(A::Error::custom("a parameter is given twice"));
            }
            if parameters.len() > PARAMETERS_MAX {
                return Err(A::Error::custom(format!("there are more than {PARAMETERS_MAX} parameters")));
            }
        }
        Ok(SomeParameters(parameters))
    }
}

struct ParameterValue(Parameter);

impl<'de> Deserialize<'de> for ParameterValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = Parameter;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a text, a number, true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parameter, E> {
        Ok(Parameter::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter::Int64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parameter, E> {
        Ok(i64::try_from(value).map_or(Parameter::Double(value as f64), Parameter::Int64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parameter, E> {
        Ok(Parameter::String(value.to_owned()))
    }
}
