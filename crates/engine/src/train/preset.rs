use super::{CheckpointSpec, NetworkSpec, TrainSpec};
use crate::data::Augment;
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Padding, Schedule};

/// A named network with all its hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A small sigmoid network with plain gradient descent, as in the lesson.
    Lesson,
    /// One hidden layer with relu, trained by Adam with one cycle. It is the default.
    Mlp,
    /// Two small convolutions. Trains in a few seconds.
    CnnFast,
    /// Two convolutions, a dense layer and dropout.
    Cnn,
    /// Five convolutions with batch-norm, and an average of the weights. Trains in minutes.
    CnnBest,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [Self::Lesson, Self::Mlp, Self::CnnFast, Self::Cnn, Self::CnnBest];

    /// The name of the preset in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lesson => "lesson",
            Self::Mlp => "mlp",
            Self::CnnFast => "cnn-fast",
            Self::Cnn => "cnn",
            Self::CnnBest => "cnn-best",
        }
    }

    /// A one-line description.
    pub fn description(self) -> &'static str {
        match self {
            Self::Lesson => "the lesson's network: 50 sigmoid units, plain gradient descent",
            Self::Mlp => "the default: 256 relu units, Adam with one cycle",
            Self::CnnFast => "two small convolutions: more accurate than mlp, in seconds",
            Self::Cnn => "two convolutions and dropout, on images that are changed a little each time",
            Self::CnnBest => "five convolutions and an average of the weights: the largest, in minutes",
        }
    }

    /// The preset with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The spec of this preset for a data set with `classes` classes.
    pub(super) fn recipe(self, dataset: &str, classes: usize) -> TrainSpec {
        let (base, scores) = (base(dataset, classes), dense(classes, Init::He));
        match self {
            Self::Lesson => TrainSpec {
                network: NetworkSpec {
                    layers: vec![dense(50, Init::Normal), LayerSpec::Sigmoid, dense(classes, Init::Normal)],
                },
                optimizer: OptimizerSpec::Sgd { learning_rate: 0.1, weight_decay: 0.0 },
                schedule: Schedule::Constant { warmup_epochs: 0.0 },
                epochs: 17,
                batch_size: 100,
                ..base
            },
            Self::Mlp => base,
            Self::CnnFast => TrainSpec {
                network: two_small_convolutions(scores),
                optimizer: adamw(0.01),
                epochs: 4,
                augment: Some(LIGHT),
                ..base
            },
            Self::Cnn => TrainSpec {
                network: two_convolutions(scores),
                optimizer: adamw(0.006),
                epochs: 15,
                label_smoothing: 0.05,
                augment: Some(AUGMENT),
                ..base
            },
            Self::CnnBest => TrainSpec {
                network: five_convolutions(scores),
                optimizer: adamw(0.004),
                epochs: 30,
                label_smoothing: 0.05,
                ema_decay: Some(0.999),
                augment: Some(AUGMENT),
                ..base
            },
        }
    }
}

/// The default preset, from which the others differ.
fn base(dataset: &str, classes: usize) -> TrainSpec {
    TrainSpec {
        model: if dataset == "mnist" { "digits".to_owned() } else { dataset.to_owned() },
        dataset: dataset.to_owned(),
        network: NetworkSpec {
            layers: vec![dense(256, Init::He), LayerSpec::Relu, dense(classes, Init::He)],
        },
        loss: LossKind::CrossEntropy,
        optimizer: OptimizerSpec::Adam {
            learning_rate: 0.006,
            betas: [0.9, 0.99],
            eps: 1e-8,
            weight_decay: 0.0,
        },
        schedule: Schedule::ONE_CYCLE,
        epochs: 5,
        batch_size: 128,
        seed: 42,
        validation_fraction: 0.0833,
        train_samples: None,
        augment: None,
        label_smoothing: 0.0,
        gradient_clip_norm: None,
        ema_decay: None,
        target_accuracy: None,
        early_stopping: None,
        checkpoint: CheckpointSpec { every_epochs: 1, keep: 3 },
        initial_model: None,
        priority: 0,
    }
}

/// Two small convolutions of 5 × 5 with pooling, a dense layer, and the scores.
fn two_small_convolutions(scores: LayerSpec) -> NetworkSpec {
    let end = [LayerSpec::Flatten, dense(64, Init::He), LayerSpec::Relu, scores];
    NetworkSpec { layers: pooled(8).into_iter().chain(pooled(16)).chain(end).collect() }
}

/// Two convolutions of 5 × 5 with pooling, a dense layer with dropout, and the scores.
fn two_convolutions(scores: LayerSpec) -> NetworkSpec {
    let end =
        [LayerSpec::Flatten, dense(128, Init::He), LayerSpec::Relu, LayerSpec::Dropout { rate: 0.3 }, scores];
    NetworkSpec { layers: pooled(16).into_iter().chain(pooled(32)).chain(end).collect() }
}

/// A convolution of 5 × 5 and two pairs of 3 × 3, with batch-norm and pooling, and the scores.
fn five_convolutions(scores: LayerSpec) -> NetworkSpec {
    let normed =
        |filters, kernel| [conv(filters, kernel, Padding::Same), LayerSpec::BatchNorm, LayerSpec::Relu];
    let mut layers = normed(16, 5).to_vec();
    for filters in [32, 64] {
        layers.push(LayerSpec::MaxPool2d { size: 2 });
        layers.extend(normed(filters, 3).into_iter().chain(normed(filters, 3)));
    }
    layers.extend([
        LayerSpec::MaxPool2d { size: 2 },
        LayerSpec::Flatten,
        LayerSpec::Dropout { rate: 0.3 },
        scores,
    ]);
    NetworkSpec { layers }
}

/// A convolution of 5 × 5, relu, and pooling.
fn pooled(filters: usize) -> [LayerSpec; 3] {
    [conv(filters, 5, Padding::Valid), LayerSpec::Relu, LayerSpec::MaxPool2d { size: 2 }]
}

/// A weaker [`AUGMENT`], for few epochs.
const LIGHT: Augment =
    Augment { shift_pixels: 1.0, rotate_degrees: 8.0, scale: 0.05, shear: 0.05, elastic: None };

/// Changes that also occur in handwriting. They are too small to turn a digit into another one.
const AUGMENT: Augment =
    Augment { shift_pixels: 2.0, rotate_degrees: 12.0, scale: 0.1, shear: 0.15, elastic: None };

fn dense(units: usize, init: Init) -> LayerSpec {
    LayerSpec::Dense { units, init }
}

fn conv(filters: usize, kernel: usize, padding: Padding) -> LayerSpec {
    LayerSpec::Conv2d { filters, kernel, padding, stride: 1, init: Init::He }
}

fn adamw(learning_rate: f64) -> OptimizerSpec {
    OptimizerSpec::Adamw { learning_rate, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
}
