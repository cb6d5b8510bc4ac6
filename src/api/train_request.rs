//! What a client asks to train. Requests are read field by field, so that all faults are reported at once; these types are
//! their schema.

use utoipa::ToSchema;

use super::spec::{Init, Loss, Padding};

/// A training job. Every field has a default: those shown are of the preset `mlp`, which is also what `network` is unless given;
/// another preset has its own, see `GET /v1/networks`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// The name to publish the model under: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit.
    #[schema(default = json!("digits"), pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    pub model: Option<String>,
    /// The data set, see `GET /v1/datasets`.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// The network: a preset with its whole recipe, or layers.
    #[schema(default = json!("mlp"))]
    pub network: Option<NetworkChoice>,
    /// What is minimised.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// The update rule.
    pub optimizer: Option<OptimizerRequest>,
    /// How the learning rate changes.
    pub schedule: Option<ScheduleRequest>,
    /// Passes over the training examples; at most 10,000 unless the server is set otherwise.
    #[schema(minimum = 1, default = 5)]
    pub epochs: Option<u32>,
    /// Images a step; at most the examples that are trained on.
    #[schema(minimum = 1, default = 128)]
    pub batch_size: Option<usize>,
    /// The seed of everything random.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807i64, default = 42)]
    pub seed: Option<u64>,
    /// Share of the examples that are held out to validate; 0 holds out none.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0833))]
    pub validation_fraction: Option<f64>,
    /// How many examples are used, after a shuffle by the seed; all of them unless given.
    #[schema(minimum = 1)]
    pub train_samples: Option<usize>,
    /// Changes made to the images while training; null takes those of a preset away.
    pub augment: Option<AugmentRequest>,
    /// ε of the targets `(1 − ε) onehot + ε / classes`.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0))]
    pub label_smoothing: Option<f64>,
    /// The largest norm that all gradients of a step may have together.
    #[schema(exclusive_minimum = 0)]
    pub gradient_clip_norm: Option<f64>,
    /// The decay of an average of the weights over the steps, which is then what is validated, tested and published; null
    /// takes that of a preset away.
    #[schema(minimum = 0, maximum = 0.999999)]
    pub ema_decay: Option<f64>,
    /// The validation accuracy that ends the job; needs validation examples.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub target_accuracy: Option<f64>,
    /// When the job gives up; needs validation examples.
    pub early_stopping: Option<EarlyStoppingRequest>,
    /// When the state is kept.
    pub checkpoint: Option<CheckpointRequest>,
    /// The model whose weights the layers that fit start from: `name`, `name@3` or `name@alias`.
    pub initial_model: Option<String>,
    /// Jobs of a higher priority run first; the result is the same.
    #[schema(minimum = -100, maximum = 100, default = 0)]
    pub priority: Option<i32>,
}

/// A preset by its name, or layers.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum NetworkChoice {
    /// The name of a preset.
    Preset(Preset),
    /// Layers, for images of 28 × 28 × 1.
    Layers(LayersRequest),
}

/// A network with its whole recipe, see `GET /v1/networks`.
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
    /// First to last, at most 64 unless the server is set otherwise. The last is `dense`, with a unit for each class: the
    /// softmax belongs to the loss.
    #[schema(min_items = 1)]
    pub layers: Vec<LayerRequest>,
}

/// A layer.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerRequest {
    /// A fully connected layer; it takes an image as the list of its elements.
    Dense {
        /// Outputs; at most 16,384 unless the server is set otherwise.
        #[schema(minimum = 1)]
        units: usize,
        /// How its weights start.
        #[schema(default = json!("he"))]
        init: Option<Init>,
    },
    /// A convolution with square filters.
    Conv2d {
        /// Channels of the output; at most 16,384 unless the server is set otherwise.
        #[schema(minimum = 1)]
        filters: usize,
        /// Side of a filter, in pixels.
        #[schema(minimum = 1, maximum = 28)]
        kernel: usize,
        /// What happens at the border.
        #[schema(default = json!("valid"))]
        padding: Option<Padding>,
        /// Pixels from one window to the next.
        #[schema(minimum = 1, maximum = 28, default = 1)]
        stride: Option<usize>,
        /// How its weights start.
        #[schema(default = json!("he"))]
        init: Option<Init>,
    },
    /// The largest of each square.
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
    /// Dropout.
    Dropout {
        /// Probability of a 0.
        #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.5))]
        rate: Option<f64>,
    },
    /// An image as the list of its elements.
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

