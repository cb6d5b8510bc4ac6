use std::time::Instant;

use ndarray::Array2;
use serde::Serialize;
use serde_json::Value;

use super::number::number;
use super::request::{AnswerCost, LabLimits};
use crate::data::{Dataset, DatasetShape};
use crate::fields::{Bounds, Fault, Fields, parsed, unknown};
use crate::nn::{
    Batch, Differences, Draw, LayerSpec, Loss, LossKind, Network, Pool, ShapeError, relative_error,
};
use crate::train::{INPUT, network_layers};

/// A gradient check as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRequest {
    /// The layers of the request, or none where it names a model.
    pub layers: Option<Vec<LayerSpec>>,
    /// The model whose weights are checked.
    pub model: Option<String>,
    /// Name of the data set.
    pub dataset: String,
    /// Examples of a batch.
    pub samples: usize,
    /// Of weights, examples, and which parameters are checked.
    pub seed: u64,
    /// Numbers of each parameter tensor that are checked.
    pub per_tensor: usize,
    /// What is differentiated.
    pub loss: Loss,
}

/// Examples of a check at most, and numbers of a tensor: unless told, so few that the answer comes at once.
const SAMPLES_MAX: u64 = 256;
const PER_TENSOR_MAX: u64 = 1_000;
const PER_TENSOR: u64 = 5;

impl CheckRequest {
    /// A request with its defaults.
    ///
    /// # Errors
    /// Every fault of the request.
    pub fn parse(request: &Value, datasets: &[DatasetShape], limits: &LabLimits) -> Result<Self, Vec<Fault>> {
        parsed(request, |fields| Self::take(fields, datasets, limits))
    }

    fn take(mut fields: Fields, datasets: &[DatasetShape], limits: &LabLimits) -> Option<Self> {
        let dataset = fields.string("dataset").unwrap_or_else(|| "mnist".to_owned());
        let shape = datasets.iter().find(|shape| shape.name == dataset);
        if shape.is_none() {
            let known: Vec<&str> = datasets.iter().map(|shape| shape.name.as_str()).collect();
            fields.fault("dataset", unknown("dataset", &dataset, &known));
        }
        let classes = shape.map_or(10, |shape| shape.classes);
        let model = fields.string("model");
        let layers = match (&model, fields.take("network").is_some()) {
            (Some(_), true) => {
                fields.fault("model", "send network or model, not both".to_owned());
                None
            }
            (Some(_), false) => None,
            (None, _) => network_layers(&mut fields, &dataset, classes, &limits.spec),
        };
        let samples = fields.integer("samples", 1..=SAMPLES_MAX).unwrap_or(8) as usize;
        let seed = fields.integer("seed", 0..=i64::MAX as u64).unwrap_or(1);
        let per_tensor = fields.integer("parameters", 1..=PER_TENSOR_MAX).unwrap_or(PER_TENSOR) as usize;
        let kind = fields.one_of("loss", &LossKind::NAMED);
        let smoothing = fields.number("label_smoothing", Bounds::from(0.0).below(1.0));
        fields.refuse_unknown();
        let loss =
            Loss { kind: kind.unwrap_or(LossKind::CrossEntropy), label_smoothing: smoothing.unwrap_or(0.0) };
        Some(Self { layers, model, dataset, samples, seed, per_tensor, loss })
    }

    /// Refuses layers for which the answer would take too much.
    ///
    /// # Errors
    /// With the estimate.
    pub fn check_cost(&self, layers: &[LayerSpec], limits: &LabLimits) -> Result<(), Vec<Fault>> {
        let tensors = 2 * layers.iter().filter(|layer| layer.kind().has_parameters()).count();
        // Three passes back and forth for the time of one, and two forward for each number.
        let images = self.samples as f64 * (9.0 + 2.0 * (tensors * self.per_tensor) as f64);
        let cost = AnswerCost::of_passes(layers, images, self.samples as f64, size_of::<f64>());
        limits.check(cost)
    }
}

