//! The specification of a job, with every default filled in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{data, nn, train};

/// A training job with every default filled in. Posted as a request, it creates the same job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TrainSpec {
    /// The name that the model is published under.
    pub model: String,
    /// The name of the data set.
    pub dataset: String,
    /// The layers to train.
    pub network: NetworkSpec,
    /// The loss to minimise.
    pub loss: Loss,
    /// The update rule.
    pub optimizer: Optimizer,
    /// The schedule of the learning rate.
    pub schedule: Schedule,
    /// Passes over the training examples.
    #[schema(minimum = 1)]
    pub epochs: u32,
    /// Images per step.
    #[schema(minimum = 1)]
    pub batch_size: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Fraction of the examples that are kept for validation; 0 keeps none.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    pub validation_fraction: f64,
    /// How many examples to use, after a shuffle with the seed; null uses all.
    #[schema(minimum = 1)]
    pub train_samples: Option<usize>,
    /// Random changes of the training images; null changes nothing.
    pub augment: Option<Augment>,
    /// ε of the targets `(1 − ε) onehot + ε / classes`.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    pub label_smoothing: f64,
    /// The gradients of a step are clipped together to this norm; null does not clip.
    #[schema(exclusive_minimum = 0)]
    pub gradient_clip_norm: Option<f64>,
    /// The decay of an exponential moving average of the weights, which is then validated, tested and published; null
    /// uses the weights themselves.
    #[schema(minimum = 0, maximum = 0.999_999)]
    pub ema_decay: Option<f64>,
    /// The validation accuracy that ends the job.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub target_accuracy: Option<f64>,
    /// When the job stops early.
    pub early_stopping: Option<EarlyStopping>,
    /// When checkpoints are written, and how many are kept.
    pub checkpoint: CheckpointSpec,
    /// The model, as `name@version`, from which the job starts. Layers of the same shape take over its weights.
    pub initial_model: Option<String>,
    /// Jobs of a higher priority run first. The priority does not affect the result.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i32,
}

/// The layers of a network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NetworkSpec {
    /// The layers, from first to last.
    pub layers: Vec<Layer>,
}

/// A layer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Layer {
    /// A fully connected layer. It flattens its input.
    Dense {
        /// Number of outputs.
        #[schema(minimum = 1)]
        units: usize,
        /// Distribution of the initial weights.
        init: Init,
    },
    /// A convolution with square filters.
    Conv2d {
        /// Channels of the output.
        #[schema(minimum = 1)]
        filters: usize,
        /// Side of a filter, in pixels.
        #[schema(minimum = 1)]
        kernel: usize,
        /// Padding at the border.
        padding: Padding,
        /// Pixels from one window to the next.
        #[schema(minimum = 1)]
        stride: usize,
        /// Distribution of the initial weights.
        init: Init,
    },
    /// The maximum of each square.
    MaxPool2d {
        /// Side of a square, in pixels.
        #[schema(minimum = 1)]
        size: usize,
    },
    /// The mean of each square.
    AvgPool2d {
        /// Side of a square, in pixels.
        #[schema(minimum = 1)]
        size: usize,
    },
    /// Batch normalisation.
    BatchNorm,
    /// Sets random elements to 0 during training, and scales the others up.
    Dropout {
        /// Probability that an element is set to 0.
        #[schema(minimum = 0, exclusive_maximum = 1)]
        rate: f64,
    },
    /// Flattens an image to a vector.
    Flatten,
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, `0.01 x` below.
    LeakyRelu,
    /// `x Φ(x)`, exact.
    Gelu,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// The initial weights of a layer: normal with standard deviation `√(2 / fan_in)` (`he`), `√(2 / (fan_in + fan_out))`
/// (`xavier`) or 0.01 (`normal`). Biases start at 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Standard deviation `√(2 / fan_in)`.
    He,
    /// Standard deviation `√(2 / (fan_in + fan_out))`.
    Xavier,
    /// Standard deviation 0.01.
    Normal,
}

/// The padding of a convolution: with `valid` the window stays inside the image, with `same` there are zeros around it, so
/// that the output is as large as the input if the stride is 1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// The window stays inside the image.
    Valid,
    /// Zeros around the image.
    Same,
}

/// The loss to minimise. Both kinds work on the softmax of the last layer's scores.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `−Σ t ln p`.
    CrossEntropy,
    /// `1/C Σ (p − t)²`.
    MeanSquaredError,
}

