//! The schema of a request for a job. Requests are parsed field by field, so that all faults are reported at once.

use utoipa::ToSchema;

use super::spec::{Init, Loss, Padding};

/// A training job. Every field has a default. Those shown are of the preset `mlp`, which is the default of `network`. Other
/// presets have their own; see `GET /v1/networks`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// The name to publish the model under: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit.
    #[schema(default = json!("digits"), pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub model: Option<String>,
    /// The data set; see `GET /v1/datasets`.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// The network: a preset with its whole recipe, or layers.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// The loss to minimise.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// The update rule.
    pub optimizer: Option<OptimizerRequest>,
    /// The schedule of the learning rate.
    pub schedule: Option<ScheduleRequest>,
    /// Passes over the training examples; at most 10,000 by default.
    #[schema(minimum = 1, default = 5)]
    pub epochs: Option<u32>,
    /// Images per step; at most the number of training examples.
    #[schema(minimum = 1, default = 128)]
    pub batch_size: Option<usize>,
    /// The seed of everything random.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807i64, default = 42)]
    pub seed: Option<u64>,
    /// Fraction of the examples that are kept for validation; 0 keeps none.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0833))]
    pub validation_fraction: Option<f64>,
    /// How many examples to use, after a shuffle with the seed; by default all.
    #[schema(minimum = 1)]
    pub train_samples: Option<usize>,
    /// Random changes of the training images; null removes the changes of a preset.
    pub augment: Option<AugmentRequest>,
    /// ε of the targets `(1 − ε) onehot + ε / classes`.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0))]
    pub label_smoothing: Option<f64>,
    /// The gradients of a step are clipped together to this norm.
    #[schema(exclusive_minimum = 0)]
    pub gradient_clip_norm: Option<f64>,
    /// The decay of an exponential moving average of the weights, which is then validated, tested and published; null
    /// removes the average of a preset.
    #[schema(minimum = 0, maximum = 0.999999)]
    pub ema_decay: Option<f64>,
    /// The validation accuracy that ends the job; needs validation examples.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub target_accuracy: Option<f64>,
    /// When the job stops early; needs validation examples.
    pub early_stopping: Option<EarlyStoppingRequest>,
    /// When checkpoints are written, and how many are kept.
    pub checkpoint: Option<CheckpointRequest>,
    /// The model from which the job starts: `name`, `name@3` or `name@alias`. Layers of the same shape take over its
    /// weights.
    pub initial_model: Option<String>,
    /// Jobs of a higher priority run first. The priority does not affect the result.
    #[schema(minimum = -100, maximum = 100, default = 0)]
    pub priority: Option<i32>,
}

/// The name of a preset, or layers.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum NetworkChoice {
    /// The name of a preset.
    Preset(Preset),
    /// Layers, for images of 28 × 28 × 1.
    Layers(LayersRequest),
}

/// A network with its whole recipe; see `GET /v1/networks`.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum Preset {
    /// 50 sigmoid units, plain gradient descent.
    Lesson,
    /// 256 relu units, Adam with one cycle.
    Mlp,
    /// Two small convolutions, a few epochs.
    CnnFast,
    /// Two convolutions with dropout.
    Cnn,
    /// Five convolutions with batch-norm.
    CnnBest,
}

/// The layers of a network.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LayersRequest {
    /// The layers, from first to last; at most 64 by default. The last is `dense` with a unit for each class, since the softmax
    /// belongs to the loss.
    #[schema(min_items = 1)]
    pub layers: Vec<LayerRequest>,
}

/// A layer.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerRequest {
    /// A fully connected layer. It flattens its input.
    Dense {
        /// Number of outputs; at most 16,384 by default.
        #[schema(minimum = 1)]
        units: usize,
        /// Distribution of the initial weights.
        #[schema(default = json!("he"))]
        init: Option<Init>,
    },
    /// A convolution with square filters.
    Conv2d {
        /// Channels of the output; at most 16,384 by default.
        #[schema(minimum = 1)]
        filters: usize,
        /// Side of a filter, in pixels.
        #[schema(minimum = 1, maximum = 28)]
        kernel: usize,
        /// Padding at the border.
        #[schema(default = json!("valid"))]
        padding: Option<Padding>,
        /// Pixels from one window to the next.
        #[schema(minimum = 1, maximum = 28, default = 1)]
        stride: Option<usize>,
        /// Distribution of the initial weights.
        #[schema(default = json!("he"))]
        init: Option<Init>,
    },
    /// The maximum of each square.
    MaxPool2d {
        /// Side of a square, in pixels.
        #[schema(minimum = 1, maximum = 28, default = 2)]
        size: Option<usize>,
    },
    /// The mean of each square.
    AvgPool2d {
        /// Side of a square, in pixels.
        #[schema(minimum = 1, maximum = 28, default = 2)]
        size: Option<usize>,
    },
    /// Batch normalisation.
    BatchNorm,
    /// Sets random elements to 0 during training, and scales the others up.
    Dropout {
        /// Probability that an element is set to 0.
        #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.5))]
        rate: Option<f64>,
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

/// An update rule. Without `type`, the given fields change the preset's rule. Each type has `learning_rate`, `weight_decay` and
/// the fields whose description names it. Their defaults are PyTorch's, except for a momentum of 0.9.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRequest {
    /// The type of the rule.
    #[serde(rename = "type")]
    pub kind: Option<OptimizerKind>,
    /// η: by default 0.001, and 0.01 for `adagrad` and `rmsprop`.
    #[schema(exclusive_minimum = 0, maximum = 1e6)]
    pub learning_rate: Option<f64>,
    /// λ: by default 0, and 0.01 for `adamw`.
    #[schema(minimum = 0, maximum = 1e6)]
    pub weight_decay: Option<f64>,
    /// μ of `momentum`, `nesterov` (by default 0.9) and `rmsprop` (by default 0).
    #[schema(minimum = 0, exclusive_maximum = 1)]
    pub momentum: Option<f64>,
    /// δ of `adagrad`.
    #[schema(minimum = 0, maximum = 1e6, default = json!(0.0))]
    pub lr_decay: Option<f64>,
    /// ε of `adagrad` (by default 1e-10), `rmsprop`, `adam` and `adamw` (by default 1e-8).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub eps: Option<f64>,
    /// α of `rmsprop`.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.99))]
    pub alpha: Option<f64>,
    /// For `rmsprop`: whether to use the variance instead of the mean square.
    #[schema(default = false)]
    pub centered: Option<bool>,
    /// β₁, β₂ of `adam` and `adamw`, each at least 0 and below 1.
    #[schema(default = json!([0.9, 0.999]))]
    pub betas: Option<[f64; 2]>,
}

