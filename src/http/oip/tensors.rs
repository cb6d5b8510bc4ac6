//! The body of a request for inference: JSON, followed by the bytes of binary tensors.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde_json::error::Category;

use super::head::{Head, HeadInput, HeadOutput, Object, SomeParameters};
use crate::api::Code;
use crate::fields::shown;
use crate::http::Problem;
use crate::http::extract::invalid_json;
use crate::http::receive::Body;
use crate::oip::{Contents, InferInput, InferRequest, Interface, Parameter, Parameters, RequestedOutput};

/// The header with the number of bytes of JSON in a body with binary tensors.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// Memory to parse the JSON of a request, besides that of its texts. Tensors and parameters are limited in number.
const PARSED_BYTES: usize = 40 << 10;

/// How often the text of a request is in memory while it is parsed: texts with escapes are copied, and a buffer for
/// them grows.
const TEXT_TIMES: usize = 3;

/// A request for inference, and which of its outputs the client wants as bytes.
pub struct Tensors {
    /// The request.
    pub request: InferRequest,
    /// The form of the outputs.
    pub binary: Binary,
}

/// Which outputs of a response follow the JSON as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// The form of outputs for which the request says nothing.
    pub default: bool,
    /// The forms of the requested outputs, in order.
    pub outputs: Vec<Option<bool>>,
}

impl Binary {
    /// Reads which outputs a request wants as bytes.
    fn of(request: &InferRequest) -> Result<Self, Problem> {
        let mut faults = Vec::new();
        let default = flag(&request.parameters, "binary_data_output", &mut faults).unwrap_or(false);
        let outputs = request.outputs.iter();
        let outputs = outputs.map(|output| flag(&output.parameters, "binary_data", &mut faults)).collect();
        if request.outputs.iter().any(|output| output.parameters.contains_key(SHARED_MEMORY)) {
            faults.push(NO_SHARED_MEMORY.to_owned());
        }
        match faults.is_empty() {
            true => Ok(Self { default, outputs }),
            false => Err(Problem::new(Code::InvalidTensor, faults.join("; "))),
        }
    }

    /// Returns whether the output at `index` follows as bytes.
    pub fn is_binary(&self, index: usize) -> bool {
        self.outputs.get(index).copied().flatten().unwrap_or(self.default)
    }
}

/// A body, and where its JSON ends.
#[derive(Clone)]
pub struct Divided {
    body: Body,
    json_bytes: usize,
    has_bytes: bool,
}

impl Divided {
    /// Divides a body by its header.
    ///
    /// # Errors
    /// Returns 400 if the header is not a length within the body.
    pub fn new(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let length = body.bytes.len();
        let mut values = headers.get_all(JSON_LENGTH).iter();
        let (first, more) = (values.next(), values.next());
        let Some(value) = first else {
            return Ok(Self { body, json_bytes: length, has_bytes: false });
        };
        let found = length_of(value).filter(|found| *found <= length && more.is_none());
        let Some(json_bytes) = found else {
            let found = shown(&String::from_utf8_lossy(value.as_bytes()));
            let detail = format!("inference header size should be in range (0, {length}), got: {found}");
            return Err(Problem::new(Code::InvalidInferenceHeader, detail));
        };
        Ok(Self { body, json_bytes, has_bytes: true })
    }

    /// Returns the number of bytes of JSON.
    pub fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    /// Returns the most bytes that [`parse`](Self::parse) allocates.
    pub fn price(&self) -> usize {
        PARSED_BYTES + TEXT_TIMES * self.json_bytes
    }

    /// Parses the JSON and assigns the bytes that follow it to the inputs. The elements of tensors are not parsed.
    ///
    /// # Errors
    /// Returns 400 if the JSON is not a request, or if it and the bytes disagree.
    pub fn parse(self, model: &Interface) -> Result<Tensors, Problem> {
        if self.has_bytes && self.json_bytes == 0 {
            return Ok(self.bare(model));
        }
        let bytes = self.body.bytes.clone();
        let (json, rest) = (bytes.slice(..self.json_bytes), bytes.slice(self.json_bytes..));
        if json.is_empty() {
            return Err(Problem::new(Code::EmptyBody, "the body is empty; send a JSON object with inputs"));
        }
        let Object(head) = serde_json::from_slice::<Object<Head>>(&json).map_err(json_error)?;
        let mut rest = Rest { bytes: rest, has_header: self.has_bytes };
        let mut inputs = Vec::new();
        for Object(input) in head.inputs.0 {
            inputs.push(rest.input(input, &json)?);
        }
        if !rest.bytes.is_empty() {
            let detail = format!(
                "unexpected additional input data for model '{}': {} bytes are left after its inputs",
                model.model,
                rest.bytes.len()
            );
            return Err(Problem::new(Code::InvalidTensor, detail));
        }
        let output = |Object(HeadOutput { name, parameters }): Object<HeadOutput>| RequestedOutput {
            name: name.into_owned(),
            parameters: parameters.0,
        };
        let request = InferRequest {
            id: head.id.map(|id| id.into_owned()),
            parameters: head.parameters.0,
            inputs,
            outputs: head.outputs.0.into_iter().map(output).collect(),
            held: Arc::new(self.body),
        };
        Ok(Tensors { binary: Binary::of(&request)?, request })
    }

