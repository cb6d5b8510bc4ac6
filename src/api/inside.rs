//! Inspections of a published network.

use serde::Serialize;
use utoipa::ToSchema;

use super::dataset::Split;
use super::image::{Image, Scale};
use super::single_layer::Tensor;
use super::spec::Loss;
use crate::lab;

/// An image of the request, or an example, and one step of training on it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// An image. Send this or `example`.
    pub image: Option<Image>,
    /// The value of the brightest pixel of `image`.
    #[schema(default = json!("byte"))]
    pub scale: Option<Scale>,
    /// An example of a data set. Send this or `image`.
    pub example: Option<ExampleRequest>,
    /// The class that the model should predict; by default the class of the example.
    #[schema(minimum = 0)]
    pub label: Option<usize>,
    /// Learning rate of the update `w ← w − rate · ∂L/∂w`.
    #[schema(exclusive_minimum = 0, maximum = 1e6, default = json!(0.1))]
    pub learning_rate: Option<f64>,
    /// The loss to differentiate.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
}

/// An image of the request, or an example, and a parameter.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MicroscopeRequest {
    /// An image. Send this or `example`.
    pub image: Option<Image>,
    /// The value of the brightest pixel of `image`.
    #[schema(default = json!("byte"))]
    pub scale: Option<Scale>,
    /// An example of a data set. Send this or `image`.
    pub example: Option<ExampleRequest>,
    /// The class that the model should predict; by default the class of the example.
    #[schema(minimum = 0)]
    pub label: Option<usize>,
    /// The loss to differentiate.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// The layer of the parameter, such as `0.dense` or `0`.
    pub layer: String,
    /// The tensor of the parameter.
    #[schema(default = json!("weight"))]
    pub parameter: Option<ParameterName>,
    /// The position in the tensor: an index along each axis, or one index in row order.
    pub index: ParameterIndex,
}

/// A tensor of parameters.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ParameterName {
    /// The weight.
    Weight,
    /// The bias.
    Bias,
}

/// A position in a tensor.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum ParameterIndex {
    /// The index in row order.
    Flat(usize),
    /// The index along each axis.
    Axes(Vec<usize>),
}

/// An example of a data set.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExampleRequest {
    /// The data set.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// The split of the data set.
    #[schema(default = json!("test"))]
    pub split: Option<Split>,
    /// Index in the split, from 0.
    #[schema(minimum = 0)]
    pub index: usize,
}

/// One step of backpropagation on one image: the values and gradients of every layer, and the effect of one update on the loss.
#[derive(Serialize, ToSchema)]
pub struct Trace {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// The class that the model should predict.
    pub label: usize,
    /// The class that is predicted before the update.
    pub predicted: usize,
    /// The probabilities before the update.
    pub probabilities: Vec<f64>,
    /// The loss to differentiate.
    pub loss: Loss,
    /// `inference`: `batch_norm` uses its running statistics, `dropout` changes nothing.
    pub mode: &'static str,
    /// The loss before the update.
    pub loss_before: f64,
    /// The loss after the update.
    pub loss_after: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// The layers, from first to last.
    pub layers: Vec<LayerTrace>,
}

/// The values and gradients of a layer.
#[derive(Serialize, ToSchema)]
pub struct LayerTrace {
    /// Position and type of the layer, such as `0.dense`.
    pub layer: String,
    /// Shape of the output: rows, columns and channels, or its length.
    pub output_shape: Vec<usize>,
    /// The values that the layer outputs.
    pub output: ArrayFigures,
    /// `∂L/∂output`.
    pub error: ArrayFigures,
    /// `∂L/∂W`; null without a weight.
    pub weight_gradient: Option<ArrayFigures>,
    /// `∂L/∂b`; null without a bias.
    pub bias_gradient: Option<ArrayFigures>,
    /// `‖ΔW‖ / ‖W‖`, biases included; null without parameters, or if all of them are 0.
    pub update_ratio: Option<f64>,
}

/// Statistics of an array, and with `arrays` its values.
#[derive(Serialize, ToSchema)]
pub struct ArrayFigures {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Arithmetic mean of all values.
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
    /// Euclidean norm.
    pub norm: f64,
    /// Fraction of exact zeros.
    #[schema(minimum = 0, maximum = 1)]
    pub zero_fraction: f64,
    /// The values.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub array: Option<Tensor>,
}

