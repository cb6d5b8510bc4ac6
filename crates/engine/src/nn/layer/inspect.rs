//! What the plan, the lab and the prices ask of a layer, besides its passes.

use super::{Layer, LayerKind};
use crate::nn::arithmetic::{
    CHANNELS, COLUMNS, DENSE, DRAWN, EXPONENTIAL, NORMALISED, POOLED_PIXEL, VALUE, WINDOW,
};
use crate::nn::conv2d::numbers_of_scratch;
use crate::nn::kernel::{PANEL, vectorized};
use crate::nn::packed::{numbers_of_conv2d, numbers_of_dense};
use crate::nn::plan::OpKind;
use crate::nn::{Activation, Dense, Float, Shape};

/// Floating-point operations per output of a layer.
const FLOPS_PER_VALUE: f64 = 2.0;

/// Floating-point operations per output of an activation that computes an exponential.
const FLOPS_PER_EXPONENTIAL: f64 = 20.0;

impl<T: Float> Layer<T> {
    /// Calls `work(i, j, ∂y_j/∂x_i)` for each pair whose local derivative isn't always 0. x and y are the input and
    /// output of one row, in inference mode.
    pub(in crate::nn) fn for_each_local(&self, x: &[T], y: &[T], mut work: impl FnMut(usize, usize, T)) {
        match self {
            Self::Dense(Dense { weight, .. }) => {
                for (from, row) in weight.rows().into_iter().enumerate() {
                    row.iter().enumerate().for_each(|(to, &local)| work(from, to, local));
                }
            }
            Self::Conv2d(conv) => conv.for_each_weight(|from, to, row, filter| {
                work(from, to, conv.weight[[row, filter]]);
            }),
            Self::BatchNorm(norm) => {
                let (scale, _) = norm.affine();
                (0..x.len()).for_each(|place| work(place, place, scale[place % scale.len()]));
            }
            Self::Pooling(pooling) => {
                let mut local = vec![T::zero(); x.len()];
                vectorized!(pooling.backward_image(x, y, &vec![T::one(); y.len()], &mut local));
                pooling.for_each_pair(|from, to| work(from, to, local[from]));
            }
            Self::Dropout(_) | Self::Flatten => {
                (0..x.len()).for_each(|place| work(place, place, T::one()));
            }
            Self::Activation(activation) => {
                let mut local = vec![T::zero(); x.len()];
                vectorized!(activation.backward_values(x, y, &vec![T::one(); y.len()], &mut local));
                local.into_iter().enumerate().for_each(|(place, local)| work(place, place, local));
            }
        }
    }

    /// Calls `work(i, j)` for each pair of an input and an output that a parameter of this layer connects: the weight
    /// at `row` and `column`, or the bias of `column` if there is no row. The input of a bias is 1 and has no index. A
    /// weight that is multiplied only with padding connects none.
    pub fn for_each_use(
        &self,
        row: Option<usize>,
        column: usize,
        outputs: usize,
        mut work: impl FnMut(Option<usize>, usize),
    ) {
        let Some((_, bias)) = self.parameters() else { return };
        let channels = bias.len();
        let places = (column..outputs).step_by(channels);
        // A bias is used at each pixel.
        let Some(row) = row else { return places.for_each(|place| work(None, place)) };
        match self {
            Self::Conv2d(conv) => {
                conv.for_each_window(row, |from, place| work(Some(from), place * channels + column));
            }
            Self::Dense(_) => work(Some(row), column),
            // γ is used at each pixel.
            Self::BatchNorm(_) => places.for_each(|place| work(Some(place), place)),
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => {}
        }
    }

    /// What a weight in `column` is multiplied with where it is used with the input at index `from`, at inference. x is
    /// the input of the layer.
    pub fn factor(&self, x: &[T], from: usize, column: usize) -> T {
        match self {
            Self::BatchNorm(norm) => {
                (x[from] - norm.running_mean[column]) / norm.running_deviations()[column]
            }
            Self::Dense(_) | Self::Conv2d(_) => x[from],
            Self::Pooling(_) | Self::Dropout(_) | Self::Flatten | Self::Activation(_) => x[from],
        }
    }
}

/// What the plan asks of a layer.
impl LayerKind {
    /// The operation of the layer, if it is not fused with others.
    pub(in crate::nn) fn op_kind(self) -> OpKind {
        match self {
            Self::Dense { .. } => OpKind::Dense,
            Self::Conv2d { window, .. } => OpKind::Conv2d(window),
            Self::BatchNorm { .. } => OpKind::BatchNorm,
            Self::Dropout(dropout) => OpKind::Dropout(dropout),
            Self::Activation(Activation::Relu) => OpKind::Relu,
            Self::Pooling(_) | Self::Flatten | Self::Activation(_) => OpKind::Single(self),
        }
    }