    /// Makes the request of a body without JSON: the bytes of one image, as the model declares them.
    fn bare(self, model: &Interface) -> Tensors {
        let declared = model.input();
        let shape = declared.shape.iter().map(|&side| if side < 0 { 1 } else { side }).collect();
        let input = InferInput {
            name: declared.name.to_owned(),
            datatype: declared.datatype.name().to_owned(),
            shape,
            contents: Contents::Raw(self.body.bytes.clone()),
        };
        let request = InferRequest {
            id: None,
            parameters: Parameters::new(),
            inputs: vec![input],
            outputs: Vec::new(),
            held: Arc::new(self.body),
        };
        Tensors { request, binary: Binary { default: true, outputs: Vec::new() } }
    }
}

/// 400 for a request that is not valid, or not JSON.
fn json_error(error: serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => Problem::new(Code::InvalidRequest, format!("the request is not valid: {error}")),
        _ => invalid_json(&error),
    }
}

/// The parameter of a tensor in memory that client and server share.
const SHARED_MEMORY: &str = "shared_memory_region";
const NO_SHARED_MEMORY: &str = "shared memory is not supported; send data, or bytes with binary_data_size";

fn length_of(value: &HeaderValue) -> Option<usize> {
    let text = value.to_str().ok()?.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns the value of a parameter that is true or false.
fn flag(parameters: &Parameters, name: &str, faults: &mut Vec<String>) -> Option<bool> {
    match parameters.get(name)? {
        Parameter::Bool(value) => Some(*value),
        other => {
            faults.push(format!("parameter '{name}' must be true or false, not {other}"));
            None
        }
    }
}

/// The bytes after the JSON that no input has taken yet.
struct Rest {
    bytes: Bytes,
    has_header: bool,
}

impl Rest {
    /// Gives an input its elements.
    fn input(&mut self, input: HeadInput, json: &Bytes) -> Result<InferInput, Problem> {
        let HeadInput { name, shape, datatype, parameters: SomeParameters(parameters), data } = input;
        let fault =
            |why: String| Problem::new(Code::InvalidTensor, format!("input '{}': {why}", shown(&name)));
        if parameters.contains_key(SHARED_MEMORY) {
            return Err(fault(NO_SHARED_MEMORY.to_owned()));
        }
        let contents = match (data, parameters.get("binary_data_size")) {
            (Some(data), None) => Contents::Json(json.slice_ref(data.get().as_bytes())),
            (None, Some(&Parameter::Int64(size @ 0..))) => Contents::Raw(self.take(size).map_err(fault)?),
            (None, Some(size)) => {
                return Err(fault(format!("binary_data_size must be a number of bytes, not {size}")));
            }
            (None, None) => return Err(fault("send data, or bytes with binary_data_size".to_owned())),
            (Some(_), Some(_)) => return Err(fault("send data or binary_data_size, not both".to_owned())),
        };
        if let Some(&side) = shape.0.iter().find(|side| **side < 0) {
            return Err(fault(format!("the sides of a shape must not be negative, but one is {side}")));
        }
        Ok(InferInput { name: name.into_owned(), datatype: datatype.into_owned(), shape: shape.0, contents })
    }

    fn take(&mut self, size: i64) -> Result<Bytes, String> {
        if !self.has_header {
            return Err(format!("binary_data_size needs the header {JSON_LENGTH}"));
        }
        let left = self.bytes.len();
        let size = usize::try_from(size).ok().filter(|size| *size <= left).ok_or_else(|| {
            format!("unexpected size, expecting {size} additional bytes, but {left} are left")
        })?;
        Ok(self.bytes.split_to(size))
    }
}
