//! From a request to trained weights: the spec, its presets and cost, and the training loop.
//!
//! Nothing here knows a clock, a disk or a network: [`run`] is a function of the spec, the data and
//! the state it starts from, and tells an [`Observer`] what happens.

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