    /// Whether each output is computed from a window of an image.
    pub(in crate::nn) fn has_windows(self) -> bool {
        match self {
            Self::Conv2d { .. } | Self::Pooling(_) => true,
            Self::Dense { .. } | Self::BatchNorm { .. } => false,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => false,
        }
    }
}

/// All numbers are `f64`, because a request can ask for layers so large that an integer overflows.
impl LayerKind {
    /// Number of multiplications with a weight in the forward pass of one row. `output` is the shape of the output.
    pub fn products(self, output: Shape) -> f64 {
        match self {
            Self::Dense { inputs, units } => inputs as f64 * units as f64,
            Self::Conv2d { window, .. } => {
                (window.kernel * window.kernel) as f64 * window.input.channels as f64 * output.len() as f64
            }
            Self::BatchNorm { .. } | Self::Pooling(_) => 0.0,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => 0.0,
        }
    }

    /// Floating-point operations per output, besides the [`products`](Self::products).
    pub fn flops_per_value(self) -> f64 {
        use Activation::{Gelu, LeakyRelu, Relu, Sigmoid, Tanh};
        match self {
            Self::Flatten => 0.0,
            Self::Pooling(pooling) => (pooling.size() * pooling.size()) as f64 - 1.0,
            Self::Activation(Sigmoid | Tanh | Gelu) => FLOPS_PER_EXPONENTIAL,
            Self::Activation(Relu | LeakyRelu) => FLOPS_PER_VALUE,
            Self::Dense { .. } | Self::Conv2d { .. } | Self::BatchNorm { .. } | Self::Dropout(_) => {
                FLOPS_PER_VALUE
            }
        }
    }

    /// Number of values that are stored but not trained.
    pub fn buffers(self) -> f64 {
        match self {
            Self::BatchNorm { channels } => 2.0 * channels as f64,
            Self::Dense { .. } | Self::Conv2d { .. } | Self::Pooling(_) => 0.0,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => 0.0,
        }
    }

    /// Number of elements of the packed weight, and of its transpose if `has_dx`.
    pub(in crate::nn) fn numbers_packed(self, has_dx: bool) -> f64 {
        match self {
            Self::Dense { inputs, units } => numbers_of_dense(inputs, units, has_dx),
            Self::Conv2d { window, filters } => numbers_of_conv2d(window, filters, has_dx),
            Self::BatchNorm { .. } | Self::Pooling(_) => 0.0,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => 0.0,
        }
    }

    /// Number of elements of the scratch buffers of a pass. Only a convolution has them.
    pub(in crate::nn) fn numbers_of_scratch(self) -> f64 {
        match self {
            Self::Conv2d { window, filters } => numbers_of_scratch(window, filters),
            Self::Dense { .. } | Self::BatchNorm { .. } | Self::Pooling(_) => 0.0,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => 0.0,
        }
    }

    /// Number of weights that each chunk of rows reads again. The filters of a convolution stay in a core's cache.
    pub(in crate::nn) fn weights_read(self) -> f64 {
        match self {
            Self::Dense { inputs, units } => inputs as f64 * units.next_multiple_of(PANEL) as f64,
            Self::Conv2d { .. } | Self::BatchNorm { .. } | Self::Pooling(_) => 0.0,
            Self::Dropout(_) | Self::Flatten | Self::Activation(_) => 0.0,
        }
    }

    /// The cost of one row, in the unit of [`PassOperations`](crate::nn::PassOperations). The operation of the plan that
    /// begins with this layer writes `written` values.
    pub(in crate::nn) fn operations(self, input: Shape, output: Shape, written: f64) -> f64 {
        use Activation::{Gelu, LeakyRelu, Relu, Sigmoid, Tanh};
        let values = input.len() as f64;
        match self {
            Self::Dense { inputs, units } => {
                let products = 2.0 * inputs as f64 * units.next_multiple_of(COLUMNS) as f64;
                DENSE * products + VALUE * written
            }
            Self::Conv2d { window, filters } => {
                let (places, columns) = (output.places() as f64, filters.next_multiple_of(COLUMNS));
                let elements = window.kernel * window.kernel * window.input.channels;
                let products = 2.0 * places * (elements * columns) as f64;
                let windows = places * (columns / COLUMNS) as f64;
                products + WINDOW * windows + VALUE * written
            }
            Self::Pooling(_) => POOLED_PIXEL * output.places() as f64,
            Self::BatchNorm { .. } => {
                NORMALISED * (input.places() * input.channels.next_multiple_of(CHANNELS)) as f64
            }
            Self::Dropout(_) => DRAWN * values,
            Self::Activation(Gelu | Sigmoid) => EXPONENTIAL * values,
            // tanh computes two exponentials.
            Self::Activation(Tanh) => 2.0 * EXPONENTIAL * values,
            Self::Activation(Relu | LeakyRelu) | Self::Flatten => 0.0,
        }
    }
}