/// Backpropagation beside numerical differentiation, in `f64`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Examples of the batch.
    pub samples: usize,
    /// Each layer with parameters.
    pub layers: Vec<LayerCheck>,
    /// The largest of all.
    pub max_relative_error: f64,
    /// Numbers that can be trained.
    pub parameters: usize,
    /// Numbers that were checked.
    pub checked: usize,
    /// Seconds of one pass forward and backward, which gives the gradient of every parameter: the best of three.
    pub backpropagation_seconds: f64,
    /// Seconds of two passes forward, which give that of one: their mean.
    pub numerical_seconds_per_parameter: f64,
    /// Seconds that the numerical way takes for every parameter, from those it took for the ones checked.
    pub numerical_seconds: f64,
    /// `numerical_seconds / backpropagation_seconds`.
    pub ratio: f64,
}

/// The check of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCheck {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// Numbers that can be trained.
    pub parameters: usize,
    /// Numbers that were checked.
    pub checked: usize,
    /// Of them those on a kink of relu or max-pooling or too near one, where there is no slope to compare with.
    pub kinks: usize,
    /// The largest [`relative_error`] of the others.
    pub max_relative_error: f64,
    /// The parameter with it; none where all are on kinks.
    pub worst: Option<WorstParameter>,
}

/// Both gradients of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstParameter {
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Its place in row order.
    pub index: usize,
    /// By backpropagation.
    pub backpropagation: f64,
    /// By a central difference.
    pub numerical: f64,
}

/// Different biases that are drawn.
const BIASES: usize = 1 << 32;

/// [`check`] of the layers of the request, with weights and biases drawn from its seed.
///
/// # Errors
/// Where that would take too much, or the layers don't fit.
pub fn check_drawn(
    request: &CheckRequest,
    dataset: &Dataset,
    limits: &LabLimits,
) -> Result<Check, Vec<Fault>> {
    let layers = request.layers.as_deref().unwrap_or_default();
    let misfit =
        |error: ShapeError| vec![Fault { pointer: "/network".to_owned(), detail: error.to_string() }];
    request.check_cost(layers, limits)?;
    let mut network = Network::new(INPUT, layers, request.seed).map_err(misfit)?;
    for layer in network.layers_mut() {
        if let Some((_, bias)) = layer.parameters_mut() {
            // With a bias of 0 a relu would stand on its kink wherever an image is empty, and no difference tells the
            // slope there.
            let start = chosen(BIASES, bias.len(), request.seed);
            bias.iter_mut().zip(start).for_each(|(bias, place)| {
                *bias = 0.01 + 0.1 * place as f64 / BIASES as f64;
            });
        }
    }
    Ok(check(&network, request, dataset))
}

