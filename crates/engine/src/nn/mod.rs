//! The mathematics: layers and their gradients, losses, initialisers, optimisers, schedules.
//!
//! A network computes `y = f_n(… f_2(f_1(x)))` and a loss `L(y)`. Backpropagation applies the chain rule from the last
//! layer to the first. Each layer turns `dy = ∂L/∂y` into `dx = ∂L/∂x` and the gradients of its own parameters, using
//! values that its forward pass stored (Rumelhart, Hinton, Williams, *Learning representations by back-propagating
//! errors*, Nature 323, 1986).
//!
//! All functions work on batches. The rows of a batch are images, and a single image is a batch of one. A layer's
//! forward and backward pass are next to each other in the source. The gradient of a value has the same name with a `d`
//! in front. The [`Workspace`] stores the values that the backward pass needs. A pass therefore only reads the
//! [`Network`], and all threads can share it. A [`Plan`] selects the fast path of each layer for the given data, and a
//! [`Trainer`] takes the training steps.

mod activation;
mod arithmetic;
mod batch;
mod batch_norm;
mod conv2d;
mod dense;
mod dropout;
mod flatten;
mod float;
mod gradient_check;
mod group;
mod init;
pub(crate) mod kernel;
mod layer;
mod loss;
mod network;
mod operation;
mod optimizer;
mod packed;
mod paths;
mod plan;
mod pooling;
mod predictor;
mod rows;
mod schedule;
mod shape;
mod tape;
#[doc(hidden)]
pub mod testing;
mod trainer;
mod workspace;

pub use activation::Activation;
pub(crate) use activation::LEAK;
pub use arithmetic::PassOperations;
pub use batch::{Batch, Images};
pub use batch_norm::BatchNorm;
pub(crate) use batch_norm::EPS as NORM_EPS;
pub use conv2d::Conv2d;
pub use dense::Dense;
pub use dropout::{Draw, Dropout};
pub use flatten::Flatten;
pub use float::Float;
pub use gradient_check::{
    Differences, GradientCheck, Stopped, central_difference, gradient_check, relative_error,
};
pub use init::Init;
pub use kernel::{Aligned, ThreadPool, instruction_set};
pub use layer::{Layer, LayerKind, LayerSpec};
pub use loss::{Loss, LossKind, softmax};
pub use network::{LengthError, NamedTensor, Network, ShapeError, fitting_layers, kinds, shapes};
pub use optimizer::{Optimizer, OptimizerSpec, clip_scale, square_sum};
pub use paths::{UnitPath, strongest_paths};
pub use plan::Plan;
pub use pooling::{Pooling, PoolingKind};
pub use predictor::Predictor;
pub use schedule::Schedule;
pub use shape::{Padding, Shape, Window};
pub use tape::{Tape, numbers_of_a_tape};
pub use trainer::Trainer;
pub use workspace::{Gradient, StepLoss, Workspace, argmax};
