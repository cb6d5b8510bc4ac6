use std::sync::OnceLock;
use std::time::Instant;

use serde_json::json;

use super::{BACKPROPAGATIONS, CheckRequest, check};
use crate::data::{self, mnist};
use crate::lab::price::{AnswerCost, FIELDS_BYTES, LabLimits};
use crate::nn::kernel::SPAN;
use crate::nn::{LayerSpec, PassOperations, Plan, Shape, numbers_of_a_step, shapes};
use crate::train::LayerCost;

/// Passes forward for the derivative by one number: two where the place is smooth, four where the wide step is too wide, up
/// to ten near a kink.
const PASSES_PER_NUMBER: f64 = 3.1;

/// Operations for a parameter that is drawn, and for a byte that is taken from the system and filled.
const DRAWN: f64 = 67.0;
const BYTE: f64 = 4.0;

/// Bytes of the lists of layers, places and rows that a check goes by.
const LISTS_BYTES: f64 = 64e3;

impl CheckRequest {
    /// What the check of a network of these layers takes.
    pub fn cost(&self, layers: &[LayerSpec]) -> AnswerCost {
        let shapes = shapes(self.input, layers).unwrap_or_default();
        let kinds: Vec<_> = layers.iter().map(|layer| layer.kind()).collect();
        let plan = Plan::new(&kinds, self.samples, 1.0);
        let costs = LayerCost::of_all(layers, &shapes);
        let parameters: f64 = costs.iter().map(|cost| cost.parameters + cost.buffers).sum();
        // Some rows of a gradient at a time.
        let columns = shapes.iter().skip(1).map(|shape| shape.channels).max().unwrap_or_default();
        let images = (self.samples * self.input.len()) as f64;
        let numbers = parameters + numbers_of_a_step(&plan, layers, &shapes, 0) + (SPAN * columns) as f64;
        let memory_bytes = size_of::<f64>() as f64 * (numbers + images + 6.0 * self.numbers(layers));
        let pass = PassOperations::new(&plan, layers, &shapes, parameters, self.samples);
        let backpropagations = BACKPROPAGATIONS as f64 * pass.both;
        let differences = PASSES_PER_NUMBER * self.numbers(layers) * pass.forward;
        let flops = DRAWN * parameters + BYTE * memory_bytes + backpropagations + differences;
        let text = FIELDS_BYTES * (1 + layers.len()) as f64;
        let memory_bytes = memory_bytes + LISTS_BYTES;
        AnswerCost { flops, memory_bytes, answer_bytes: 0.0 }.then(AnswerCost::of_text(text))
    }

    /// About how many passes forward that check takes.
    pub fn passes(&self, layers: &[LayerSpec]) -> f64 {
        BACKPROPAGATIONS as f64 + PASSES_PER_NUMBER * self.numbers(layers)
    }

    /// Numbers that are checked.
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

/// How many operations of [`CheckRequest::cost`] this machine does in a second, on one thread: measured once, in some tenths of
/// a second, for a dense and a convolutional network.
pub fn check_flops_per_second() -> f64 {
    static MEASURED: OnceLock<f64> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let (mut flops, mut seconds) = (0.0, 0.0);
        for network in ["mlp", "cnn-fast"] {
            let asked = json!({ "network": network, "samples": 16 });
            let request = CheckRequest::parse(&asked, &data::shapes(), &LabLimits::default());
            let request = request.expect("a request of a preset");
            let layers = request.layers.clone().unwrap_or_default();
            flops += request.cost(&layers).flops;
            let timed = |_| {
                let started = Instant::now();
                let network = request.draw().expect("the layers of a preset fit");
                check(network, &request, &mnist::dataset(), &|| true).expect("nobody stops it");
                started.elapsed().as_secs_f64()
            };
            seconds += (0..RUNS).map(timed).fold(f64::INFINITY, f64::min);
        }
        flops / seconds
    })
}

/// Runs of which the quickest counts.
const RUNS: u32 = 3;
