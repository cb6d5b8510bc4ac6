use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::example_image;

/// A request for inference. Unknown fields are ignored.
#[derive(ToSchema)]
pub struct InferRequest {
    /// A name for the request, which the response repeats.
    pub id: Option<String>,
    /// `scale`: `byte` (the default) or `unit`, for values from 0 to 255 or from 0 to 1. `prepare`: `mnist` (the
    /// default) or `none`, for pictures. `binary_data_output`: whether outputs are sent as bytes. Others are ignored.
    #[schema(value_type = Object, additional_properties, required = false)]
    pub parameters: Option<BTreeMap<String, Value>>,
    /// The input `image`.
    #[schema(min_items = 1, max_items = 1)]
    pub inputs: Vec<InferInput>,
    /// The outputs to send; by default all of them.
    pub outputs: Option<Vec<RequestedOutput>>,
}

/// An input tensor.
#[derive(ToSchema)]
pub struct InferInput {
    /// Always `image`.
    pub name: String,
    /// The number of images, then the shape of an image or the number of its elements.
    pub shape: Vec<u64>,
    /// `UINT8`, `FP32`, `FP64` or `BYTES`.
    pub datatype: String,
    /// `binary_data_size`: the length of the tensor, if it is sent as bytes after the JSON instead of in `data`.
    #[schema(value_type = Object, additional_properties, required = false)]
    pub parameters: Option<BTreeMap<String, Value>>,
    /// The elements in row-major order, flat or nested. Elements of BYTES are pictures in base64.
    pub data: Option<Vec<Value>>,
}

/// An output to send.
#[derive(ToSchema)]
pub struct RequestedOutput {
    /// `probabilities` or `label`.
    pub name: String,
    /// `classification`: how many of the best classes to send as texts. `binary_data`: whether the output is sent as
    /// bytes after the JSON.
    #[schema(value_type = Object, additional_properties, required = false)]
    pub parameters: Option<BTreeMap<String, Value>>,
}

/// The response to a request for inference.
#[derive(ToSchema)]
pub struct InferResponse {
    /// Name of the model.
    pub model_name: String,
    /// Number of the version.
    pub model_version: String,
    /// The name that the client gave to the request; otherwise absent.
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The outputs, in the order of the request.
    pub outputs: Vec<InferOutput>,
}

/// An output tensor.
#[derive(ToSchema)]
pub struct InferOutput {
    /// Name of the output.
    pub name: String,
    /// `FP32` for `probabilities`, `INT64` for `label`, `BYTES` for a classification.
    pub datatype: String,
    /// The shape, beginning with the number of images.
    pub shape: Vec<i64>,
    /// The length of the tensor, if it follows the JSON as bytes; otherwise absent.
    #[schema(nullable = false)]
    pub parameters: Option<BinaryDataSize>,
    /// The elements in row-major order, unless they follow the JSON as bytes. Those of a classification are texts
    /// `probability:label:class`, best first.
    #[schema(nullable = false)]
    pub data: Option<Vec<Value>>,
}

/// The length of a tensor that follows the JSON as bytes.
#[derive(ToSchema)]
pub struct BinaryDataSize {
    /// Length in bytes.
    pub binary_data_size: usize,
}

/// JSON, followed by the bytes of tensors in the order in which the JSON names them.
///
/// Numbers are little-endian. Each element of BYTES begins with its length as 32 bits. The header
/// `Inference-Header-Content-Length` has the length of the JSON.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "read by its derive alone")]
pub struct Tensors(String);

/// Returns a request for the two best classes of one image.
pub fn example() -> Value {
    json!({
        "id": "42",
        "inputs": [{ "name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": example_image() }],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 2 } }]
    })
}
