mod choice;
mod estimate;
mod table;

use std::time::Duration;

use ndarray::Array2;
use serde::Serialize;
use serde_json::Value;

use self::choice::chosen;
use super::price::LabLimits;
use crate::data::{Dataset, DatasetShape, mnist};
use crate::fields::{Fault, Fields, Interval, parsed, unknown};
use crate::nn::{
    Batch, Differences, Draw, Layer, LayerSpec, Loss, LossKind, Network, Shape, ShapeError, Stopped,
    ThreadPool, relative_error,
};
use crate::train::network_layers;

/// A request for a gradient check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRequest {
    /// The layers of the request. `None` if it names a model.
    pub layers: Option<Vec<LayerSpec>>,
    /// The model whose weights are checked.
    pub model: Option<String>,
    /// Name of the data set.
    pub dataset: String,
    /// The shape of an image.
    pub input: Shape,
    /// Number of examples in the batch.
    pub samples: usize,
    /// Seed for the weights, the examples, and the choice of parameters.
    pub seed: u64,
    /// Number of parameters checked per tensor.
    pub per_tensor: usize,
    /// The loss that is differentiated.
    pub loss: Loss,
}

/// Largest number of examples, and largest and default number of parameters per tensor. The default is small
/// enough for an immediate answer.
const SAMPLES_MAX: u64 = 256;
const PER_TENSOR_MAX: u64 = 1_000;
const PER_TENSOR: u64 = 5;

/// Number of timed backpropagations.
const BACKPROPAGATIONS: usize = 3;

impl CheckRequest {
    /// Parses a request and fills in defaults.
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
        let shape = shape.cloned().unwrap_or_else(mnist::shape);
        let model = fields.string("model");
        let layers = match (&model, fields.take("network").is_some()) {
            (Some(_), true) => {
                fields.fault("model", "send network or model, not both".to_owned());
                None
            }
            (Some(_), false) => None,
            (None, _) => network_layers(&mut fields, &shape, &limits.spec),
        };
        let samples = fields.integer("samples", 1..=SAMPLES_MAX).unwrap_or(8) as usize;
        let seed = fields.integer("seed", 0..=i64::MAX as u64).unwrap_or(1);
        let per_tensor = fields.integer("parameters", 1..=PER_TENSOR_MAX).unwrap_or(PER_TENSOR) as usize;
        let kind = fields.one_of("loss", &LossKind::NAMED);
        let smoothing = fields.number("label_smoothing", Interval::from(0.0).below(1.0));
        fields.refuse_unknown();
        let loss =
            Loss { kind: kind.unwrap_or(LossKind::CrossEntropy), label_smoothing: smoothing.unwrap_or(0.0) };
        Some(Self { layers, model, dataset, input: shape.input, samples, seed, per_tensor, loss })
    }
}

/// Backpropagation compared with numerical differentiation, in `f64`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Number of examples in the batch.
    pub samples: usize,
    /// The layers that have parameters.
    pub layers: Vec<LayerCheck>,
    /// The largest relative error of all layers.
    pub max_relative_error: f64,
    /// Number of trainable parameters.
    pub parameters: usize,
    /// Number of parameters that were checked.
    pub checked: usize,
    /// Number of forward passes.
    #[serde(skip)]
    pub passes: usize,
    /// Seconds of one forward and backward pass, which gives the gradient of every parameter. The best of
    /// three.
    pub backpropagation_seconds: f64,
    /// Mean seconds of the forward passes that give the derivative with respect to one parameter.
    pub numerical_seconds_per_parameter: f64,
    /// Estimated seconds for the numerical derivatives of all parameters, from the time for the checked ones.
    pub numerical_seconds: f64,
    /// `numerical_seconds / backpropagation_seconds`.
    pub ratio: f64,
}

