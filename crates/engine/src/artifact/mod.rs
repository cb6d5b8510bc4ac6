//! A network as bytes: the checkpoint that a job resumes from, the model file that is served, and ONNX.
//!
//! Checkpoints and model files are safetensors files. All metadata is JSON under the single key `chainrule`. With several keys, safetensors
//! would write them in random order, but equal weights must give equal bytes.

mod checkpoint;
mod export;
mod format;
pub mod onnx;
mod receipt;
mod upload;

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

pub use checkpoint::{read_checkpoint, write_checkpoint};
pub use export::{ModelHeader, read_model, write_model};
pub use receipt::with_receipt;
pub use upload::{ModelFormat, Upload, UploadError, UploadLimits, read_upload, upload_bytes};

use self::format::Metadata;
use crate::nn::{LengthError, ShapeError};

const METADATA_KEY: &str = "chainrule";

/// The reason why bytes can't be written or read as a network.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum ArtifactError {
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    #[error("invalid metadata: {0}")]
    Metadata(String),
    #[error("tensor {0} is missing or not of 32-bit floats")]
    Tensor(String),
    #[error(transparent)]
    Length(#[from] LengthError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// The tensors of a file, by name.
struct Tensors<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    fn read<M: Metadata>(bytes: &'a [u8]) -> Result<(M, Self), ArtifactError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let text = header.metadata().as_ref().and_then(|texts| texts.get(METADATA_KEY));
        let text = text.ok_or_else(|| ArtifactError::Metadata(format!("no key {METADATA_KEY}")))?;
        Ok((format::from_json(text)?, Self { tensors: SafeTensors::deserialize(bytes)? }))
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

/// Writes tensors (name, shape, values) with their metadata.
fn write<'a>(
    metadata: &impl Metadata,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a [f32])>,
) -> Result<Vec<u8>, ArtifactError> {
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), format::to_json(metadata)?)]);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape, values)| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    Ok(safetensors::serialize(views, Some(metadata))?)
}
