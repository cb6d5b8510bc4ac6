//! The course of a job: epochs, steps, findings and events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::JobState;
use crate::{job, lab, train};

/// The course of a job, or a page of its epochs, and what a teacher would say on seeing all of it.
#[derive(Serialize, ToSchema)]
pub struct JobHistory {
    /// Epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Some of the steps of these epochs, evenly spread.
    pub steps: Vec<Step>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
    /// What the figures of all epochs show; empty for a job that goes well.
    pub findings: Vec<Finding>,
}

/// An epoch as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    #[schema(minimum = 1)]
    pub epoch: u32,
    /// Mean loss of the training examples, each as it was met.
    pub train_loss: f64,
    /// Accuracy on the training examples, each as it was met.
    #[schema(minimum = 0, maximum = 1)]
    pub train_accuracy: f64,
    /// Mean loss of the validation examples after the epoch.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation examples after the epoch.
    #[schema(minimum = 0, maximum = 1)]
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// How each layer fared in the last step of the epoch that had a whole batch.
    pub layers: Vec<LayerMetrics>,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds it took, validation included.
    pub duration_seconds: f64,
}

/// How a layer fared in one step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerMetrics {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// ‖∂L/∂W‖, biases included.
    pub gradient_norm: Option<f64>,
    /// ‖W‖, biases included.
    pub weight_norm: Option<f64>,
    /// ‖ΔW‖ / ‖W‖.
    pub update_ratio: Option<f64>,
    /// Share of a relu's outputs that were 0 for the whole batch.
    #[schema(minimum = 0, maximum = 1)]
    pub dead_fraction: Option<f64>,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Step {
    /// Number of the step in the job, from 1.
    #[schema(minimum = 1)]
    pub step: u64,
    /// Mean loss of its batch.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// What a teacher would say on seeing the figures of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    /// A stable word, such as `dead_relus`.
    pub code: String,
    /// What is seen and what to try.
    pub detail: String,
    /// The layer, as `0.dense`.
    pub layer: Option<String>,
    /// The epoch whose figure it is.
    pub epoch: Option<u32>,
    /// The figure; null if it is beyond all numbers.
    pub value: Option<f64>,
    /// What it is compared with.
    pub threshold: f64,
    /// Where this is written.
    pub source: String,
}

/// The data of an event called `state`: a state that the job has come to.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct StateEvent {
    /// How often a worker had taken the job up.
    pub attempt: u32,
    /// The state.
    pub state: JobState,
}

impl From<job::EpochRecord> for Epoch {
    fn from(job::EpochRecord { metrics, images_per_second, duration_seconds }: job::EpochRecord) -> Self {
        let train::EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            learning_rate,
            layers,
        } = metrics;
        Self {
            epoch,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            learning_rate,
            layers: layers.into_iter().map(Into::into).collect(),
            images_per_second,
            duration_seconds,
        }
    }
}

impl From<train::LayerMetrics> for LayerMetrics {
    fn from(metrics: train::LayerMetrics) -> Self {
        let train::LayerMetrics { layer, gradient_norm, weight_norm, update_ratio, dead_fraction } = metrics;
        Self { layer, gradient_norm, weight_norm, update_ratio, dead_fraction }
    }
}

impl From<train::StepMetrics> for Step {
    fn from(train::StepMetrics { step, loss, learning_rate }: train::StepMetrics) -> Self {
        Self { step, loss, learning_rate }
    }
}

impl From<lab::Finding> for Finding {
    fn from(finding: lab::Finding) -> Self {
        let lab::Finding { code, detail, layer, epoch, value, threshold, source } = finding;
        Self { code, detail, layer, epoch, value, threshold, source }
    }
}
