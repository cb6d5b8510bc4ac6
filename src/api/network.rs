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
    /// Its name in a request.
    pub name: &'static str,
    /// What it is.
    pub description: &'static str,
    /// The job that it is.
    pub spec: TrainSpec,
}

/// A network to be summed up.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SummaryRequest {
    /// A preset, or layers for ten classes.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// Images of a batch.
    #[schema(minimum = 1, maximum = 1_000_000, default = 128)]
    pub batch_size: Option<usize>,
}

/// What a network is made of, and what a batch takes.
#[derive(Serialize, ToSchema)]
pub struct NetworkSummary {
    /// Rows, columns and channels of an image.
    pub input_shape: Vec<usize>,
    /// Images of a batch.
    pub batch_size: usize,
    /// First to last.
    pub layers: Vec<LayerSummary>,
    /// Trained numbers.
    pub parameters: usize,
    /// Floating-point operations for one image forward.
    pub flops_forward: f64,
    /// Floating-point operations for one image backward.
    pub flops_backward: f64,
    /// Bytes of the images of a batch.
    pub input_bytes: usize,
    /// Bytes of every value between the layers, the images included, of a batch: what backpropagation needs kept.
    pub kept_bytes: usize,
    /// Bytes that the trainer holds for a step besides the parameters.
    pub workspace_bytes: f64,
}

/// What a layer is and takes.
#[derive(Serialize, ToSchema)]
pub struct LayerSummary {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// Rows, columns and channels of what comes out, or its length.
    pub output_shape: Vec<usize>,
    /// Trained numbers.
    pub parameters: usize,
    /// Floating-point operations for one image forward.
    pub flops_forward: f64,
    /// Floating-point operations for one image backward.
    pub flops_backward: f64,
    /// Bytes of what comes out of it, of a batch.
    pub kept_bytes: usize,
}

/// A gradient check: of `network` or of `model`, not both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientCheckRequest {
    /// A preset, or layers; its weights are drawn.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// A model, as `name`, `name@3` or `name@alias`: its weights are checked.
    pub model: Option<String>,
    /// The data set that the examples are of.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// Examples of the batch.
    #[schema(minimum = 1, maximum = 256, default = 8)]
    pub samples: Option<usize>,
    /// The seed of weights, examples, and of which parameters are checked.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807i64, default = 1)]
    pub seed: Option<u64>,
    /// Numbers of each parameter tensor that are checked.
    #[schema(minimum = 1, maximum = 1000, default = 5)]
    pub parameters: Option<usize>,
    /// What is differentiated.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// ε of the targets.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0))]
    pub label_smoothing: Option<f64>,
}

/// Backpropagation beside numerical differentiation, in 64 bits.
#[derive(Serialize, ToSchema)]
pub struct GradientCheck {
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
    /// Seconds that the numerical way would take for every parameter.
    pub numerical_seconds: f64,
    /// `numerical_seconds / backpropagation_seconds`.
    pub ratio: f64,
}

/// The check of a layer.
#[derive(Serialize, ToSchema)]
pub struct LayerCheck {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// Numbers that can be trained.
    pub parameters: usize,
    /// Numbers that were checked.
    pub checked: usize,
    /// Of them those on a kink of relu or max-pooling or too near one, where there is no slope to compare with.
    pub kinks: usize,
    /// The largest relative error of the others.
    pub max_relative_error: f64,
    /// The parameter with it; null if all are on kinks.
    pub worst: Option<WorstParameter>,
}

/// Both gradients of one parameter.
#[derive(Serialize, ToSchema)]
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
