use serde::{Deserialize, Serialize};

use super::{ArtifactError, Tensors, write};
use crate::nn::{LayerSpec, Network, Shape};

const FORMAT: &str = "chainrule-model/1";

/// The metadata of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelHeader {
    format: String,
    /// Shape of an input image.
    pub input: Shape,
    /// The layers in order, as requested.
    pub layers: Vec<LayerSpec>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
}

/// Serialises a network and its classes. Equal networks give equal bytes.
///
/// # Errors
/// If safetensors can't represent a tensor.
pub fn write_model(
    network: &Network<f32>,
    layers: &[LayerSpec],
    classes: &[String],
) -> Result<Vec<u8>, ArtifactError> {
    let header = ModelHeader {
        format: FORMAT.to_owned(),
        input: network.input(),
        layers: layers.to_vec(),
        classes: classes.to_vec(),
    };
    write(&header, network.tensors())
}

/// Reads the network of a model file.
///
/// # Errors
/// If the bytes are not a model file, or its tensors don't fit its layers.
pub fn read_model(bytes: &[u8]) -> Result<(ModelHeader, Network<f32>), ArtifactError> {
    let (header, tensors) = Tensors::read::<ModelHeader>(bytes)?;
    if header.format != FORMAT {
        return Err(ArtifactError::Metadata(format!("format {:?} is not {FORMAT:?}", header.format)));
    }
    let mut network = Network::new(header.input, &header.layers, 0)?;
    network.set_tensors(|name| tensors.values(name))?;
    Ok((header, network))
}