/// An update rule.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// `w ← w − η g`.
    Sgd,
    /// `v ← μ v + g`, `w ← w − η v`.
    Momentum,
    /// `v ← μ v + g`, `w ← w − η (g + μ v)`.
    Nesterov,
    /// `s ← s + g²`, `w ← w − η / (1 + (t − 1) δ) · g / (√s + ε)`.
    Adagrad,
    /// `s ← α s + (1 − α) g²`, `u = g / (√s + ε)`, `v ← μ v + u`, `w ← w − η v`.
    Rmsprop,
    /// Running means of the gradient and of its square.
    Adam,
    /// Adam with weight decay separate from the gradient.
    Adamw,
}

/// A schedule of the learning rate. Without `type`, the given fields change the preset's schedule. Each type has
/// `warmup_epochs` and the fields whose description names it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// The type of the schedule.
    #[serde(rename = "type")]
    pub kind: Option<ScheduleKind>,
    /// Epochs in which the rate first rises to the start of the schedule; at most the epochs of the job.
    #[schema(minimum = 0, default = json!(0.0))]
    pub warmup_epochs: Option<f64>,
    /// For `step`: epochs between two changes of the rate; by default a third of the epochs of the job.
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    pub step_size: Option<u32>,
    /// For `step`: the factor from one rate to the next.
    #[schema(exclusive_minimum = 0, maximum = 1, default = json!(0.1))]
    pub gamma: Option<f64>,
    /// For `one_cycle`: the fraction of the steps in which the rate rises.
    #[schema(minimum = 0, maximum = 1, default = json!(0.3))]
    pub pct_start: Option<f64>,
    /// For `one_cycle`: the highest rate divided by the rate of the first step.
    #[schema(minimum = 1, maximum = 1e12, default = json!(25.0))]
    pub div_factor: Option<f64>,
    /// For `one_cycle`: the rate of the first step divided by the rate of the last step.
    #[schema(minimum = 1, maximum = 1e12, default = json!(10000.0))]
    pub final_div_factor: Option<f64>,
}

/// A schedule of the learning rate.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The optimiser's rate throughout.
    Constant,
    /// The rate times `gamma` after every `step_size` epochs.
    Step,
    /// Half a cosine from the rate to 0.
    Cosine,
    /// Half a cosine up to the rate, then another down.
    OneCycle,
}

/// Small random changes of each image, new in each epoch. Changes that are not given are not made.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentRequest {
    /// Shift by up to this many pixels along each axis.
    #[schema(minimum = 0, maximum = 14, default = json!(0.0))]
    pub shift_pixels: Option<f64>,
    /// Rotation by up to this many degrees in either direction.
    #[schema(minimum = 0, maximum = 180, default = json!(0.0))]
    pub rotate_degrees: Option<f64>,
    /// Scaling by up to this fraction, up or down.
    #[schema(minimum = 0, maximum = 0.9, default = json!(0.0))]
    pub scale: Option<f64>,
    /// Shear by up to this ratio in either direction.
    #[schema(minimum = 0, maximum = 1, default = json!(0.0))]
    pub shear: Option<f64>,
    /// Elastic deformation.
    pub elastic: Option<ElasticRequest>,
}

/// A smoothed field of random displacements.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticRequest {
    /// Size of the displacements before they are smoothed, in pixels.
    #[schema(minimum = 0, maximum = 1000, default = json!(34.0))]
    pub alpha: Option<f64>,
    /// Standard deviation of the Gaussian that smooths them, in pixels.
    #[schema(exclusive_minimum = 0, maximum = 9, default = json!(4.0))]
    pub sigma: Option<f64>,
}

/// Ends a job whose validation loss no longer improves.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingRequest {
    /// Epochs to wait for an improvement; at most 10,000 by default.
    #[schema(minimum = 1, default = 3)]
    pub patience: Option<u32>,
}

/// When checkpoints are written, and how many are kept.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {
    /// Epochs from one checkpoint to the next; at most 10,000 by default.
    #[schema(minimum = 1, default = 1)]
    pub every_epochs: Option<u32>,
    /// How many of the newest checkpoints are kept.
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub keep: Option<u32>,
}