/// The chain rule for one parameter on one image: `∂L/∂w` is the input of the parameter times the error that reaches it, summed
/// over all outputs that use the parameter.
#[derive(Serialize, ToSchema)]
pub struct Microscope {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// The layer, such as `0.dense`.
    pub layer: String,
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Position in the tensor.
    pub index: Vec<usize>,
    /// The value of the parameter.
    pub value: f64,
    /// The class that the model should predict.
    pub label: usize,
    /// The loss of the image, in nats for cross-entropy.
    pub loss: f64,
    /// `∂L/∂w` by backpropagation.
    pub gradient: f64,
    /// `(L(w + h) − L(w − h)) / 2h`; null at or near a kink of relu or max-pooling.
    pub numerical: Option<f64>,
    /// `|a − n| / max(|a|, |n|, 10⁻⁴)` of the two gradients; null without `numerical`.
    pub relative_error: Option<f64>,
    /// The number of outputs that use the parameter.
    pub uses: usize,
    /// The number of these outputs whose input and error are not 0.
    pub reached: usize,
    /// The strongest uses, at least one.
    pub terms: Vec<Term>,
    /// The strongest paths from the parameter to the loss.
    pub paths: Vec<PathTrace>,
    /// The whole result as text.
    pub text: String,
}

/// One use of the parameter.
#[derive(Serialize, ToSchema)]
pub struct Term {
    /// The element of the layer's output.
    pub output: Vec<usize>,
    /// The input that the parameter is multiplied by; 1 for a bias.
    pub input: f64,
    /// `∂L/∂output`.
    pub error: f64,
    /// `input · error`.
    pub product: f64,
}

/// A path from the parameter to the loss.
#[derive(Serialize, ToSchema)]
pub struct PathTrace {
    /// The product of all local derivatives, which is this path's part of the gradient.
    pub product: f64,
    /// The values on the path.
    pub steps: Vec<PathStep>,
}

/// One value on a path.
#[derive(Serialize, ToSchema)]
pub struct PathStep {
    /// The layer that outputs it, or `loss`.
    pub layer: String,
    /// Index in the output.
    pub unit: Vec<usize>,
    /// What the unit outputs for the image.
    pub value: f64,
    /// The derivative of the value with respect to the previous value on the path.
    pub local: f64,
}

/// Statistics of the parameters of a layer.
#[derive(Serialize, ToSchema)]
pub struct LayerWeights {
    /// The model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// The layer, such as `0.dense`.
    pub layer: String,
    /// Shape of the weight: (inputs, units), (k, k, channels, filters), or (channels).
    pub shape: Vec<usize>,
    /// Number of weights and biases.
    pub parameters: usize,
    /// Statistics of the weight.
    pub weight: ArrayFigures,
    /// Histogram of the weight.
    pub histogram: Histogram,
    /// Statistics of the bias.
    pub bias: ArrayFigures,
}

/// A histogram between minimum and maximum.
#[derive(Serialize, ToSchema)]
pub struct Histogram {
    /// The edges of the bins, one more than bins.
    pub edges: Vec<f64>,
    /// The number of values in each bin. A value on an edge belongs to the bin above, one on the last edge to the last bin.
    pub counts: Vec<usize>,
}

/// Explanations of the scores of images.
#[derive(Serialize, ToSchema)]
pub struct Explanations {
    /// The model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// One explanation for each image, in order.
    pub explanations: Vec<Explanation>,
}

/// How each pixel contributes to the score of a class.
#[derive(Serialize, ToSchema)]
pub struct Explanation {
    /// The class whose score is explained.
    pub label: usize,
    /// The score before the softmax.
    pub score: f64,
    /// `∂score/∂pixel` for pixels from 0 to 1: 28 rows of 28.
    pub saliency: Vec<Vec<f32>>,
    /// `pixel · ∂score/∂pixel`.
    pub input_times_gradient: Vec<Vec<f32>>,
    /// `pixel · mean of ∂score/∂pixel` on the straight line from a black image to this one.
    pub integrated_gradients: Vec<Vec<f32>>,
    /// How well `integrated_gradients` add up.
    pub completeness: Completeness,
}