/// Checks some parameters of `network` on the first `samples` of the training examples in a seeded order, as a training
/// step computes them.
pub fn check(network: &Network<f64>, request: &CheckRequest, dataset: &Dataset) -> Check {
    let rows: Vec<u32> = examples(request, dataset);
    let images = dataset.train.images();
    let x = Array2::from_shape_fn((rows.len(), images.ncols()), |(row, pixel)| {
        f64::from(images[[rows[row] as usize, pixel]]) / 255.0
    });
    let labels: Vec<u8> = rows.iter().map(|&row| dataset.train.labels()[row as usize]).collect();
    let order: Vec<u32> = (0..rows.len() as u32).collect();
    let draw = Draw { seed: request.seed, epoch: 1 };
    let (x, pool) = (x.view(), Pool::new(1));
    let batch = Batch { images: &x, labels: &labels, rows: &order, draw };
    let mut differences = Differences::new(network, &request.loss, batch, &pool);
    let mut backpropagation_seconds = f64::INFINITY;
    let mut analytic = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        analytic = differences.backpropagate();
        backpropagation_seconds = backpropagation_seconds.min(started.elapsed().as_secs_f64());
    }
    let mut layers: Vec<LayerCheck> = Vec::new();
    let started = Instant::now();
    for (tensor, analytic) in analytic.iter().enumerate() {
        let parameter = if tensor % 2 == 0 { "weight" } else { "bias" };
        if tensor % 2 == 0 {
            layers.push(LayerCheck {
                layer: network.layer_name(with_parameters(network, tensor / 2)),
                parameters: 0,
                checked: 0,
                kinks: 0,
                max_relative_error: 0.0,
                worst: None,
            });
        }
        let Some(layer) = layers.last_mut() else { continue };
        layer.parameters += analytic.len();
        for index in chosen(analytic.len(), request.per_tensor, request.seed + tensor as u64) {
            layer.checked += 1;
            let backpropagation = analytic[index];
            let Some(numerical) = differences.derivative(tensor, index) else {
                layer.kinks += 1;
                continue;
            };
            let error = relative_error(backpropagation, numerical);
            if layer.worst.is_none() || error > layer.max_relative_error {
                layer.max_relative_error = error;
                layer.worst = Some(WorstParameter { parameter, index, backpropagation, numerical });
            }
        }
    }
    let checked: usize = layers.iter().map(|layer| layer.checked).sum();
    let numerical_seconds_per_parameter = started.elapsed().as_secs_f64() / checked.max(1) as f64;
    let parameters = network.parameter_count();
    let numerical_seconds = numerical_seconds_per_parameter * parameters as f64;
    Check {
        samples: rows.len(),
        max_relative_error: layers.iter().map(|layer| layer.max_relative_error).fold(0.0, f64::max),
        layers,
        parameters,
        checked,
        backpropagation_seconds,
        numerical_seconds_per_parameter,
        numerical_seconds,
        ratio: numerical_seconds / backpropagation_seconds,
    }
}

fn examples(request: &CheckRequest, dataset: &Dataset) -> Vec<u32> {
    chosen(dataset.train.labels().len(), request.samples, request.seed)
        .into_iter()
        .map(|row| row as u32)
        .collect()
}

/// The place of the layer with parameters number `number`.
fn with_parameters(network: &Network<f64>, number: usize) -> usize {
    let has = |index: &usize| network.layers()[*index].parameters().is_some();
    (0..network.layers().len()).filter(has).nth(number).unwrap_or_default()
}

/// So many different places below `length`, all where there are no more: from a seeded start a golden section apart,
/// so that they lie evenly.
fn chosen(length: usize, count: usize, seed: u64) -> Vec<usize> {
    if count >= length {
        return (0..length).collect();
    }
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let start = (seed as f64 * GOLDEN).fract();
    let mut places = Vec::with_capacity(count);
    for turn in 0.. {
        if places.len() == count {
            break;
        }
        let place = ((start + f64::from(turn) * GOLDEN).fract() * length as f64) as usize;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

impl Check {
    /// A table for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<18}{:>12}{:>9}{:>16}   worst parameter: backpropagation, numerical\n",
            "layer", "parameters", "checked", "relative error"
        );
        for LayerCheck { layer, parameters, checked, kinks, max_relative_error, worst } in &self.layers {
            let error = number(*max_relative_error, 2);
            text += &format!("{layer:<18}{parameters:>12}{checked:>9}{error:>16}");
            if let Some(worst) = worst {
                let both = [worst.backpropagation, worst.numerical].map(|value| number(value, 9));
                text += &format!("   {}[{}]: {}", worst.parameter, worst.index, both.join(", "));
            }
            if *kinks > 0 {
                text += &format!("   ({kinks} on or too near a kink of relu or max-pooling left out)");
            }
            text.push('\n');
        }
        let seconds = |seconds: f64| match seconds {
            _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
            _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
            _ => format!("{seconds:.1} s"),
        };
        text += &format!(
            "\nbackpropagation: all {} gradients in {}; numerical: one in {}, all in about {}, {:.0} times as long\n",
            self.parameters,
            seconds(self.backpropagation_seconds),
            seconds(self.numerical_seconds_per_parameter),
            seconds(self.numerical_seconds),
            self.ratio
        );
        text
    }
}