/// The check of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCheck {
    /// Index and kind, such as `0.dense`.
    pub layer: String,
    /// Number of trainable parameters.
    pub parameters: usize,
    /// Number of parameters that were checked.
    pub checked: usize,
    /// Number of checked parameters at or close to a kink of relu or max-pooling. They have no derivative to compare
    /// with.
    pub kinks: usize,
    /// The largest [`relative_error`] of the other checked parameters.
    pub max_relative_error: f64,
    /// The parameter with the largest error. `None` if all are at kinks.
    pub worst: Option<WorstParameter>,
}

/// Both derivatives of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstParameter {
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Index in row-major order.
    pub index: usize,
    /// The derivative by backpropagation.
    pub backpropagation: f64,
    /// The derivative by central difference.
    pub numerical: f64,
}

/// Number of different biases that can be drawn.
const BIASES: u64 = 1 << 32;

impl CheckRequest {
    /// Creates the network of the request, with weights and biases drawn from its seed.
    ///
    /// # Errors
    /// If the layers don't fit each other.
    pub fn draw(&self) -> Result<Network<f64>, Vec<Fault>> {
        let misfit =
            |error: ShapeError| vec![Fault { pointer: "/network".to_owned(), detail: error.to_string() }];
        let layers = self.layers.as_deref().unwrap_or_default();
        let mut network = Network::new(self.input, layers, self.seed).map_err(misfit)?;
        for (_, bias) in network.layers_mut().iter_mut().filter_map(Layer::parameters_mut) {
            // With a bias of 0, a relu is at its kink wherever the image is empty. It has no derivative there.
            let start = chosen(BIASES, bias.len(), self.seed);
            bias.iter_mut().zip(start).for_each(|(bias, place)| {
                *bias = 0.01 + 0.1 * place as f64 / BIASES as f64;
            });
        }
        Ok(network)
    }
}

/// Runs [`check`] on the layers of the request. See [`CheckRequest::draw`].
///
/// # Errors
/// If the cost exceeds a limit, or the layers don't fit each other.
pub fn check_drawn(
    request: &CheckRequest,
    dataset: &Dataset,
    limits: &LabLimits,
    clock: &dyn Fn() -> Duration,
) -> Result<Check, Vec<Fault>> {
    limits.check(request.cost(request.layers.as_deref().unwrap_or_default()))?;
    Ok(check(request.draw()?, request, dataset, clock, &|| true).expect("never stopped"))
}

/// Checks some parameters of `network` on `samples` training examples, chosen by the seed. The gradients are computed
/// as in a training step. `clock` returns the time since some moment, and measures how long the passes take. `go_on` is
/// called before each pass, and the work stops if it returns false.
///
/// # Errors
/// If `go_on` returns false.
pub fn check(
    network: Network<f64>,
    request: &CheckRequest,
    dataset: &Dataset,
    clock: &dyn Fn() -> Duration,
    go_on: &dyn Fn() -> bool,
) -> Result<Check, Stopped> {
    let rows: Vec<u32> = examples(request, dataset);
    let images = dataset.train.images();
    let x = Array2::from_shape_fn((rows.len(), images.ncols()), |(row, pixel)| {
        f64::from(images[[rows[row] as usize, pixel]]) / 255.0
    });
    let labels: Vec<u16> = rows.iter().map(|&row| dataset.train.labels()[row as usize]).collect();
    let order: Vec<u32> = (0..rows.len() as u32).collect();
    let draw = Draw { seed: request.seed, epoch: 1 };
    let (x, pool) = (x.view(), ThreadPool::new(1));
    let batch = Batch { images: &x, labels: &labels, rows: &order, draw };
    let (mut layers, mut tensors) = (Vec::new(), Vec::new());
    for (index, layer) in network.layers().iter().enumerate() {
        let Some((weight, bias)) = layer.parameters() else { continue };
        layers.push(LayerCheck::new(network.layer_name(index), weight.len() + bias.len()));
        for length in [weight.len(), bias.len()] {
            tensors.push(Chosen::new(length, request, tensors.len() as u64));
        }
    }
    let parameters = network.parameter_count();
    let mut differences = Differences::new(network, &request.loss, batch, &pool, go_on);
    let mut backpropagation_seconds = f64::INFINITY;
    for _ in 0..BACKPROPAGATIONS {
        let started = clock();
        differences.backpropagate(|tensor, first, part| tensors[tensor].take(first, part))?;
        backpropagation_seconds = backpropagation_seconds.min(seconds_since(started, clock));
    }
    let started = clock();
    for (tensor, chosen) in tensors.iter().enumerate() {
        for (&index, &backpropagation) in chosen.indices.iter().zip(&chosen.gradient) {
            let numerical = differences.derivative(tensor, index)?;
            layers[tensor / 2].note(tensor, index, backpropagation, numerical);
        }
    }
    let checked: usize = layers.iter().map(|layer| layer.checked).sum();
    let numerical_seconds_per_parameter = seconds_since(started, clock) / checked.max(1) as f64;
    let numerical_seconds = numerical_seconds_per_parameter * parameters as f64;
    Ok(Check {
        samples: rows.len(),
        max_relative_error: layers.iter().map(|layer| layer.max_relative_error).fold(0.0, f64::max),
        layers,
        parameters,
        checked,
        passes: differences.passes(),
        backpropagation_seconds,
        numerical_seconds_per_parameter,
        numerical_seconds,
        ratio: numerical_seconds / backpropagation_seconds,
    })
}

