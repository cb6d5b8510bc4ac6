use serde_json::Value;

use super::tensor::{Tensor, shape_text};
use crate::fields::{Fault, Fields, parsed, unknown};
use crate::nn::{Float, LayerSpec, Network, shapes};
use crate::train::{INPUT, LayerCost, SpecLimits, network_layers};

/// What one question may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabLimits {
    /// What a network may be.
    pub spec: SpecLimits,
    /// Floating-point operations of an answer.
    pub flops_max: f64,
    /// Bytes held for an answer.
    pub memory_bytes_max: f64,
}

/// What an answer will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerCost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes held at a time.
    pub memory_bytes: f64,
}

/// Bytes that a number takes until it is written in JSON, about: as a value of its own, and as text.
const JSON_BYTES: f64 = 64.0;

impl AnswerCost {
    /// Passes forward of `images` in all, of which `rows` are held at a time, through `layers` in numbers of
    /// `number_bytes`; a pass back is two more.
    pub fn of_passes(layers: &[LayerSpec], images: f64, rows: f64, number_bytes: usize) -> Self {
        let shapes = shapes(INPUT, layers).unwrap_or_default();
        let costs = LayerCost::of_all(layers, &shapes);
        let forward: f64 = costs.iter().map(|cost| cost.flops_forward).sum();
        let parameters: f64 = costs.iter().map(|cost| cost.parameters).sum();
        let values: f64 = shapes.iter().map(|shape| shape.len() as f64).sum();
        // The weights as they are, in the order of the products both ways, their gradient, and once more changed.
        let numbers = 5.0 * parameters + 2.0 * values * rows;
        Self { flops: forward * images, memory_bytes: number_bytes as f64 * numbers }
    }

    /// Every value, error and gradient of one image, written out.
    pub fn of_arrays(layers: &[LayerSpec]) -> Self {
        let shapes = shapes(INPUT, layers).unwrap_or_default();
        let values: f64 = shapes.iter().skip(1).map(|shape| 2.0 * shape.len() as f64).sum();
        let parameters: f64 = LayerCost::of_all(layers, &shapes).iter().map(|cost| cost.parameters).sum();
        Self { flops: 0.0, memory_bytes: JSON_BYTES * (values + parameters) }
    }
}

impl Default for LabLimits {
    fn default() -> Self {
        Self { spec: SpecLimits::default(), flops_max: 5e10, memory_bytes_max: 1e9 }
    }
}

impl LabLimits {
    /// Refuses what would take too much, with the estimate.
    ///
    /// # Errors
    /// Where it would.
    pub fn check(&self, cost: AnswerCost) -> Result<(), Vec<Fault>> {
        let fault = |estimate: f64, what: &str, most: f64| {
            let detail =
                format!("the answer would take about {estimate:.1e} {what}, this server gives {most:.1e}");
            (estimate > most).then(|| Fault { pointer: String::new(), detail })
        };
        let faults: Vec<Fault> = [
            fault(cost.flops, "floating-point operations", self.flops_max),
            fault(cost.memory_bytes, "bytes of memory", self.memory_bytes_max),
        ]
        .into_iter()
        .flatten()
        .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// A network as a request names it, and how many images go through it together.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRequest {
    /// Its layers.
    pub layers: Vec<LayerSpec>,
    /// Images of a batch.
    pub batch_size: usize,
}

/// Images of a batch that can be asked about.
const BATCH_MAX: u64 = 1_000_000;

impl NetworkRequest {
    /// The layers of a preset or of the request, for ten classes, and `batch_size`, 128 unless told.
    ///
    /// # Errors
    /// Every fault of the request.
    pub fn parse(request: &Value, limits: &SpecLimits) -> Result<Self, Vec<Fault>> {
        parsed(request, |mut fields| {
            let layers = network_layers(&mut fields, "mnist", CLASSES, limits);
            let batch_size = fields.integer("batch_size", 1..=BATCH_MAX).unwrap_or(128) as usize;
            fields.refuse_unknown();
            Some(Self { layers: layers?, batch_size })
        })
    }
}

/// Classes of a network that no data set is named for.
const CLASSES: usize = 10;

/// The layer that `name` means: `0.dense`, or its place alone.
///
/// # Errors
/// Where there is none; the text lists what there is.
pub fn layer_named<T: Float>(network: &Network<T>, name: &str) -> Result<usize, String> {
    let names: Vec<String> = (0..network.layers().len()).map(|index| network.layer_name(index)).collect();
    let found = names.iter().enumerate().find(|(index, full)| *full == name || index.to_string() == name);
    found.map(|(index, _)| index).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        unknown("layer", name, &names)
    })
}

/// Whether a tensor has this shape; a fault with both where it has not.
pub(super) fn shaped(fields: &mut Fields, name: &str, tensor: &Tensor, shape: &[usize]) -> bool {
    let fits = tensor.shape == shape;
    if !fits {
        fields.fault(name, format!("must have the shape {}, not {tensor}", shape_text(shape)));
    }
    fits
}

/// Refuses an answer with a number that `f64` does not hold.
pub(super) fn finite(name: &str, tensor: &Tensor) -> Result<(), Vec<Fault>> {
    match tensor.values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => {
            let detail = format!("a number of {name} is beyond what f64 holds, at {place} in row order");
            Err(vec![Fault { pointer: String::new(), detail }])
        }
    }
}
