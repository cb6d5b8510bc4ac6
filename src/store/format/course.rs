use serde::{Deserialize, Serialize};

use super::{Column, Stored, column, meaning, stored};
use crate::job::{EpochRecord, JobError, JobMetrics, JobResult, Progress, StepMemory};
use crate::train::{EpochMetrics, LayerMetrics};

column!(Progress, "progress", Progress1);
column!(JobMetrics, "metrics", Metrics1);
column!(JobResult, "result", Result1);
column!(JobError, "error", Error1);
column!(EpochRecord, "record", Epoch1);

stored! {
    struct Progress1 means Progress {
        epoch: u32,
        epochs: u32,
        step: u64,
        steps: u64,
        fraction: f64,
        images_per_second: Option<f64>,
        elapsed_seconds: f64,
        eta_seconds: Option<f64>,
        #[serde(default)]
        memory: Option<Memory1>,
        #[serde(default)]
        waiting_for_disk: bool,
    }
}

stored! {
    struct Memory1 means StepMemory {
        estimated_bytes: u64,
        measured_bytes: u64,
    }
}

stored! {
    struct Metrics1 means JobMetrics {
        train_loss: f64,
        train_accuracy: f64,
        validation_loss: Option<f64>,
        validation_accuracy: Option<f64>,
        test_loss: Option<f64>,
        test_accuracy: Option<f64>,
    }
}

stored! {
    struct Result1 means JobResult {
        model: String,
        version: u32,
        test_accuracy: f64,
        test_loss: f64,
        train_seconds: f64,
    }
}

stored! {
    struct Error1 means JobError {
        code: String,
        detail: String,
    }
}

stored! {
    struct EpochMetrics1 means EpochMetrics {
        epoch: u32,
        train_loss: f64,
        train_accuracy: f64,
        validation_loss: Option<f64>,
        validation_accuracy: Option<f64>,
        learning_rate: f64,
        layers: Vec<LayerMetrics1>,
    }
}

stored! {
    struct LayerMetrics1 means LayerMetrics {
        layer: String,
        gradient_norm: Option<f64>,
        weight_norm: Option<f64>,
        update_ratio: Option<f64>,
        dead_fraction: Option<f64>,
    }
}

stored! {
    struct Epoch1 means EpochRecord {
        #[serde(flatten)]
        metrics: EpochMetrics1,
        images_per_second: f64,
        duration_seconds: f64,
    }
}
