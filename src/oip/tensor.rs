use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Parameters of a request, an input or an output, by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int64(i64),
    /// A number.
    Double(f64),
    /// A text.
    String(String),
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int64(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value}"),
            Self::String(value) => write!(f, "{:?}", crate::fields::shown(value)),
        }
    }
}

/// A request for inference.
#[derive(Clone)]
pub struct InferRequest {
    /// The client's name for the request, which the response repeats.
    pub id: Option<String>,
    /// Parameters of the request.
    pub parameters: Parameters,
    /// The input tensors.
    pub inputs: Vec<InferInput>,
    /// The outputs that the response has. If the list is empty, it has all of them.
    pub outputs: Vec<RequestedOutput>,
    /// Holds the charge for the memory of the tensors.
    pub held: Arc<dyn Any + Send + Sync>,
}

/// An input tensor.
#[derive(Clone, Debug)]
pub struct InferInput {
    /// Name of the input.
    pub name: String,
    /// Name of the datatype.
    pub datatype: String,
    /// The shape, as the client has sent it.
    pub shape: Vec<i64>,
    /// The elements.
    pub contents: Contents,
}

/// The elements of an input tensor in row-major order.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Little-endian numbers without padding. Each element of BYTES begins with its length as 32 bits.
    Raw(Bytes),
    /// A JSON array, which may be nested. Elements of BYTES are in base64.
    Json(Bytes),
}

impl Contents {
    /// Returns the number of bytes to parse.
    pub fn len(&self) -> usize {
        match self {
            Self::Raw(bytes) | Self::Json(bytes) => bytes.len(),
        }
    }

    /// Returns whether there is nothing to parse.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An output that a request asks for.
#[derive(Clone, Debug)]
pub struct RequestedOutput {
    /// Name of the output.
    pub name: String,
    /// Parameters of the output.
    pub parameters: Parameters,
}
