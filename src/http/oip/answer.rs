//! The response to a request for inference: JSON, followed by the bytes of binary tensors.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::ser::{Serialize, Serializer};

use super::tensors::{Binary, JSON_LENGTH};
use crate::http::deliver::Packing;
use crate::oip::{InferResponse, OutputTensor, Values, byte_elements};

/// A response that is ready to be sent.
pub struct Rendered {
    bytes: Vec<u8>,
    /// The number of bytes of JSON, if tensors follow as bytes.
    json_bytes: Option<usize>,
}

/// Renders a response.
///
/// # Errors
/// Returns an error if it can't be written as JSON.
pub fn render(response: &InferResponse, binary: &Binary) -> serde_json::Result<Rendered> {
    let is_binary = |index: usize| binary.is_binary(index);
    let outputs = response.outputs.iter().enumerate();
    let outputs = outputs.map(|(index, tensor)| JsonTensor::new(tensor, is_binary(index))).collect();
    let head = JsonResponse {
        model_name: &response.model_name,
        model_version: &response.model_version,
        id: response.id.as_deref(),
        outputs,
    };
    let mut bytes = serde_json::to_vec(&head)?;
    let tensors = response.outputs.iter().enumerate().filter(|(index, _)| is_binary(*index));
    let tensors: Vec<&Values> = tensors.map(|(_, tensor)| &tensor.values).collect();
    let json_bytes = (!tensors.is_empty()).then_some(bytes.len());
    bytes.reserve_exact(tensors.iter().map(|values| values.raw_bytes()).sum());
    tensors.iter().for_each(|values| values.write_raw(&mut bytes));
    Ok(Rendered { bytes, json_bytes })
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        let media_type =
            if self.json_bytes.is_some() { "application/octet-stream" } else { "application/json" };
        let mut response = self.bytes.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(json_bytes) = self.json_bytes {
            headers.insert(HeaderName::from_static(JSON_LENGTH), json_bytes.into());
        }
        response.extensions_mut().insert(Packing::Tensors);
        response
    }
}

#[derive(serde::Serialize)]
struct JsonResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<JsonTensor<'a>>,
}

#[derive(serde::Serialize)]
struct JsonTensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(serde::Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

impl<'a> JsonTensor<'a> {
    fn new(tensor: &'a OutputTensor, is_binary: bool) -> Self {
        let OutputTensor { name, shape, values } = tensor;
        Self {
            name,
            datatype: values.datatype().name(),
            shape,
            parameters: is_binary.then(|| BinarySize { binary_data_size: values.raw_bytes() }),
            data: (!is_binary).then_some(Data(values)),
        }
    }
}

struct Data<'a>(&'a Values);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Values::Fp32(numbers) => serializer.collect_seq(numbers),
            Values::Int64(numbers) => serializer.collect_seq(numbers),
            Values::Bytes(bytes) => serializer.collect_seq(byte_elements(bytes).map(String::from_utf8_lossy)),
        }
    }
}
