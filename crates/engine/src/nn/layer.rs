use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Dimension};
use serde::{Deserialize, Serialize};

use super::batch_norm::affine;
use super::conv2d::ConvScratch;
use super::kernel::vectorized;
use super::packed::Packed;
use super::rows::{all, all_mut, image, image_mut};
use super::shape::Window;
use super::{
    Activation, BatchNorm, Conv2d, Dense, Dropout, Float, Init, Padding, Pooling, PoolingKind, Shape,
};

/// A layer as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LayerSpec {
    /// A fully connected layer; it takes an image as the list of its elements.
    Dense {
        /// Outputs.
        units: usize,
        /// How its weights start.
        init: Init,
    },
    /// See [`Conv2d`].
    Conv2d {
        /// Channels of the output.
        filters: usize,
        /// Side of a filter.
        kernel: usize,
        /// What happens at the border.
        padding: Padding,
        /// From one window to the next.
        stride: usize,
        /// How its weights start.
        init: Init,
    },
    /// The largest of each square, see [`Pooling`].
    MaxPool2d {
        /// Side of a square.
        size: usize,
    },
    /// The mean of each square, see [`Pooling`].
    AvgPool2d {
        /// Side of a square.
        size: usize,
    },
    /// See [`BatchNorm`].
    BatchNorm,
    /// See [`Dropout`].
    Dropout {
        /// Probability of a 0.
        rate: f64,
    },
    /// An image as the list of its elements.
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
    /// The words for the kinds of layers.
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

    /// What it is, whatever its numbers.
    pub fn kind(self) -> LayerKind {
        match self {
            Self::Dense { .. } => LayerKind::Dense,
            Self::Conv2d { .. } => LayerKind::Conv2d,
            Self::MaxPool2d { size } => LayerKind::Pooling { kind: PoolingKind::Max, size },
            Self::AvgPool2d { size } => LayerKind::Pooling { kind: PoolingKind::Average, size },
            Self::BatchNorm => LayerKind::BatchNorm,
            Self::Dropout { .. } => LayerKind::Dropout,
            Self::Flatten => LayerKind::Flatten,
            Self::Relu => LayerKind::Activation(Activation::Relu),
            Self::LeakyRelu => LayerKind::Activation(Activation::LeakyRelu),
            Self::Gelu => LayerKind::Activation(Activation::Gelu),
            Self::Sigmoid => LayerKind::Activation(Activation::Sigmoid),
            Self::Tanh => LayerKind::Activation(Activation::Tanh),
        }
    }

    /// The word for this kind of layer.
    pub fn name(self) -> &'static str {
        self.kind().name()
    }

    /// See [`Layer::weight_shape`].
    pub(super) fn weight_shape(self, input: Shape) -> Vec<usize> {
        match self {
            Self::Dense { units, .. } => vec![input.len(), units],
            Self::Conv2d { filters, kernel, .. } => vec![kernel, kernel, input.channels, filters],
            Self::BatchNorm => vec![input.channels],
            _ => Vec::new(),
        }
    }

    /// The shape that comes out of this layer where `input` goes in.
    ///
    /// # Errors
    /// If `input` does not fit; the text names both shapes.
    pub fn output(self, input: Shape) -> Result<Shape, String> {
        let window = |kernel, stride, padding| {
            if input.places() == 1 && kernel > 1 {
                return Err(format!(
                    "{} needs an image, not a list of {} values",
                    self.name(),
                    input.channels
                ));
            }
            Window::new(input, kernel, stride, padding).ok_or_else(|| {
                format!("{} of {kernel}×{kernel} does not fit into its input of {input}", self.name())
            })
        };
        Ok(match self {
            Self::Dense { units, .. } => Shape::vector(units),
            Self::Conv2d { filters, kernel, padding, stride, .. } => {
                let window = window(kernel, stride, padding)?;
                Shape { height: window.height, width: window.width, channels: filters }
            }
            Self::MaxPool2d { size } | Self::AvgPool2d { size } => {
                let window = window(size, size, Padding::Valid)?;
                Shape { height: window.height, width: window.width, ..input }
            }
            Self::Flatten => Shape::vector(input.len()),
            Self::BatchNorm
            | Self::Dropout { .. }
            | Self::Relu
            | Self::LeakyRelu
            | Self::Gelu
            | Self::Sigmoid
            | Self::Tanh => input,
        })
    }
}

