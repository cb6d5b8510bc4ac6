//! Layers: [`LayerSpec`] as requested, [`LayerKind`] with its dimensions, and [`Layer`] with its parameters.

mod inspect;
mod spec;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Dimension};

pub use self::spec::{LayerKind, LayerSpec};
use super::packed::{Packed, PackedConv2d, PackedDense};
use super::rows::{all, all_mut};
use super::{Activation, BatchNorm, Conv2d, Dense, Draw, Dropout, Flatten, Float, Gradient, Pooling, Shape};

/// A layer with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer<T> {
    /// `y = x W + b`.
    Dense(Dense<T>),
    /// `y = x * w + b`.
    Conv2d(Conv2d<T>),
    /// `y = γ x̂ + β`.
    BatchNorm(BatchNorm<T>),
    /// The largest value or the mean of each square.
    Pooling(Pooling),
    /// Random zeros during training.
    Dropout(Dropout),
    /// `y = x`, as a vector.
    Flatten,
    /// `y = f(x)`.
    Activation(Activation),
}

impl<T: Float> Layer<T> {
    /// The layer at `index` of a network whose weights are drawn from `seed`.
    ///
    /// # Errors
    /// See [`LayerSpec::output`].
    pub(super) fn new(spec: LayerSpec, input: Shape, seed: u64, index: usize) -> Result<Self, String> {
        let weight = |fan_in, fan_out, shape| {
            let init = spec.init().expect("a layer whose weight is drawn has an initialisation");
            init.weight(fan_in, fan_out, shape, seed, index)
        };
        Ok(match spec.kind(input)? {
            LayerKind::Dense { inputs, units } => Self::Dense(Dense {
                weight: weight(inputs, units, [inputs, units]),
                bias: Array1::zeros(units),
            }),
            LayerKind::Conv2d { window, filters } => {
                let area = window.kernel * window.kernel;
                let inputs = area * input.channels;
                let weight = weight(inputs, area * filters, [inputs, filters]);
                Self::Conv2d(Conv2d::new(weight, Array1::zeros(filters), window))
            }
            LayerKind::BatchNorm { channels } => Self::BatchNorm(BatchNorm::new(channels)),
            LayerKind::Pooling(pooling) => Self::Pooling(pooling),
            LayerKind::Dropout(dropout) => Self::Dropout(dropout),
            LayerKind::Flatten => Self::Flatten,
            LayerKind::Activation(activation) => Self::Activation(activation),
        })
    }

    /// The kind of the layer, without the values of its parameters.
    pub fn kind(&self) -> LayerKind {
        match self {
            Self::Dense(dense) => {
                let (inputs, units) = dense.weight.dim();
                LayerKind::Dense { inputs, units }
            }
            Self::Conv2d(conv) => LayerKind::Conv2d { window: conv.window(), filters: conv.filters() },
            Self::BatchNorm(norm) => LayerKind::BatchNorm { channels: norm.channels() },
            Self::Pooling(pooling) => LayerKind::Pooling(*pooling),
            Self::Dropout(dropout) => LayerKind::Dropout(*dropout),
            Self::Flatten => LayerKind::Flatten,
            Self::Activation(activation) => LayerKind::Activation(*activation),
        }
    }

    /// See [`LayerKind::weight_shape`].
    pub fn weight_shape(&self) -> Vec<usize> {
        self.kind().weight_shape()
    }

    /// The name of the layer type in a request.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The trained tensors: weight and bias. `None` if the layer has none.
    pub fn parameters(&self) -> Option<(&Array2<T>, &Array1<T>)> {
        match self {
            Self::Dense(Dense { weight, bias })
            | Self::Conv2d(Conv2d { weight, bias, .. })
            | Self::BatchNorm(BatchNorm { weight, bias, .. }) => Some((weight, bias)),
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => None,
        }
    }

    /// Mutable [`Self::parameters`].
    pub fn parameters_mut(&mut self) -> Option<(&mut Array2<T>, &mut Array1<T>)> {
        match self {
            Self::Dense(Dense { weight, bias })
            | Self::Conv2d(Conv2d { weight, bias, .. })
            | Self::BatchNorm(BatchNorm { weight, bias, .. }) => Some((weight, bias)),
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => None,
        }
    }

    /// Parameters and buffers: weight, bias, running mean and running variance.
    pub(super) fn tensors(&self) -> [Option<&[T]>; 4] {
        let parameters = self.parameters();
        let buffers = match self {
            Self::BatchNorm(norm) => [Some(values(&norm.running_mean)), Some(values(&norm.running_var))],
            Self::Dense(_) | Self::Conv2d(_) | Self::Pooling(_) => [None, None],
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => [None, None],
        };
        let [mean, variance] = buffers;
        [
            parameters.map(|(weight, _)| values(weight)),
            parameters.map(|(_, bias)| values(bias)),
            mean,
            variance,
        ]
    }

    /// Mutable [`Self::tensors`].
    pub(super) fn tensors_mut(&mut self) -> [Option<&mut [T]>; 4] {
        match self {
            Self::BatchNorm(BatchNorm { weight, bias, running_mean, running_var }) => [
                Some(values_mut(weight)),
                Some(values_mut(bias)),
                Some(values_mut(running_mean)),
                Some(values_mut(running_var)),
            ],
            Self::Dense(Dense { weight, bias }) | Self::Conv2d(Conv2d { weight, bias, .. }) => {
                [Some(values_mut(weight)), Some(values_mut(bias)), None, None]
            }
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => [const { None }; 4],
        }
    }

