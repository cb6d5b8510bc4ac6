//! Looking into backpropagation: one layer on a few numbers, and one image in a whole network.
//!
//! Every figure about a layer or a network comes from [`nn`](crate::nn): its layers, losses and products are those that
//! train. A gradient check goes through a training step itself; all else through a [`Tape`](crate::nn::Tape), layer by layer.

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

pub use activation::{ActivationEntry, Curve, CurveRequest, Point, Saturation, activations};
pub use affine::{Affine, AffineRequest, AffineShapes};
pub use check::{
    Check, CheckRequest, LayerCheck, WorstParameter, check, check_drawn, check_flops_per_second,
};
pub use convolution::{Convolution, ConvolutionRequest};
pub use explain::{Completeness, Explanation, explain, explain_all, explain_cost, pictures};
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