/// What a layer is, whatever its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// See [`Dense`].
    Dense,
    /// See [`Conv2d`].
    Conv2d,
    /// See [`Pooling`].
    Pooling {
        /// What is taken of a square.
        kind: PoolingKind,
        /// Side of a square.
        size: usize,
    },
    /// See [`BatchNorm`].
    BatchNorm,
    /// See [`Dropout`].
    Dropout,
    /// An image as the list of its elements.
    Flatten,
    /// A function of each element.
    Activation(Activation),
}

impl LayerKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Conv2d => "conv2d",
            Self::Pooling { kind: PoolingKind::Max, .. } => "max_pool2d",
            Self::Pooling { kind: PoolingKind::Average, .. } => "avg_pool2d",
            Self::BatchNorm => "batch_norm",
            Self::Dropout => "dropout",
            Self::Flatten => "flatten",
            Self::Activation(activation) => activation.name(),
        }
    }

    /// Whether there is something to train.
    pub fn has_parameters(self) -> bool {
        matches!(self, Self::Dense | Self::Conv2d | Self::BatchNorm)
    }
}

/// A layer with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer<T> {
    /// `y = x W + b`.
    Dense(Dense<T>),
    /// `y = x * w + b`.
    Conv2d(Conv2d<T>),
    /// `y = γ x̂ + β`.
    BatchNorm(BatchNorm<T>),
    /// The largest or the mean of each square.
    Pooling(Pooling),
    /// Zeros here and there.
    Dropout(Dropout),
    /// `y = x`, without rows and columns.
    Flatten,
    /// `y = f(x)`.
    Activation(Activation),
}

impl<T: Float> Layer<T> {
    /// The layer number `index` of a network that starts from `seed`.
    ///
    /// # Errors
    /// See [`LayerSpec::output`].
    pub(super) fn new(spec: LayerSpec, input: Shape, seed: u64, index: usize) -> Result<Self, String> {
        spec.output(input)?;
        let fits = "the shapes were checked";
        Ok(match spec {
            LayerSpec::Dense { units, init } => Self::Dense(Dense {
                weight: init.weight(input.len(), units, [input.len(), units], seed, index),
                bias: Array1::zeros(units),
            }),
            LayerSpec::Conv2d { filters, kernel, padding, stride, init } => {
                let area = kernel * kernel;
                let inputs = area * input.channels;
                let weight = init.weight(inputs, area * filters, [inputs, filters], seed, index);
                Self::Conv2d(Conv2d::new(weight, Window::new(input, kernel, stride, padding).expect(fits)))
            }
            LayerSpec::MaxPool2d { size } => {
                Self::Pooling(Pooling::new(PoolingKind::Max, input, size).expect(fits))
            }
            LayerSpec::AvgPool2d { size } => {
                Self::Pooling(Pooling::new(PoolingKind::Average, input, size).expect(fits))
            }
            LayerSpec::BatchNorm => Self::BatchNorm(BatchNorm::new(input.channels)),
            LayerSpec::Dropout { rate } => Self::Dropout(Dropout { rate }),
            LayerSpec::Flatten => Self::Flatten,
            LayerSpec::Relu => Self::Activation(Activation::Relu),
            LayerSpec::LeakyRelu => Self::Activation(Activation::LeakyRelu),
            LayerSpec::Gelu => Self::Activation(Activation::Gelu),
            LayerSpec::Sigmoid => Self::Activation(Activation::Sigmoid),
            LayerSpec::Tanh => Self::Activation(Activation::Tanh),
        })
    }

    /// What it is, whatever its numbers.
    pub fn kind(&self) -> LayerKind {
        match self {
            Self::Dense(_) => LayerKind::Dense,
            Self::Conv2d(_) => LayerKind::Conv2d,
            Self::BatchNorm(_) => LayerKind::BatchNorm,
            Self::Pooling(pooling) => LayerKind::Pooling { kind: pooling.kind, size: pooling.size() },
            Self::Dropout(_) => LayerKind::Dropout,
            Self::Flatten => LayerKind::Flatten,
            Self::Activation(activation) => LayerKind::Activation(*activation),
        }
    }

