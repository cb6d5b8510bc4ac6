//! What happens inside a published network.

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
    /// An image; send it or `example`.
    pub image: Option<Image>,
    /// How bright the brightest pixel of `image` is.
    #[schema(default = json!("byte"))]
    pub scale: Option<Scale>,
    /// An example of a data set; send it or `image`.
    pub example: Option<ExampleRequest>,
    /// The class that it should be taken for; that of the example unless given.
    #[schema(minimum = 0)]
    pub label: Option<usize>,
    /// The rate of the update `w ← w − rate · ∂L/∂w`.
    #[schema(exclusive_minimum = 0, maximum = 1e6, default = json!(0.1))]
    pub learning_rate: Option<f64>,
    /// What is differentiated.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
}

/// An image of the request, or an example, and a parameter.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MicroscopeRequest {
    /// An image; send it or `example`.
    pub image: Option<Image>,
    /// How bright the brightest pixel of `image` is.
    #[schema(default = json!("byte"))]
    pub scale: Option<Scale>,
    /// An example of a data set; send it or `image`.
    pub example: Option<ExampleRequest>,
    /// The class that it should be taken for; that of the example unless given.
    #[schema(minimum = 0)]
    pub label: Option<usize>,
    /// What is differentiated.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// The layer of the parameter, as `0.dense` or `0`.
    pub layer: String,
    /// Which of its tensors.
    #[schema(default = json!("weight"))]
    pub parameter: Option<ParameterName>,
    /// The place in the tensor: along each axis, or one in row order.
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

/// A place in a tensor.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum ParameterIndex {
    /// In row order.
    Flat(usize),
    /// Along each axis.
    Axes(Vec<usize>),
}

/// An example of a data set.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExampleRequest {
    /// The data set.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// Its split.
    #[schema(default = json!("test"))]
    pub split: Option<Split>,
    /// The place in the split, from 0.
    #[schema(minimum = 0)]
    pub index: usize,
}

/// One step of backpropagation on one image: what every layer held, what flowed back, and what one update did to the loss.
#[derive(Serialize, ToSchema)]
pub struct Trace {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// The class it should be.
    pub label: usize,
    /// The class it is taken for before the update.
    pub predicted: usize,
    /// The probabilities before the update.
    pub probabilities: Vec<f64>,
    /// What is differentiated.
    pub loss: Loss,
    /// `inference`: a `batch_norm` takes its running statistics, a `dropout` lets all through.
    pub mode: &'static str,
    /// The loss before the update.
    pub loss_before: f64,
    /// The loss after it.
    pub loss_after: f64,
    /// The rate of the update.
    pub learning_rate: f64,
    /// First to last.
    pub layers: Vec<LayerTrace>,
}

