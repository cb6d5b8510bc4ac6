//! What the lab and the prices ask of a layer, besides its passes.

use super::{Layer, LayerKind};
use crate::nn::arithmetic::{CHANNELS, DRAWN, EXPONENTIAL, NORMALISED, POOLED};
use crate::nn::kernel::vectorized;
use crate::nn::{Activation, Dense, Float, Shape};

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
                vectorized!(pooling.backward(x, y, &vec![T::one(); y.len()], &mut local));
                pooling.for_each_pair(|from, to| work(from, to, local[from]));
            }
            Self::Dropout(_) | Self::Flatten => {
                (0..x.len()).for_each(|place| work(place, place, T::one()));
            }
            Self::Activation(activation) => {
                let mut local = vec![T::zero(); x.len()];
                vectorized!(activation.backward(x, y, &vec![T::one(); y.len()], &mut local));
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
        let channels = self.parameters().map_or(1, |(_, bias)| bias.len());
        match (self, row) {
            (Self::Conv2d(conv), Some(row)) => {
                conv.for_each_window(row, |from, place| work(Some(from), place * channels + column));
            }
            (Self::Dense(_), Some(row)) => work(Some(row), column),
            // γ and every bias are used at each pixel.
            (Self::BatchNorm(_), Some(_)) => {
                (column..outputs).step_by(channels).for_each(|place| work(Some(place), place));
            }
            _ => (column..outputs).step_by(channels).for_each(|place| work(None, place)),
        }
    }
}

impl LayerKind {
    /// The cost of one row, in the unit of [`PassOperations`](crate::nn::PassOperations). A product is priced by its
    /// operation of the plan.
    pub(in crate::nn) fn operations_of_values(self, input: Shape, output: Shape) -> f64 {
        use Activation::{Gelu, LeakyRelu, Relu, Sigmoid, Tanh};
        let values = input.len() as f64;
        match self {
            Self::Pooling(_) => POOLED * output.places() as f64,
            Self::BatchNorm { .. } => {
                NORMALISED * (input.places() * input.channels.next_multiple_of(CHANNELS)) as f64
            }
            Self::Dropout(_) => DRAWN * values,
            Self::Activation(Gelu | Sigmoid) => EXPONENTIAL * values,
            // tanh computes two exponentials.
            Self::Activation(Tanh) => 2.0 * EXPONENTIAL * values,
            Self::Activation(Relu | LeakyRelu) | Self::Flatten => 0.0,
            Self::Dense { .. } | Self::Conv2d { .. } => 0.0,
        }
    }
}