    /// The word for this kind of layer.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The trained tensors: weight and bias.
    pub fn parameters(&self) -> Option<(&Array2<T>, &Array1<T>)> {
        match self {
            Self::Dense(Dense { weight, bias })
            | Self::Conv2d(Conv2d { weight, bias, .. })
            | Self::BatchNorm(BatchNorm { weight, bias, .. }) => Some((weight, bias)),
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => None,
        }
    }

    /// [`Self::parameters`], to be changed.
    pub fn parameters_mut(&mut self) -> Option<(&mut Array2<T>, &mut Array1<T>)> {
        match self {
            Self::Dense(Dense { weight, bias })
            | Self::Conv2d(Conv2d { weight, bias, .. })
            | Self::BatchNorm(BatchNorm { weight, bias, .. }) => Some((weight, bias)),
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => None,
        }
    }

    /// Parameters and buffers.
    pub(super) fn tensors(&self) -> [Option<&[T]>; 4] {
        let parameters = self.parameters();
        let buffers = match self {
            Self::BatchNorm(norm) => [Some(values(&norm.running_mean)), Some(values(&norm.running_var))],
            _ => [None, None],
        };
        let [mean, variance] = buffers;
        [
            parameters.map(|(weight, _)| values(weight)),
            parameters.map(|(_, bias)| values(bias)),
            mean,
            variance,
        ]
    }

    /// [`Self::tensors`], to be changed.
    pub(super) fn tensors_mut(&mut self) -> [Option<&mut [T]>; 4] {
        match self {
            Self::BatchNorm(BatchNorm { weight, bias, running_mean, running_var }) => [
                Some(values_mut(weight)),
                Some(values_mut(bias)),
                Some(values_mut(running_mean)),
                Some(values_mut(running_var)),
            ],
            layer => match layer.parameters_mut() {
                Some((weight, bias)) => [Some(values_mut(weight)), Some(values_mut(bias)), None, None],
                None => [None, None, None, None],
            },
        }
    }

    /// Takes over the values of a layer with tensors of the same shapes.
    pub(super) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.tensors_mut().into_iter().zip(other.tensors()) {
            if let (Some(to), Some(from)) = (to, from) {
                to.copy_from_slice(from);
            }
        }
    }

    /// The same layer in numbers of another width.
    pub(super) fn converted<U: Float>(&self) -> Layer<U> {
        let number = |value: T| U::of(value.wide());
        match self {
            Self::Dense(Dense { weight, bias }) => {
                Layer::Dense(Dense { weight: weight.mapv(number), bias: bias.mapv(number) })
            }
            Self::Conv2d(conv) => {
                let mut converted = Conv2d::new(conv.weight.mapv(number), conv.window());
                converted.bias = conv.bias.mapv(number);
                Layer::Conv2d(converted)
            }
            Self::BatchNorm(BatchNorm { weight, bias, running_mean, running_var }) => {
                Layer::BatchNorm(BatchNorm {
                    weight: weight.mapv(number),
                    bias: bias.mapv(number),
                    running_mean: running_mean.mapv(number),
                    running_var: running_var.mapv(number),
                })
            }
            Self::Pooling(pooling) => Layer::Pooling(*pooling),
            Self::Dropout(dropout) => Layer::Dropout(*dropout),
            Self::Flatten => Layer::Flatten,
            Self::Activation(activation) => Layer::Activation(*activation),
        }
    }

    /// The shape of the weight as the field has it: (inputs, units), (k, k, channels, filters), or
    /// (channels); empty where there is none.
    pub fn weight_shape(&self) -> Vec<usize> {
        match self {
            Self::Conv2d(conv) => {
                vec![conv.kernel(), conv.kernel(), conv.input().channels, conv.filters()]
            }
            Self::BatchNorm(norm) => vec![norm.channels()],
            layer => layer.parameters().map_or_else(Vec::new, |(weight, _)| weight.shape().to_vec()),
        }
    }
}