fn seconds_since(started: Duration, clock: &dyn Fn() -> Duration) -> f64 {
    clock().saturating_sub(started).as_secs_f64()
}

fn examples(request: &CheckRequest, dataset: &Dataset) -> Vec<u32> {
    chosen(dataset.train.labels().len() as u64, request.samples, request.seed)
        .into_iter()
        .map(|row| row as u32)
        .collect()
}

/// The parameters of a tensor that are checked.
struct Chosen {
    /// Their indices, in the order in which they are checked.
    indices: Vec<usize>,
    /// The indices in ascending order, each with its position in `indices`.
    sorted: Vec<(usize, usize)>,
    /// Their gradients by backpropagation.
    gradient: Vec<f64>,
}

impl Chosen {
    /// Chooses parameters of the tensor at index `tensor`, which has `length` elements.
    fn new(length: usize, request: &CheckRequest, tensor: u64) -> Self {
        let indices = chosen(length as u64, request.per_tensor, request.seed.wrapping_add(tensor));
        let indices: Vec<usize> = indices.into_iter().map(|place| place as usize).collect();
        let mut sorted: Vec<(usize, usize)> = indices.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        Self { gradient: vec![0.0; indices.len()], indices, sorted }
    }

    /// Copies the chosen gradients from `part`, a part of the tensor's gradient that starts at `first`.
    fn take(&mut self, first: usize, part: &[f64]) {
        let begin = self.sorted.partition_point(|&(place, _)| place < first);
        let of_part = self.sorted[begin..].iter().take_while(|(place, _)| place - first < part.len());
        of_part.for_each(|&(place, turn)| self.gradient[turn] = part[place - first]);
    }
}

impl LayerCheck {
    fn new(layer: String, parameters: usize) -> Self {
        Self { layer, parameters, checked: 0, kinks: 0, max_relative_error: 0.0, worst: None }
    }

    /// Records both derivatives of a parameter. It is a bias if `tensor` is odd.
    fn note(&mut self, tensor: usize, index: usize, backpropagation: f64, numerical: Option<f64>) {
        self.checked += 1;
        let Some(numerical) = numerical else {
            self.kinks += 1;
            return;
        };
        let error = relative_error(backpropagation, numerical);
        if self.worst.is_none() || error > self.max_relative_error {
            self.max_relative_error = error;
            let parameter = if tensor.is_multiple_of(2) { "weight" } else { "bias" };
            self.worst = Some(WorstParameter { parameter, index, backpropagation, numerical });
        }
    }
}
