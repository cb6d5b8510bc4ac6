//! Shows backpropagation in detail: single layers on small arrays, and one image in a whole network.
//!
//! Layers, losses and products are those of [`nn`](crate::nn), as in training. Expressions are those of
//! [`graph`](crate::graph). A gradient check runs the passes of a training step. Traces, explanations and the
//! microscope run a [`Tape`](crate::nn::Tape) layer by layer.

mod activation;
mod affine;
mod check;
mod convolution;
mod explain;
mod findings;
mod graph;
mod microscope;
mod number;
mod price;
mod request;
mod softmax;
mod statistics;
mod summary;
mod tensor;
mod trace;
mod weights;

pub use activation::{ActivationEntry, Curve, CurvePoint, CurveRequest, Saturation, activations};
pub use affine::{Affine, AffineRequest, AffineShapes};
pub use check::{Check, CheckRequest, LayerCheck, WorstParameter, check, check_drawn};
pub use convolution::{Convolution, ConvolutionRequest};
pub use explain::{Completeness, Explanation, explain, explain_cost, pictures};
pub use findings::{Finding, findings};
pub use graph::GraphRequest;
pub use microscope::{Microscope, ParameterPlace, PathStep, PathTrace, Term, microscope, microscope_cost};
pub use price::{AnswerCost, LabLimits, Question};
pub use request::{NetworkRequest, layer_named};
pub use softmax::{SoftmaxCrossEntropy, SoftmaxRequest};
pub use statistics::{Histogram, TensorStatistics};
pub use summary::{LayerSummary, Summary};
pub use tensor::Tensor;
pub use trace::{LayerTrace, Trace, TracePart, feature_maps, feature_maps_cost, trace, trace_cost};
pub use weights::{LayerWeights, layer_weights, weight_picture, weights_cost};