/// One layer, for any rows: forward as it answers at inference, and the chain rule through it.
impl<T: Float> Layer<T> {
    /// `y = f(x)`: x (rows, inputs), y (rows, outputs).
    pub(super) fn forward(
        &self,
        packed: &Packed<T>,
        x: ArrayView2<T>,
        mut y: ArrayViewMut2<T>,
        scratch: Option<&mut ConvScratch<T>>,
    ) {
        match (self, packed, scratch) {
            (Self::Dense(dense), Packed::Dense { weight, .. }, _) => dense.forward(x, weight, y),
            (Self::Conv2d(conv), Packed::Conv2d { weight, .. }, Some(scratch)) => {
                for row in 0..x.nrows() {
                    let (x, y) = (image(&x, row), image_mut(&mut y, row));
                    vectorized!(conv.forward(x, weight, scratch, y));
                }
            }
            (Self::BatchNorm(norm), ..) => {
                let (scale, shift) = norm.affine();
                affine(all(&x), values(&scale), values(&shift), all_mut(&mut y));
            }
            (Self::Pooling(pooling), ..) => {
                for row in 0..x.nrows() {
                    vectorized!(pooling.forward(image(&x, row), image_mut(&mut y, row)));
                }
            }
            (Self::Dropout(_) | Self::Flatten, ..) => y.assign(&x),
            (Self::Activation(activation), ..) => {
                let (x, y) = (all(&x), all_mut(&mut y));
                vectorized!(activation.forward(x, y));
            }
            (Self::Dense(_) | Self::Conv2d(_), ..) => unreachable!("{PACKED}: {}", self.name()),
        }
    }

    /// What [`Self::forward`] and [`Self::backward_input`] of a convolution need.
    pub(super) fn conv_scratch(&self) -> Option<ConvScratch<T>> {
        match self {
            Self::Conv2d(conv) => Some(conv.scratch()),
            _ => None,
        }
    }

    /// `dx = dy · ∂y/∂x`: x and dx (rows, inputs), y and dy (rows, outputs). A `batch_norm` and a `dropout`
    /// are taken as they are at inference.
    pub(super) fn backward_input(
        &self,
        packed: &Packed<T>,
        [x, y, dy]: [ArrayView2<T>; 3],
        mut dx: ArrayViewMut2<T>,
        scratch: Option<&mut ConvScratch<T>>,
    ) {
        match (self, packed, scratch) {
            (Self::Dense(_), Packed::Dense { transposed: Some(transposed), .. }, _) => {
                Dense::backward_input(dy, transposed, dx);
            }
            (Self::Conv2d(conv), Packed::Conv2d { transposed: Some(transposed), .. }, Some(scratch)) => {
                for row in 0..dy.nrows() {
                    conv.backward_input(image(&dy, row), transposed, scratch, image_mut(&mut dx, row));
                }
            }
            (Self::BatchNorm(norm), ..) => {
                let (scale, _) = norm.affine();
                affine(all(&dy), values(&scale), &vec![T::zero(); scale.len()], all_mut(&mut dx));
            }
            (Self::Pooling(pooling), ..) => {
                for row in 0..dy.nrows() {
                    let (x, y, dy) = (image(&x, row), image(&y, row), image(&dy, row));
                    vectorized!(pooling.backward(x, y, dy, image_mut(&mut dx, row)));
                }
            }
            (Self::Dropout(_) | Self::Flatten, ..) => dx.assign(&dy),
            (Self::Activation(activation), ..) => {
                let (x, y, dy, dx) = (all(&x), all(&y), all(&dy), all_mut(&mut dx));
                vectorized!(activation.backward(x, y, dy, dx));
            }
            (Self::Dense(_) | Self::Conv2d(_), ..) => unreachable!("{PACKED}: {}", self.name()),
        }
    }
}

const PACKED: &str = "a product has its weight packed";

const ROW_ORDER: &str = "parameters and their gradients are made in row order and keep it";

/// The elements of a parameter or gradient in row order.
pub(super) fn values<T, D: Dimension>(tensor: &ndarray::Array<T, D>) -> &[T] {
    tensor.as_slice().expect(ROW_ORDER)
}

/// [`values`], to be changed.
pub(super) fn values_mut<T, D: Dimension>(tensor: &mut ndarray::Array<T, D>) -> &mut [T] {
    tensor.as_slice_mut().expect(ROW_ORDER)
}
