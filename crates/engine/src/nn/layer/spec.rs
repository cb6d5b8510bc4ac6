use serde::{Deserialize, Serialize};

use crate::nn::shape::Window;
use crate::nn::{Activation, Dropout, Init, Padding, Pooling, PoolingKind, Shape};

/// A layer in a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub enum LayerSpec {
    /// A fully connected layer. Its input is flattened.
    Dense { units: usize, init: Init },
    /// See [`Conv2d`](crate::nn::Conv2d).
    Conv2d {
        filters: usize,
        /// Side of a filter, in pixels.
        kernel: usize,
        padding: Padding,
        /// Distance from one window to the next, in pixels.
        stride: usize,
        init: Init,
    },
    /// The largest value of each square. See [`Pooling`].
    MaxPool2d {
        /// Side of a square, in pixels. It is also the distance from one square to the next.
        size: usize,
    },
    /// The mean of each square. See [`Pooling`].
    AvgPool2d {
        /// Side of a square, in pixels. It is also the distance from one square to the next.
        size: usize,
    },
    /// See [`BatchNorm`](crate::nn::BatchNorm).
    BatchNorm,
    /// See [`Dropout`].
    Dropout {
        /// Probability of setting a value to 0.
        rate: f64,
    },
    /// Turns an image into a vector of its elements.
    Flatten,
    /// See [`Activation::Relu`].
    Relu,
    /// See [`Activation::LeakyRelu`].
    LeakyRelu,
    /// See [`Activation::Gelu`].
    Gelu,
    /// See [`Activation::Sigmoid`].
    Sigmoid,
    /// See [`Activation::Tanh`].
    Tanh,
}

impl From<Activation> for LayerSpec {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::LeakyRelu => Self::LeakyRelu,
            Activation::Gelu => Self::Gelu,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Tanh => Self::Tanh,
        }
    }
}

impl LayerSpec {
    /// The names of all layer types in a request.
    pub const NAMES: [&'static str; 12] = [
        "dense",
        "conv2d",
        "max_pool2d",
        "avg_pool2d",
        "batch_norm",
        "dropout",
        "flatten",
        "relu",
        "leaky_relu",
        "gelu",
        "sigmoid",
        "tanh",
    ];

    /// The kind of the layer for an input of shape `input`.
    ///
    /// # Errors
    /// If the layer doesn't fit `input`. The message describes the layer and its input.
    pub fn kind(self, input: Shape) -> Result<LayerKind, String> {
        let window = |kernel, stride, padding| {
            if input.places() == 1 && kernel > 1 {
                let values = input.channels;
                return Err(format!("{} needs an image, not a list of {values} values", self.name()));
            }
            Window::new(input, kernel, stride, padding).ok_or_else(|| {
                format!("{} of {kernel}×{kernel} does not fit into its input of {input}", self.name())
            })
        };
        let pooling = |kind, size| {
            let window = window(size, size, Padding::Valid)?;
            Ok(LayerKind::Pooling(Pooling { kind, window }))
        };
        Ok(match self {
            Self::Dense { units, .. } => LayerKind::Dense { inputs: input.len(), units },
            Self::Conv2d { filters, kernel, padding, stride, .. } => {
                LayerKind::Conv2d { window: window(kernel, stride, padding)?, filters }
            }
            Self::MaxPool2d { size } => return pooling(PoolingKind::Max, size),
            Self::AvgPool2d { size } => return pooling(PoolingKind::Average, size),
            Self::BatchNorm => LayerKind::BatchNorm { channels: input.channels },
            Self::Dropout { rate } => LayerKind::Dropout(Dropout { rate }),
            Self::Flatten => LayerKind::Flatten,
            Self::Relu => LayerKind::Activation(Activation::Relu),
            Self::LeakyRelu => LayerKind::Activation(Activation::LeakyRelu),
            Self::Gelu => LayerKind::Activation(Activation::Gelu),
            Self::Sigmoid => LayerKind::Activation(Activation::Sigmoid),
            Self::Tanh => LayerKind::Activation(Activation::Tanh),
        })
    }