/// What a layer held and what flowed back through it.
#[derive(Serialize, ToSchema)]
pub struct LayerTrace {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// Rows, columns and channels of what comes out, or its length.
    pub output_shape: Vec<usize>,
    /// What comes out.
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

/// The figures of an array, and with `arrays` its numbers.
#[derive(Serialize, ToSchema)]
pub struct ArrayFigures {
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
    /// Euclidean norm.
    pub norm: f64,
    /// Share of exact zeros.
    #[schema(minimum = 0, maximum = 1)]
    pub zero_fraction: f64,
    /// Its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub array: Option<Tensor>,
}

/// The chain rule for one parameter on one image: `∂L/∂w` is the value that enters it times the error that reaches it, summed
/// over the places where it is used.
#[derive(Serialize, ToSchema)]
pub struct Microscope {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// The layer, as `0.dense`.
    pub layer: String,
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Its place in the tensor.
    pub index: Vec<usize>,
    /// The parameter itself.
    pub value: f64,
    /// The class the image should be.
    pub label: usize,
    /// The loss.
    pub loss: f64,
    /// `∂L/∂w` by backpropagation.
    pub gradient: f64,
    /// `(L(w + h) − L(w − h)) / 2h`; null on a kink of relu or max-pooling, or too near one.
    pub numerical: Option<f64>,
    /// `|a − n| / max(|a|, |n|, 10⁻⁴)` of the two; null without `numerical`.
    pub relative_error: Option<f64>,
    /// Places where it is used.
    pub uses: usize,
    /// Places where neither what enters nor the error that comes back is 0.
    pub reached: usize,
    /// The strongest of them, one at least.
    pub terms: Vec<Term>,
    /// The strongest paths from it to the loss.
    pub paths: Vec<PathTrace>,
    /// All of this as a teacher would write it.
    pub text: String,
}

/// One use of the parameter.
#[derive(Serialize, ToSchema)]
pub struct Term {
    /// Of what comes out of the layer, the value it is used for.
    pub output: Vec<usize>,
    /// The value that enters it: 1 for a bias.
    pub input: f64,
    /// `∂L/∂output`.
    pub error: f64,
    /// `input · error`.
    pub product: f64,
}

/// One way from the parameter to the loss.
#[derive(Serialize, ToSchema)]
pub struct PathTrace {
    /// The product of all local derivatives: this path's part of the gradient.
    pub product: f64,
    /// What it passes.
    pub steps: Vec<PathStep>,
}

/// One value on a path.
#[derive(Serialize, ToSchema)]
pub struct PathStep {
    /// The layer it comes out of, or `loss`.
    pub layer: String,
    /// Its place there.
    pub unit: Vec<usize>,
    /// The value.
    pub value: f64,
    /// Its derivative by the value before it on the path.
    pub local: f64,
}

/// The parameters of a layer, looked at.
#[derive(Serialize, ToSchema)]
pub struct LayerWeights {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// The layer, as `0.dense`.
    pub layer: String,
    /// Of the weight: (inputs, units), (k, k, channels, filters), or (channels).
    pub shape: Vec<usize>,
    /// Numbers of weight and bias.
    pub parameters: usize,
    /// The figures of the weight.
    pub weight: ArrayFigures,
    /// Where the numbers of the weight lie.
    pub histogram: Histogram,
    /// The figures of the bias.
    pub bias: ArrayFigures,
}

/// How many numbers lie where, between the least and the largest.
#[derive(Serialize, ToSchema)]
pub struct Histogram {
    /// The borders of the bins, one more than there are bins.
    pub edges: Vec<f64>,
    /// Numbers of each; a border belongs to the bin above it, the last one to the last bin.
    pub counts: Vec<usize>,
}

/// Why images are taken for what they are.
#[derive(Serialize, ToSchema)]
pub struct Explanations {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// One for each image, in order.
    pub explanations: Vec<Explanation>,
}

/// Which pixels speak for a class.
#[derive(Serialize, ToSchema)]
pub struct Explanation {
    /// The class whose score is explained.
    pub label: usize,
    /// Its score before the softmax.
    pub score: f64,
    /// `∂score/∂pixel`, a pixel being 0 to 1: 28 rows of 28.
    pub saliency: Vec<Vec<f32>>,
    /// `pixel · ∂score/∂pixel`.
    pub input_times_gradient: Vec<Vec<f32>>,
    /// `pixel · mean of ∂score/∂pixel` on the straight way from a black image to this one.
    pub integrated_gradients: Vec<Vec<f32>>,
    /// How well the sum of `integrated_gradients` is what it must be.
    pub completeness: Completeness,
}

/// Integrated gradients add up to what the image changes in the score.
#[derive(Serialize, ToSchema)]
pub struct Completeness {
    /// `Σ integrated_gradients`.
    pub sum: f64,
    /// The score, less that of a black image.
    pub difference: f64,
    /// `|sum − difference| / max(|sum|, |difference|, 10⁻⁴)`.
    pub relative_error: f64,
}

/// The model that an answer is about.
pub struct About {
    /// Its name.
    pub model: String,
    /// Its version.
    pub version: u32,
}

impl Trace {
    /// The trace of an image through a model.
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
    /// A parameter of a model under the microscope.
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
    /// The weights of a layer of a model.
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
    /// Explanations by a model.
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
