use serde::{Deserialize, Serialize};

use super::{Column, Stored, column, meaning, stored};
use crate::data::{Augment, Elastic};
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Padding, Schedule};
use crate::train::{CheckpointSpec, EarlyStopping, NetworkSpec, TrainSpec};

column!(TrainSpec, "spec", Spec1);

stored! {
    struct Spec1 means TrainSpec {
        model: String,
        dataset: String,
        network: Network1,
        loss: Loss1,
        optimizer: Optimizer1,
        schedule: Schedule1,
        epochs: u32,
        batch_size: usize,
        seed: u64,
        validation_fraction: f64,
        train_samples: Option<usize>,
        augment: Option<Augment1>,
        label_smoothing: f64,
        gradient_clip_norm: Option<f64>,
        ema_decay: Option<f64>,
        target_accuracy: Option<f64>,
        early_stopping: Option<EarlyStopping1>,
        checkpoint: Checkpoint1,
        initial_model: Option<String>,
        /// Jobs of the first version had no priority.
        #[serde(default)]
        priority: i32,
    }
}

stored! {
    struct Network1 means NetworkSpec {
        layers: Vec<Layer1>,
    }
}

stored! {
    #[serde(tag = "type")]
    enum Layer1 means LayerSpec {
        Dense { units: usize, init: Init1 }
        Conv2d { filters: usize, kernel: usize, padding: Padding1, stride: usize, init: Init1 }
        MaxPool2d { size: usize }
        AvgPool2d { size: usize }
        BatchNorm {}
        Dropout { rate: f64 }
        Flatten {}
        Relu {}
        LeakyRelu {}
        Gelu {}
        Sigmoid {}
        Tanh {}
    }
}

stored! {
    #[serde(tag = "type")]
    enum Optimizer1 means OptimizerSpec {
        Sgd { learning_rate: f64, weight_decay: f64 }
        Momentum { learning_rate: f64, momentum: f64, weight_decay: f64 }
        Nesterov { learning_rate: f64, momentum: f64, weight_decay: f64 }
        Adagrad { learning_rate: f64, lr_decay: f64, eps: f64, weight_decay: f64 }
        Rmsprop { learning_rate: f64, alpha: f64, eps: f64, momentum: f64, centered: bool, weight_decay: f64 }
        Adam { learning_rate: f64, betas: [f64; 2], eps: f64, weight_decay: f64 }
        Adamw { learning_rate: f64, betas: [f64; 2], eps: f64, weight_decay: f64 }
    }
}

stored! {
    #[serde(tag = "type")]
    enum Schedule1 means Schedule {
        Constant { warmup_epochs: f64 }
        Step { warmup_epochs: f64, step_size: u32, gamma: f64 }
        Cosine { warmup_epochs: f64 }
        OneCycle { warmup_epochs: f64, pct_start: f64, div_factor: f64, final_div_factor: f64 }
    }
}

stored! {
    struct Augment1 means Augment {
        shift_pixels: f64,
        rotate_degrees: f64,
        scale: f64,
        shear: f64,
        elastic: Option<Elastic1>,
    }
}

stored! {
    struct Elastic1 means Elastic {
        alpha: f64,
        sigma: f64,
    }
}

stored! {
    struct EarlyStopping1 means EarlyStopping {
        patience: u32,
    }
}

stored! {
    struct Checkpoint1 means CheckpointSpec {
        every_epochs: u32,
        keep: u32,
    }
}

stored! {
    words Loss1 means LossKind { CrossEntropy MeanSquaredError }
}

stored! {
    words Init1 means Init { He Xavier Normal }
}

stored! {
    words Padding1 means Padding { Valid Same }
}