    /// The initialisation of the weight. `None` if the layer draws none.
    pub(in crate::nn) fn init(self) -> Option<Init> {
        match self {
            Self::Dense { init, .. } | Self::Conv2d { init, .. } => Some(init),
            Self::MaxPool2d { .. } | Self::AvgPool2d { .. } | Self::BatchNorm | Self::Dropout { .. } => None,
            Self::Flatten | Self::Relu | Self::LeakyRelu | Self::Gelu | Self::Sigmoid | Self::Tanh => None,
        }
    }

    /// The name of the layer type in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::AvgPool2d { .. } => "avg_pool2d",
            Self::BatchNorm => "batch_norm",
            Self::Dropout { .. } => "dropout",
            Self::Flatten => "flatten",
            Self::Relu => Activation::Relu.name(),
            Self::LeakyRelu => Activation::LeakyRelu.name(),
            Self::Gelu => Activation::Gelu.name(),
            Self::Sigmoid => Activation::Sigmoid.name(),
            Self::Tanh => Activation::Tanh.name(),
        }
    }

    /// The shape of the output for an input of shape `input`.
    ///
    /// # Errors
    /// See [`Self::kind`].
    pub fn output(self, input: Shape) -> Result<Shape, String> {
        Ok(self.kind(input)?.output(input))
    }
}

/// The kind of a layer with its dimensions, but without the values of its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub enum LayerKind {
    /// See [`Dense`](crate::nn::Dense).
    Dense { inputs: usize, units: usize },
    /// See [`Conv2d`](crate::nn::Conv2d).
    Conv2d {
        /// The windows over which a filter slides.
        window: Window,
        filters: usize,
    },
    /// See [`Pooling`].
    Pooling(Pooling),
    /// See [`BatchNorm`](crate::nn::BatchNorm).
    BatchNorm { channels: usize },
    /// See [`Dropout`].
    Dropout(Dropout),
    /// Turns an image into a vector of its elements.
    Flatten,
    /// A function applied to each element.
    Activation(Activation),
}

impl LayerKind {
    /// The name of the layer type in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Conv2d { .. } => "conv2d",
            Self::Pooling(Pooling { kind: PoolingKind::Max, .. }) => "max_pool2d",
            Self::Pooling(Pooling { kind: PoolingKind::Average, .. }) => "avg_pool2d",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Dropout(_) => "dropout",
            Self::Flatten => "flatten",
            Self::Activation(activation) => activation.name(),
        }
    }

    /// Whether the layer has parameters.
    pub fn has_parameters(self) -> bool {
        !self.weight_shape().is_empty()
    }

    /// The shape of the weight: (inputs, units), (k, k, channels, filters), or (channels). Empty if the layer has no
    /// weight.
    pub fn weight_shape(self) -> Vec<usize> {
        match self {
            Self::Dense { inputs, units } => vec![inputs, units],
            Self::Conv2d { window, filters } => {
                vec![window.kernel, window.kernel, window.input.channels, filters]
            }
            Self::BatchNorm { channels } => vec![channels],
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => Vec::new(),
        }
    }

    /// Number of parameters. It is an `f64`, because a request can ask for layers so large that an integer overflows.
    pub fn parameters(self) -> f64 {
        let shape = self.weight_shape();
        let bias = shape.last().map_or(0.0, |&columns| columns as f64);
        let weight = shape.iter().map(|&length| length as f64).reduce(|product, length| product * length);
        weight.unwrap_or(0.0) + bias
    }

    /// The shape of the weight as a matrix with one column per bias.
    pub(in crate::nn) fn weight_dim(self) -> Option<(usize, usize)> {
        let shape = self.weight_shape();
        shape.split_last().map(|(&columns, rows)| (rows.iter().product(), columns))
    }

    /// The shape of the output for an input that fits.
    fn output(self, input: Shape) -> Shape {
        match self {
            Self::Dense { units, .. } => Shape::vector(units),
            Self::Conv2d { window, filters } => {
                Shape { height: window.height, width: window.width, channels: filters }
            }
            Self::Pooling(pooling) => pooling.output(),
            Self::Flatten => Shape::vector(input.len()),
            Self::BatchNorm { .. } | Self::Dropout(_) | Self::Activation(_) => input,
        }
    }
}
