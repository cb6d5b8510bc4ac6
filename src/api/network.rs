use serde::Serialize;
use utoipa::ToSchema;

use super::spec::{Loss, TrainSpec};
use super::train_request::NetworkChoice;
use crate::lab;

/// The presets.
#[derive(Serialize, ToSchema)]
pub struct NetworkList {
    /// The presets.
    pub networks: Vec<Network>,
}

/// A preset: a network with its whole recipe.
#[derive(Serialize, ToSchema)]
pub struct Network {
    /// The name to use in a request.
    pub name: &'static str,
    /// A description of the preset.
    pub description: &'static str,
    /// The specification of its job.
    pub spec: TrainSpec,
}

/// A network to summarise.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SummaryRequest {
    /// A preset, or layers for ten classes.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// Images in a batch.
    #[schema(minimum = 1, maximum = 1_000_000, default = 128)]
    pub batch_size: Option<usize>,
}

/// The layers of a network, and the cost of a batch.
#[derive(Serialize, ToSchema)]
pub struct NetworkSummary {
    /// Rows, columns and channels of an image.
    pub input_shape: Vec<usize>,
    /// Images in a batch.
    pub batch_size: usize,
    /// The layers, from first to last.
    pub layers: Vec<LayerSummary>,
    /// Number of weights and biases.
    pub parameters: usize,
    /// Floating-point operations for one image forward.
    pub flops_forward: f64,
    /// Floating-point operations for one image backward.
    pub flops_backward: f64,
    /// Bytes of the images of a batch.
    pub input_bytes: usize,
    /// Bytes of all values between the layers for a batch, including the images. Backpropagation keeps these.
    pub kept_bytes: usize,
    /// Bytes that the trainer needs for a step in addition to the parameters.
    pub workspace_bytes: f64,
}

/// A layer and its cost.
#[derive(Serialize, ToSchema)]
pub struct LayerSummary {
    /// Position and type of the layer, such as `0.dense`.
    pub layer: String,
    /// Shape of the output: rows, columns and channels, or its length.
    pub output_shape: Vec<usize>,
    /// Number of weights and biases.
    pub parameters: usize,
    /// Floating-point operations for one image forward.
    pub flops_forward: f64,
    /// Floating-point operations for one image backward.
    pub flops_backward: f64,
    /// Bytes of its output for a batch.
    pub kept_bytes: usize,
}

/// A gradient check: of `network` or of `model`, not both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientCheckRequest {
    /// A preset, or layers. The weights are random.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// A model, as `name`, `name@3` or `name@alias`, whose weights are checked.
    pub model: Option<String>,
    /// The data set of the examples.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// Examples in the batch.
    #[schema(minimum = 1, maximum = 256, default = 8)]
    pub samples: Option<usize>,
    /// The seed for the weights, the examples and the choice of parameters.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807i64, default = 1)]
    pub seed: Option<u64>,
    /// How many elements of each parameter tensor to check.
    #[schema(minimum = 1, maximum = 1000, default = 5)]
    pub parameters: Option<usize>,
    /// The loss to differentiate.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// ε of the targets.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0))]
    pub label_smoothing: Option<f64>,
}

/// A comparison of backpropagation with numerical differentiation in 64 bits.
#[derive(Serialize, ToSchema)]
pub struct GradientCheck {
    /// Examples in the batch.
    pub samples: usize,
    /// The layers that have parameters.
    pub layers: Vec<LayerCheck>,
    /// The largest relative error of all layers.
    pub max_relative_error: f64,
    /// Number of weights and biases.
    pub parameters: usize,
    /// How many parameters were checked.
    pub checked: usize,
    /// Seconds of a forward and backward pass, which gives the gradients of all parameters: the fastest of three.
    pub backpropagation_seconds: f64,
    /// Mean seconds of the two to ten forward passes that give the derivative with respect to one parameter.
    pub numerical_seconds_per_parameter: f64,
    /// Seconds that numerical differentiation would take for all parameters.
    pub numerical_seconds: f64,
    /// `numerical_seconds / backpropagation_seconds`.
    pub ratio: f64,
}

/// The check of a layer.
#[derive(Serialize, ToSchema)]
pub struct LayerCheck {
    /// Position and type of the layer, such as `0.dense`.
    pub layer: String,
    /// Number of weights and biases.
    pub parameters: usize,
    /// How many parameters were checked.
    pub checked: usize,
    /// How many of the checked parameters are at or near a kink of relu or max-pooling, where there is no derivative
    /// to compare with.
    pub kinks: usize,
    /// The largest relative error of the other checked parameters.
    pub max_relative_error: f64,
    /// The parameter with this error; null if all are at kinks.
    pub worst: Option<WorstParameter>,
}

/// Both gradients of one parameter.
#[derive(Serialize, ToSchema)]
pub struct WorstParameter {
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Index in row order.
    pub index: usize,
    /// The gradient by backpropagation.
    pub backpropagation: f64,
    /// The gradient by a central difference.
    pub numerical: f64,
}

impl From<lab::Summary> for NetworkSummary {
    fn from(summary: lab::Summary) -> Self {
        let lab::Summary {
            input_shape,
            batch_size,
            layers,
            parameters,
            flops_forward,
            flops_backward,
            input_bytes,
            kept_bytes,
            workspace_bytes,
        } = summary;
        Self {
            input_shape,
            batch_size,
            layers: layers.into_iter().map(Into::into).collect(),
            parameters,
            flops_forward,
            flops_backward,
            input_bytes,
            kept_bytes,
            workspace_bytes,
        }
    }
}

impl From<lab::LayerSummary> for LayerSummary {
    fn from(summary: lab::LayerSummary) -> Self {
        let lab::LayerSummary { layer, output_shape, parameters, flops_forward, flops_backward, kept_bytes } =
            summary;
        Self { layer, output_shape, parameters, flops_forward, flops_backward, kept_bytes }
    }
}

impl From<lab::Check> for GradientCheck {
    fn from(check: lab::Check) -> Self {
        let lab::Check {
            samples,
            layers,
            max_relative_error,
            parameters,
            checked,
            passes: _,
            backpropagation_seconds,
            numerical_seconds_per_parameter,
            numerical_seconds,
            ratio,
        } = check;
        Self {
            samples,
            layers: layers.into_iter().map(Into::into).collect(),
            max_relative_error,
            parameters,
            checked,
            backpropagation_seconds,
            numerical_seconds_per_parameter,
            numerical_seconds,
            ratio,
        }
    }
}

impl From<lab::LayerCheck> for LayerCheck {
    fn from(check: lab::LayerCheck) -> Self {
        let lab::LayerCheck { layer, parameters, checked, kinks, max_relative_error, worst } = check;
        Self { layer, parameters, checked, kinks, max_relative_error, worst: worst.map(Into::into) }
    }
}

impl From<lab::WorstParameter> for WorstParameter {
    fn from(worst: lab::WorstParameter) -> Self {
        let lab::WorstParameter { parameter, index, backpropagation, numerical } = worst;
        Self { parameter, index, backpropagation, numerical }
    }
}
