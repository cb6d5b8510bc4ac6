//! A network as bytes: the checkpoint that a job resumes from, the model file that is served, and ONNX.
//!
//! Checkpoints and model files are safetensors files. All metadata is JSON under the single key `chainrule`. With several keys, safetensors
//! would write them in random order, but equal weights must give equal bytes.

mod checkpoint;
mod export;
pub mod onnx;
mod receipt;
mod upload;

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use checkpoint::{read_checkpoint, write_checkpoint};
pub use export::{ModelHeader, read_model, write_model};
pub use receipt::with_receipt;
pub use upload::{ModelFormat, Upload, UploadError, UploadLimits, read_upload, upload_bytes};

use crate::nn::{LengthError, ShapeError};

const METADATA_KEY: &str = "chainrule";

/// The reason why bytes can't be written or read as a network.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The bytes are not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// The metadata is missing or malformed.
    #[error("invalid metadata: {0}")]
    Metadata(String),
    /// A tensor is missing, or has another type or size.
    #[error("tensor {0} is missing or not of 32-bit floats")]
    Tensor(String),
    /// A tensor has the wrong size for the network.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The layers don't fit each other.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// The tensors of a file, by name.
struct Tensors<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    fn read<H: DeserializeOwned>(bytes: &'a [u8]) -> Result<(H, Self), ArtifactError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA_KEY))
            .ok_or_else(|| ArtifactError::Metadata(format!("no key {METADATA_KEY}")))?;
        let header =
            serde_json::from_str(header).map_err(|error| ArtifactError::Metadata(error.to_string()))?;
        Ok((header, Self { tensors: SafeTensors::deserialize(bytes)? }))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ArtifactError> {
        let tensor = self.tensors.tensor(name).map_err(|_| ArtifactError::Tensor(name.to_owned()))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(ArtifactError::Tensor(name.to_owned()));
        }
        let (values, _) = tensor.data().as_chunks::<4>();
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}

/// Writes tensors (name, shape, values) with one JSON header.
fn write<'a>(
    header: &impl Serialize,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a [f32])>,
) -> Result<Vec<u8>, ArtifactError> {
    let header = serde_json::to_string(header).map_err(|error| ArtifactError::Metadata(error.to_string()))?;
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape, values)| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), header)]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}
