use serde_json::Value;

use super::tensor::{Tensor, shape_text};
use crate::data::DatasetShape;
use crate::fields::{Fault, Fields, parsed, unknown};
use crate::nn::{Float, LayerSpec, Network, Shape};
use crate::train::{SpecLimits, network_layers};

/// A network and the batch size for its summary.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRequest {
    /// The shape of an image.
    pub input: Shape,
    /// The layers in order.
    pub layers: Vec<LayerSpec>,
    /// Images per batch.
    pub batch_size: usize,
}

/// Largest batch size in a request.
const BATCH_MAX: u64 = 1_000_000;

impl NetworkRequest {
    /// Parses the layers or the preset, for images of `dataset`, and `batch_size`, which defaults to 128.
    ///
    /// # Errors
    /// Every fault of the request.
    pub fn parse(request: &Value, dataset: &DatasetShape, limits: &SpecLimits) -> Result<Self, Vec<Fault>> {
        parsed(request, |mut fields| {
            let layers = network_layers(&mut fields, dataset, limits);
            let batch_size = fields.integer("batch_size", 1..=BATCH_MAX).unwrap_or(128) as usize;
            fields.refuse_unknown();
            Some(Self { input: dataset.input, layers: layers?, batch_size })
        })
    }
}

/// Index of the layer with this name, such as `0.dense` or `0`.
///
/// # Errors
/// If there is no such layer. The message lists the layers.
pub fn layer_named<T: Float>(network: &Network<T>, name: &str) -> Result<usize, String> {
    let names: Vec<String> = (0..network.layers().len()).map(|index| network.layer_name(index)).collect();
    let found = names.iter().enumerate().find(|(index, full)| *full == name || index.to_string() == name);
    found.map(|(index, _)| index).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        unknown("layer", name, &names)
    })
}

/// Whether a tensor has this shape. Reports a fault with both shapes if not.
pub(super) fn shaped(fields: &mut Fields, name: &str, tensor: &Tensor, shape: &[usize]) -> bool {
    let fits = tensor.shape == shape;
    if !fits {
        fields.fault(name, format!("must have the shape {}, not {tensor}", shape_text(shape)));
    }
    fits
}

/// Returns an error if an element of an answer is infinite or NaN.
pub(super) fn finite(name: &str, tensor: &Tensor) -> Result<(), Vec<Fault>> {
    match tensor.values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => {
            let detail = format!("a number of {name} is beyond what f64 holds, at {place} in row order");
            Err(vec![Fault { pointer: String::new(), detail }])
        }
    }
}
