use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::model::ModelVersion;
use crate::oip::{EXTENSIONS, Interface, PLATFORM, TensorMetadata};

/// Whether the server is alive.
#[derive(Serialize, ToSchema)]
pub struct ServerLive {
    /// Always true.
    pub live: bool,
}

/// Whether the server is ready.
#[derive(Serialize, ToSchema)]
pub struct ServerReady {
    /// Always true; a server that is not ready answers with an error.
    pub ready: bool,
}

/// Whether a model is ready.
#[derive(Serialize, ToSchema)]
pub struct ModelReady {
    /// Name of the model.
    pub name: String,
    /// Always true; a model that is not ready is an error.
    pub ready: bool,
}

/// The server and what it can do.
#[derive(Serialize, ToSchema)]
pub struct ServerMetadata {
    /// Always `chainrule`.
    pub name: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// The extensions of the protocol that the server has.
    pub extensions: Vec<&'static str>,
}

impl Default for ServerMetadata {
    fn default() -> Self {
        Self { name: "chainrule", version: env!("CARGO_PKG_VERSION"), extensions: EXTENSIONS.to_vec() }
    }
}

/// The input and the outputs of a model.
#[derive(Serialize, ToSchema)]
pub struct ModelMetadata {
    /// Name of the model.
    pub name: String,
    /// Numbers of its versions, at most the newest 256. With a version in the path, only that one.
    pub versions: Vec<String>,
    /// The form of its file.
    pub platform: &'static str,
    /// Its only input: images.
    pub inputs: Vec<TensorDescription>,
    /// Its outputs.
    pub outputs: Vec<TensorDescription>,
    /// About the version: `version`, `classes` (a JSON array), `parameters`, `sha256`, and `test_accuracy` if it was
    /// measured.
    pub properties: BTreeMap<String, String>,
}

/// An input or output of a model.
#[derive(Serialize, ToSchema)]
pub struct TensorDescription {
    /// Name of the tensor.
    pub name: &'static str,
    /// Type of its elements.
    pub datatype: &'static str,
    /// Its shape. The first side is −1: the number of images.
    pub shape: Vec<i64>,
}

impl From<TensorMetadata> for TensorDescription {
    fn from(TensorMetadata { name, datatype, shape }: TensorMetadata) -> Self {
        Self { name, datatype: datatype.name(), shape }
    }
}

impl ModelMetadata {
    /// Describes a version of a model.
    pub fn new(interface: &Interface, version: &ModelVersion, versions: Vec<u32>) -> Self {
        let mut properties = BTreeMap::from([
            ("version".to_owned(), interface.version.to_string()),
            ("classes".to_owned(), json!(version.classes).to_string()),
            ("parameters".to_owned(), version.parameters.to_string()),
            ("sha256".to_owned(), version.sha256.clone()),
        ]);
        properties.extend(version.test_accuracy.map(|value| ("test_accuracy".to_owned(), value.to_string())));
        Self {
            name: interface.model.clone(),
            versions: versions.iter().map(u32::to_string).collect(),
            platform: PLATFORM,
            inputs: vec![interface.input().into()],
            outputs: interface.outputs().map(Into::into).into(),
            properties,
        }
    }
}

/// The configuration of a model in the form of Triton.
#[derive(Serialize, ToSchema)]
pub struct ModelConfig {
    /// Name of the model.
    pub name: String,
    /// The form of its file.
    pub platform: &'static str,
    /// Always `chainrule`.
    pub backend: &'static str,
    /// The most images of a request.
    pub max_batch_size: usize,
    /// Its only input: images.
    pub input: Vec<TensorConfig>,
    /// Its outputs.
    pub output: Vec<TensorConfig>,
}

/// An input or output in a configuration.
#[derive(Serialize, ToSchema)]
pub struct TensorConfig {
    /// Name of the tensor.
    pub name: &'static str,
    /// Type of its elements, such as `TYPE_UINT8`.
    pub data_type: String,
    /// Its shape for one image. A single number has the shape 1.
    pub dims: Vec<i64>,
}

impl From<TensorMetadata> for TensorConfig {
    fn from(TensorMetadata { name, datatype, shape }: TensorMetadata) -> Self {
        let dims = if shape.len() > 1 { shape[1..].to_vec() } else { vec![1] };
        Self { name, data_type: format!("TYPE_{}", datatype.name()), dims }
    }
}

impl ModelConfig {
    /// Describes a version of a model.
    pub fn new(interface: &Interface, images_max: usize) -> Self {
        Self {
            name: interface.model.clone(),
            platform: PLATFORM,
            backend: "chainrule",
            max_batch_size: images_max,
            input: vec![interface.input().into()],
            output: interface.outputs().map(Into::into).into(),
        }
    }
}
