//! Turns a request into trained weights: the spec, presets, cost, and the training loop.
//!
//! Nothing here reads a clock or does I/O. [`run`] is a function of the spec, the data and the initial state, and
//! reports its progress to an [`Observer`].

mod cost;
mod metrics;
mod parse;
mod preset;
mod run;
mod spec;

pub use cost::{Cost, LayerCost, step_bytes};
pub use metrics::{EpochMetrics, LayerMetrics, StepMetrics};
pub use parse::{network_layers, parse};
pub use preset::Preset;
pub use run::{Evaluation, Observer, Outcome, StepReport, TrainError, TrainState, run};
pub use spec::{CheckpointSpec, EarlyStopping, NetworkSpec, SpecLimits, TrainSpec, is_name};