/// An update rule with its parameters, as PyTorch defines them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Optimizer {
    /// `w ← w − η g`.
    Sgd {
        /// η.
        learning_rate: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `v ← μ v + g`, `w ← w − η v`.
    Momentum {
        /// η.
        learning_rate: f64,
        /// μ.
        momentum: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `v ← μ v + g`, `w ← w − η (g + μ v)`.
    Nesterov {
        /// η.
        learning_rate: f64,
        /// μ.
        momentum: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `s ← s + g²`, `w ← w − η / (1 + (t − 1) δ) · g / (√s + ε)`.
    Adagrad {
        /// η.
        learning_rate: f64,
        /// δ.
        lr_decay: f64,
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `s ← α s + (1 − α) g²`, `u = g / (√s + ε)`, `v ← μ v + u`, `w ← w − η v`.
    Rmsprop {
        /// η.
        learning_rate: f64,
        /// α.
        alpha: f64,
        /// ε.
        eps: f64,
        /// μ.
        momentum: f64,
        /// Whether to use the variance instead of the mean square.
        centered: bool,
        /// λ.
        weight_decay: f64,
    },
    /// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `w ← w − η m̂ / (√v̂ + ε)`.
    Adam {
        /// η.
        learning_rate: f64,
        /// β₁, β₂.
        betas: [f64; 2],
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
    /// Adam with weight decay separate from the gradient: `w ← w − η λ w` comes first.
    Adamw {
        /// η.
        learning_rate: f64,
        /// β₁, β₂.
        betas: [f64; 2],
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
}

/// The learning rate over the steps of a job. During `warmup_epochs` it rises in equal steps to the start of the schedule.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Schedule {
    /// The optimiser's rate throughout.
    Constant {
        /// Epochs of warm-up.
        warmup_epochs: f64,
    },
    /// The rate times `gamma` after every `step_size` epochs.
    Step {
        /// Epochs of warm-up.
        warmup_epochs: f64,
        /// Epochs between two changes of the rate.
        step_size: u32,
        /// Factor from one rate to the next.
        gamma: f64,
    },
    /// Half a cosine from the rate to 0.
    Cosine {
        /// Epochs of warm-up.
        warmup_epochs: f64,
    },
    /// Half a cosine up to the rate, then another down.
    OneCycle {
        /// Epochs of warm-up.
        warmup_epochs: f64,
        /// Fraction of the steps in which the rate rises.
        pct_start: f64,
        /// The highest rate divided by the rate of the first step.
        div_factor: f64,
        /// The rate of the first step divided by the rate of the last step.
        final_div_factor: f64,
    },
}

/// Small random changes of each image, new in each epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Augment {
    /// Shift by up to this many pixels along each axis.
    pub shift_pixels: f64,
    /// Rotation by up to this many degrees in either direction.
    pub rotate_degrees: f64,
    /// Scaling by up to this fraction, up or down.
    pub scale: f64,
    /// Shear by up to this ratio in either direction.
    pub shear: f64,
    /// Elastic deformation; null makes none.
    pub elastic: Option<Elastic>,
}

/// A smoothed field of random displacements.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Elastic {
    /// Size of the displacements before they are smoothed, in pixels.
    pub alpha: f64,
    /// Standard deviation of the Gaussian that smooths them, in pixels.
    pub sigma: f64,
}

/// Ends a job whose validation loss no longer improves.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct EarlyStopping {
    /// Epochs to wait for an improvement.
    pub patience: u32,
}

/// When checkpoints are written, and how many are kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckpointSpec {
    /// Epochs from one checkpoint to the next.
    pub every_epochs: u32,
    /// How many of the newest checkpoints are kept.
    pub keep: u32,
}

impl From<train::TrainSpec> for TrainSpec {
    fn from(spec: train::TrainSpec) -> Self {
        let train::TrainSpec {
            model,
            dataset,
            network,
            loss,
            optimizer,
            schedule,
            epochs,
            batch_size,
            seed,
            validation_fraction,
            train_samples,
            augment,
            label_smoothing,
            gradient_clip_norm,
            ema_decay,
            target_accuracy,
            early_stopping,
            checkpoint,
            initial_model,
            priority,
        } = spec;
        let train::CheckpointSpec { every_epochs, keep } = checkpoint;
        Self {
            model,
            dataset,
            network: NetworkSpec { layers: network.layers.into_iter().map(Into::into).collect() },
            loss: loss.into(),
            optimizer: optimizer.into(),
            schedule: schedule.into(),
            epochs,
            batch_size,
            seed,
            validation_fraction,
            train_samples,
            augment: augment.map(Into::into),
            label_smoothing,
            gradient_clip_norm,
            ema_decay,
            target_accuracy,
            early_stopping: early_stopping
                .map(|train::EarlyStopping { patience }| EarlyStopping { patience }),
            checkpoint: CheckpointSpec { every_epochs, keep },
            initial_model,
            priority,
        }
    }
}