/// An update rule. Without `type` it is the preset's, with the fields that are given changed. Each type takes `learning_rate`,
/// `weight_decay` and those fields that name it; their defaults are PyTorch's, but for a momentum of 0.9.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRequest {
    /// Which rule.
    #[serde(rename = "type")]
    pub kind: Option<OptimizerKind>,
    /// η: 0.001 unless given, 0.01 of `adagrad` and `rmsprop`.
    #[schema(exclusive_minimum = 0, maximum = 1e6)]
    pub learning_rate: Option<f64>,
    /// λ: 0 unless given, 0.01 of `adamw`.
    #[schema(minimum = 0, maximum = 1e6)]
    pub weight_decay: Option<f64>,
    /// μ of `momentum`, `nesterov` (0.9 unless given) and `rmsprop` (0).
    #[schema(minimum = 0, exclusive_maximum = 1)]
    pub momentum: Option<f64>,
    /// δ of `adagrad`.
    #[schema(minimum = 0, maximum = 1e6, default = json!(0.0))]
    pub lr_decay: Option<f64>,
    /// ε of `adagrad` (1e-10 unless given), `rmsprop`, `adam` and `adamw` (1e-8).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub eps: Option<f64>,
    /// α of `rmsprop`.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.99))]
    pub alpha: Option<f64>,
    /// Of `rmsprop`: whether the variance is taken instead of the mean square.
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
    /// `s ← α s + (1 − α) g²`, `w ← w − η g / (√s + ε)`.
    Rmsprop,
    /// Means of the gradient and its square.
    Adam,
    /// Adam with the decay apart from the gradient.
    Adamw,
}

/// A schedule of the learning rate. Without `type` it is the preset's, with the fields that are given changed. Each type takes
/// `warmup_epochs` and those fields that name it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// Which schedule.
    #[serde(rename = "type")]
    pub kind: Option<ScheduleKind>,
    /// Epochs in which the rate first rises to where the schedule begins; at most those of the job.
    #[schema(minimum = 0, default = json!(0.0))]
    pub warmup_epochs: Option<f64>,
    /// Epochs of one rate, of `step`: a third of the job's unless given.
    #[schema(minimum = 1, maximum = 4_294_967_295u32)]
    pub step_size: Option<u32>,
    /// Factor from one rate to the next, of `step`.
    #[schema(exclusive_minimum = 0, maximum = 1, default = json!(0.1))]
    pub gamma: Option<f64>,
    /// Share of the steps that rise, of `one_cycle`.
    #[schema(minimum = 0, maximum = 1, default = json!(0.3))]
    pub pct_start: Option<f64>,
    /// The rate over the first step's rate, of `one_cycle`.
    #[schema(minimum = 1, maximum = 1e12, default = json!(25.0))]
    pub div_factor: Option<f64>,
    /// The first step's rate over the last step's, of `one_cycle`.
    #[schema(minimum = 1, maximum = 1e12, default = json!(10000.0))]
    pub final_div_factor: Option<f64>,
}

/// A schedule of the learning rate.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The optimiser's rate all along.
    Constant,
    /// The rate times `gamma` after every `step_size` epochs.
    Step,
    /// Half a cosine from the rate to 0.
    Cosine,
    /// Half a cosine up to the rate, another down.
    OneCycle,
}

/// Small changes to each image, drawn anew in each epoch; what is not given does not happen.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentRequest {
    /// Moves by up to this many pixels along each axis.
    #[schema(minimum = 0, maximum = 14, default = json!(0.0))]
    pub shift_pixels: Option<f64>,
    /// Turns by up to this many degrees either way.
    #[schema(minimum = 0, maximum = 180, default = json!(0.0))]
    pub rotate_degrees: Option<f64>,
    /// Grows or shrinks by up to this share.
    #[schema(minimum = 0, maximum = 0.9, default = json!(0.0))]
    pub scale: Option<f64>,
    /// Slants by up to this ratio either way.
    #[schema(minimum = 0, maximum = 1, default = json!(0.0))]
    pub shear: Option<f64>,
    /// Bends.
    pub elastic: Option<ElasticRequest>,
}

/// A smoothed field of random displacements.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticRequest {
    /// Size of the displacements before they are smoothed, in pixels.
    #[schema(minimum = 0, maximum = 1000, default = json!(34.0))]
    pub alpha: Option<f64>,
    /// Deviation of the Gaussian that smooths them, in pixels.
    #[schema(exclusive_minimum = 0, maximum = 9, default = json!(4.0))]
    pub sigma: Option<f64>,
}

/// Ends a job whose validation loss no longer falls.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingRequest {
    /// Epochs to wait for a better one; at most 10,000 unless the server is set otherwise.
    #[schema(minimum = 1, default = 3)]
    pub patience: Option<u32>,
}

/// When the state of a job is kept.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {
    /// Epochs from one checkpoint to the next; at most 10,000 unless the server is set otherwise.
    #[schema(minimum = 1, default = 1)]
    pub every_epochs: Option<u32>,
    /// How many are kept, newest first.
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub keep: Option<u32>,
}
