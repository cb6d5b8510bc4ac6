use super::format::{Model1, ModelLayer1};
use super::{ArtifactError, Tensors, write};
use crate::nn::{LayerSpec, Network, Shape};

/// The metadata of a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelHeader {
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
    let layers = layers.iter().copied().map(ModelLayer1).collect();
    let metadata = Model1 { input: network.input(), layers, classes: classes.to_vec() };
    write(&metadata, network.tensors())
}

/// Reads the network of a model file.
///
/// # Errors
/// If the bytes are not a model file, or its tensors don't fit its layers.
pub fn read_model(bytes: &[u8]) -> Result<(ModelHeader, Network<f32>), ArtifactError> {
    let (header, tensors) = read_parts(bytes)?;
    let mut network = Network::new(header.input, &header.layers, 0)?;
    network.set_tensors(|name| tensors.values(name))?;
    Ok((header, network))
}

/// Reads the metadata of a model file, and finds its tensors.
pub(super) fn read_parts(bytes: &[u8]) -> Result<(ModelHeader, Tensors<'_>), ArtifactError> {
    let (Model1 { input, layers, classes }, tensors) = Tensors::read(bytes)?;
    let layers = layers.into_iter().map(|ModelLayer1(layer)| layer).collect();
    Ok((ModelHeader { input, layers, classes }, tensors))
}