impl From<nn::LayerSpec> for Layer {
    fn from(layer: nn::LayerSpec) -> Self {
        use nn::LayerSpec as Domain;
        match layer {
            Domain::Dense { units, init } => Self::Dense { units, init: init.into() },
            Domain::Conv2d { filters, kernel, padding, stride, init } => {
                let padding = match padding {
                    nn::Padding::Valid => Padding::Valid,
                    nn::Padding::Same => Padding::Same,
                };
                Self::Conv2d { filters, kernel, padding, stride, init: init.into() }
            }
            Domain::MaxPool2d { size } => Self::MaxPool2d { size },
            Domain::AvgPool2d { size } => Self::AvgPool2d { size },
            Domain::BatchNorm => Self::BatchNorm,
            Domain::Dropout { rate } => Self::Dropout { rate },
            Domain::Flatten => Self::Flatten,
            Domain::Relu => Self::Relu,
            Domain::LeakyRelu => Self::LeakyRelu,
            Domain::Gelu => Self::Gelu,
            Domain::Sigmoid => Self::Sigmoid,
            Domain::Tanh => Self::Tanh,
        }
    }
}

impl From<nn::Init> for Init {
    fn from(init: nn::Init) -> Self {
        match init {
            nn::Init::He => Self::He,
            nn::Init::Xavier => Self::Xavier,
            nn::Init::Normal => Self::Normal,
        }
    }
}

impl From<nn::LossKind> for Loss {
    fn from(loss: nn::LossKind) -> Self {
        match loss {
            nn::LossKind::CrossEntropy => Self::CrossEntropy,
            nn::LossKind::MeanSquaredError => Self::MeanSquaredError,
        }
    }
}

impl From<nn::OptimizerSpec> for Optimizer {
    fn from(optimizer: nn::OptimizerSpec) -> Self {
        use nn::OptimizerSpec as Domain;
        match optimizer {
            Domain::Sgd { learning_rate, weight_decay } => Self::Sgd { learning_rate, weight_decay },
            Domain::Momentum { learning_rate, momentum, weight_decay } => {
                Self::Momentum { learning_rate, momentum, weight_decay }
            }
            Domain::Nesterov { learning_rate, momentum, weight_decay } => {
                Self::Nesterov { learning_rate, momentum, weight_decay }
            }
            Domain::Adagrad { learning_rate, lr_decay, eps, weight_decay } => {
                Self::Adagrad { learning_rate, lr_decay, eps, weight_decay }
            }
            Domain::Rmsprop { learning_rate, alpha, eps, momentum, centered, weight_decay } => {
                Self::Rmsprop { learning_rate, alpha, eps, momentum, centered, weight_decay }
            }
            Domain::Adam { learning_rate, betas, eps, weight_decay } => {
                Self::Adam { learning_rate, betas, eps, weight_decay }
            }
            Domain::Adamw { learning_rate, betas, eps, weight_decay } => {
                Self::Adamw { learning_rate, betas, eps, weight_decay }
            }
        }
    }
}

impl From<nn::Schedule> for Schedule {
    fn from(schedule: nn::Schedule) -> Self {
        use nn::Schedule as Domain;
        match schedule {
            Domain::Constant { warmup_epochs } => Self::Constant { warmup_epochs },
            Domain::Step { warmup_epochs, step_size, gamma } => {
                Self::Step { warmup_epochs, step_size, gamma }
            }
            Domain::Cosine { warmup_epochs } => Self::Cosine { warmup_epochs },
            Domain::OneCycle { warmup_epochs, pct_start, div_factor, final_div_factor } => {
                Self::OneCycle { warmup_epochs, pct_start, div_factor, final_div_factor }
            }
        }
    }
}

impl From<data::Augment> for Augment {
    fn from(augment: data::Augment) -> Self {
        let data::Augment { shift_pixels, rotate_degrees, scale, shear, elastic } = augment;
        let elastic = elastic.map(|data::Elastic { alpha, sigma }| Elastic { alpha, sigma });
        Self { shift_pixels, rotate_degrees, scale, shear, elastic }
    }
}