    /// Copies all tensors from a layer with tensors of the same shapes.
    pub(super) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.tensors_mut().into_iter().zip(other.tensors()) {
            if let (Some(to), Some(from)) = (to, from) {
                to.copy_from_slice(from);
            }
        }
    }

    /// The same layer with elements of another type.
    pub(super) fn converted<U: Float>(&self) -> Layer<U> {
        let number = |value: T| U::of(value.wide());
        match self {
            Self::Dense(Dense { weight, bias }) => {
                Layer::Dense(Dense { weight: weight.mapv(number), bias: bias.mapv(number) })
            }
            Self::Conv2d(conv) => {
                Layer::Conv2d(Conv2d::new(conv.weight.mapv(number), conv.bias.mapv(number), conv.window()))
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
}

/// The training step to which the rows of a pass belong.
#[derive(Clone, Copy)]
pub(super) struct TrainingRows<'a> {
    /// The index of each row's example.
    pub examples: &'a [u32],
    pub draw: Draw,
    /// Index of the layer in its network.
    pub layer: usize,
}

/// The forward and backward pass of a single layer, for any number of rows. The formulas are in the file of each layer.
/// With [`TrainingRows`], `batch_norm` uses the moments of these rows, and `dropout` draws its masks. Otherwise they
/// are in inference mode.
impl<T: Float> Layer<T> {
    /// Packs the weight, and its transpose if `dx` is needed.
    pub(super) fn packed(&self, has_dx: bool) -> Packed<T> {
        match self {
            Self::Dense(dense) => Packed::Dense(PackedDense::of(dense, has_dx)),
            Self::Conv2d(conv) => Packed::Conv2d(PackedConv2d::of(conv, has_dx)),
            Self::BatchNorm(_) | Self::Pooling(_) | Self::Dropout(_) => Packed::None,
            Self::Flatten | Self::Activation(_) => Packed::None,
        }
    }

    /// `y = f(x)`, with x (rows, inputs) and y (rows, outputs).
    pub(super) fn forward(
        &self,
        packed: &Packed<T>,
        training: Option<TrainingRows>,
        x: ArrayView2<T>,
        mut y: ArrayViewMut2<T>,
    ) {
        match (self, training) {
            (Self::Dense(dense), _) => dense.forward_into(x, &packed.dense(dense, false).weight, y),
            (Self::Conv2d(conv), _) => conv.forward_into(x, &packed.conv2d(conv, false), y),
            (Self::BatchNorm(norm), None) => norm.forward_into(all(&x), all_mut(&mut y)),
            (Self::BatchNorm(norm), Some(_)) => y.assign(&norm.forward_training(x)),
            (Self::Pooling(pooling), _) => pooling.forward_into(x, y),
            (Self::Flatten, _) => Flatten.copy(x, y),
            (Self::Dropout(_), None) => y.assign(&x),
            (Self::Dropout(dropout), Some(TrainingRows { examples, draw, layer })) => {
                dropout.multiply(draw, layer, examples, x, y);
            }
            (Self::Activation(activation), _) => activation.forward_into(x, y),
        }
    }

    /// `dx = dy · ∂y/∂x`, with x and dx (rows, inputs), y and dy (rows, outputs).
    pub(super) fn backward_input(
        &self,
        packed: &Packed<T>,
        training: Option<TrainingRows>,
        [x, y, dy]: [ArrayView2<T>; 3],
        mut dx: ArrayViewMut2<T>,
    ) {
        match (self, training) {
            (Self::Dense(dense), _) => Dense::backward_input(dy, packed.dense(dense, true).transposed(), dx),
            (Self::Conv2d(conv), _) => conv.backward_input_into(dy, &packed.conv2d(conv, true), dx),
            (Self::BatchNorm(norm), None) => norm.backward_input(all(&dy), all_mut(&mut dx)),
            (Self::BatchNorm(norm), Some(_)) => dx.assign(&norm.backward_training(x, dy).0),
            (Self::Pooling(pooling), _) => pooling.backward_into([x, y, dy], dx),
            (Self::Flatten, _) => Flatten.copy(dy, dx),
            (Self::Dropout(_), None) => dx.assign(&dy),
            (Self::Dropout(dropout), Some(TrainingRows { examples, draw, layer })) => {
                dropout.multiply(draw, layer, examples, dy, dx);
            }
            (Self::Activation(activation), _) => activation.backward_into([x, y, dy], dx),
        }
    }

    /// Adds `dW` and `db` to `gradient` if the layer has parameters, with x (rows, inputs) and dy (rows, outputs).
    pub(super) fn backward_parameters(
        &self,
        training: Option<TrainingRows>,
        x: ArrayView2<T>,
        dy: ArrayView2<T>,
        gradient: &mut Gradient<T>,
    ) {
        match (self, training) {
            (Self::Dense(_), _) => Dense::backward_parameters(x, dy, gradient),
            (Self::Conv2d(conv), _) => conv.add_gradient(x, dy, gradient),
            (Self::BatchNorm(norm), None) => norm.backward_parameters(x, dy, gradient),
            (Self::BatchNorm(norm), Some(_)) => {
                let (_, dweight, dbias) = norm.backward_training(x, dy);
                gradient.weight += &dweight;
                gradient.bias += &dbias;
            }
            (Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_), _) => {}
        }
    }
}

const ROW_ORDER: &str = "parameters and gradients are in row-major order";

/// The elements of a parameter or gradient in row-major order.
pub(super) fn values<T, D: Dimension>(tensor: &ndarray::Array<T, D>) -> &[T] {
    tensor.as_slice().expect(ROW_ORDER)
}

/// Mutable [`values`].
pub(super) fn values_mut<T, D: Dimension>(tensor: &mut ndarray::Array<T, D>) -> &mut [T] {
    tensor.as_slice_mut().expect(ROW_ORDER)
}