/// The check that integrated gradients add up to the image's change of the score.
#[derive(Serialize, ToSchema)]
pub struct Completeness {
    /// `Σ integrated_gradients`.
    pub sum: f64,
    /// The score minus the score of a black image.
    pub difference: f64,
    /// `|sum − difference| / max(|sum|, |difference|, 10⁻⁴)`.
    pub relative_error: f64,
}

/// The model that a response is about.
pub struct About {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
}

impl Trace {
    /// Converts the trace of an image.
    pub fn new(About { model, version }: About, trace: lab::Trace) -> Self {
        let lab::Trace {
            label,
            predicted,
            probabilities,
            loss,
            mode,
            loss_before,
            loss_after,
            learning_rate,
            layers,
        } = trace;
        Self {
            model,
            version,
            label,
            predicted,
            probabilities,
            loss: loss.into(),
            mode,
            loss_before,
            loss_after,
            learning_rate,
            layers: layers.into_iter().map(Into::into).collect(),
        }
    }
}

impl Microscope {
    /// Converts the chain rule of a parameter.
    pub fn new(About { model, version }: About, found: lab::Microscope) -> Self {
        let lab::Microscope {
            layer,
            parameter,
            index,
            value,
            label,
            loss,
            gradient,
            numerical,
            relative_error,
            uses,
            reached,
            terms,
            paths,
            text,
        } = found;
        Self {
            model,
            version,
            layer,
            parameter,
            index,
            value,
            label,
            loss,
            gradient,
            numerical,
            relative_error,
            uses,
            reached,
            terms: terms.into_iter().map(Into::into).collect(),
            paths: paths.into_iter().map(Into::into).collect(),
            text,
        }
    }
}

impl LayerWeights {
    /// Converts the weights of a layer.
    pub fn new(About { model, version }: About, weights: lab::LayerWeights) -> Self {
        let lab::LayerWeights { layer, shape, parameters, weight, histogram, bias } = weights;
        let lab::Histogram { edges, counts } = histogram;
        Self {
            model,
            version,
            layer,
            shape,
            parameters,
            weight: ArrayFigures::new(weight, None),
            histogram: Histogram { edges, counts },
            bias: ArrayFigures::new(bias, None),
        }
    }
}

impl Explanations {
    /// Converts explanations.
    pub fn new(About { model, version }: About, explanations: Vec<lab::Explanation>) -> Self {
        Self { model, version, explanations: explanations.into_iter().map(Into::into).collect() }
    }
}

impl From<lab::LayerTrace> for LayerTrace {
    fn from(trace: lab::LayerTrace) -> Self {
        let lab::LayerTrace {
            layer,
            output_shape,
            output,
            error,
            weight_gradient,
            bias_gradient,
            update_ratio,
        } = trace;
        Self {
            layer,
            output_shape,
            output: output.into(),
            error: error.into(),
            weight_gradient: weight_gradient.map(Into::into),
            bias_gradient: bias_gradient.map(Into::into),
            update_ratio,
        }
    }
}

impl From<lab::TracePart> for ArrayFigures {
    fn from(lab::TracePart { statistics, array }: lab::TracePart) -> Self {
        Self::new(statistics, array.map(Into::into))
    }
}

impl ArrayFigures {
    fn new(statistics: lab::TensorStatistics, array: Option<Tensor>) -> Self {
        let lab::TensorStatistics { min, max, mean, deviation, norm, zero_fraction } = statistics;
        Self { min, max, mean, deviation, norm, zero_fraction, array }
    }
}

impl From<lab::Term> for Term {
    fn from(lab::Term { output, input, error, product }: lab::Term) -> Self {
        Self { output, input, error, product }
    }
}

impl From<lab::PathTrace> for PathTrace {
    fn from(lab::PathTrace { product, steps }: lab::PathTrace) -> Self {
        let step = |lab::PathStep { layer, unit, value, local }| PathStep { layer, unit, value, local };
        Self { product, steps: steps.into_iter().map(step).collect() }
    }
}

impl From<lab::Explanation> for Explanation {
    fn from(explanation: lab::Explanation) -> Self {
        let lab::Explanation {
            label,
            score,
            saliency,
            input_times_gradient,
            integrated_gradients,
            completeness,
        } = explanation;
        let lab::Completeness { sum, difference, relative_error } = completeness;
        let completeness = Completeness { sum, difference, relative_error };
        Self { label, score, saliency, input_times_gradient, integrated_gradients, completeness }
    }
}
