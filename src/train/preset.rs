use super::{CheckpointSpec, NetworkSpec, TrainSpec};
use crate::nn::{Init, LayerSpec, LossKind, OptimizerSpec, Schedule};

/// A network with its whole recipe, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The lesson's small sigmoid network with plain gradient descent.
    Lesson,
    /// One hidden layer with relu, Adam and one cycle: the default.
    Mlp,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::Lesson, Self::Mlp];

    /// Its name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lesson => "lesson",
            Self::Mlp => "mlp",
        }
    }

    /// What it is for, in a line.
    pub fn description(self) -> &'static str {
        match self {
            Self::Lesson => "the lesson's network: 50 sigmoid units, plain gradient descent",
            Self::Mlp => "the default: 256 relu units, Adam with one cycle",
        }
    }

    /// The preset called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The recipe for a data set of `classes`.
    pub(super) fn recipe(self, dataset: &str, classes: usize) -> TrainSpec {
        let (hidden, init, activation, optimizer, schedule, epochs, batch_size) = match self {
            Self::Lesson => (
                50,
                Init::Normal,
                LayerSpec::Sigmoid,
                OptimizerSpec::Sgd { learning_rate: 0.1, weight_decay: 0.0 },
                Schedule::Constant { warmup_epochs: 0.0 },
                17,
                100,
            ),
            Self::Mlp => (
                256,
                Init::He,
                LayerSpec::Relu,
                OptimizerSpec::Adam {
                    learning_rate: 0.005,
                    betas: [0.9, 0.999],
                    eps: 1e-8,
                    weight_decay: 0.0,
                },
                Schedule::OneCycle {
                    warmup_epochs: 0.0,
                    pct_start: 0.3,
                    div_factor: 25.0,
                    final_div_factor: 1e4,
                },
                5,
                128,
            ),
        };
        let dense = |units| LayerSpec::Dense { units, init };
        TrainSpec {
            model: if dataset == "mnist" { "digits".to_owned() } else { dataset.to_owned() },
            dataset: dataset.to_owned(),
            network: NetworkSpec { layers: vec![dense(hidden), activation, dense(classes)] },
            loss: LossKind::CrossEntropy,
            optimizer,
            schedule,
            epochs,
            batch_size,
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
        }
    }
}
