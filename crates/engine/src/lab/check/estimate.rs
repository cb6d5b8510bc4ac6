use super::{BACKPROPAGATIONS, CheckRequest};
use crate::lab::price::{AnswerCost, FIELDS_BYTES};
use crate::nn::kernel::SPAN;
use crate::nn::{LayerSpec, PassOperations, Plan, Shape, kinds, shapes};
use crate::train::LayerCost;

/// Mean number of forward passes per numerical derivative. It takes two if the loss is smooth there, four if
/// the larger step is too large, and up to ten near a kink.
const PASSES_PER_NUMBER: f64 = 3.1;

/// Operations to draw a parameter, and to allocate and fill a byte.
const DRAWN: f64 = 67.0;
const BYTE: f64 = 4.0;

/// Bytes of the lists of layers, indices and rows.
const LISTS_BYTES: f64 = 64e3;

impl CheckRequest {
    /// The cost of checking a network of these layers.
    pub fn cost(&self, layers: &[LayerSpec]) -> AnswerCost {
        let shapes = shapes(self.input, layers).unwrap_or_default();
        let plan = Plan::new(&kinds(layers, &shapes), &shapes, self.samples, 1.0);
        let costs = LayerCost::of_all(layers, &shapes);
        let parameters: f64 = costs.iter().map(|cost| cost.parameters + cost.buffers).sum();
        // A gradient is summed in parts of a few rows.
        let columns = shapes.iter().skip(1).map(|shape| shape.channels).max().unwrap_or_default();
        let images = (self.samples * self.input.len()) as f64;
        let numbers = parameters + (SPAN * columns) as f64 + images + 6.0 * self.numbers(layers);
        let memory_bytes = size_of::<f64>() as f64 * numbers + plan.bytes::<f64>(0);
        let pass = PassOperations::new(&plan, layers, &shapes, parameters, self.samples);
        let backpropagations = BACKPROPAGATIONS as f64 * pass.both;
        let differences = PASSES_PER_NUMBER * self.numbers(layers) * pass.forward;
        let flops = DRAWN * parameters + BYTE * memory_bytes + backpropagations + differences;
        let text = FIELDS_BYTES * (1 + layers.len()) as f64;
        let memory_bytes = memory_bytes + LISTS_BYTES;
        AnswerCost { flops, memory_bytes, answer_bytes: 0.0 }.then(AnswerCost::of_text(text))
    }

    /// Approximate number of forward passes of the check.
    pub fn passes(&self, layers: &[LayerSpec]) -> f64 {
        BACKPROPAGATIONS as f64 + PASSES_PER_NUMBER * self.numbers(layers)
    }

    /// Number of parameters that are checked.
    fn numbers(&self, layers: &[LayerSpec]) -> f64 {
        let shapes = shapes(self.input, layers).unwrap_or_default();
        let costs = LayerCost::of_all(layers, &shapes);
        let trained = costs.iter().zip(shapes.iter().skip(1)).filter(|(cost, _)| cost.parameters > 0.0);
        let of_layer = |(cost, output): (&LayerCost, &Shape)| {
            let bias = output.channels as f64;
            let most = self.per_tensor as f64;
            most.min(bias) + most.min(cost.parameters - bias)
        };
        trained.map(of_layer).sum()
    }
}
