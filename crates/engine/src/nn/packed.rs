use ndarray::{ArrayView2, ArrayViewMut3};

use super::kernel::{PANEL, Panels, fill_panels};
use super::{Conv2d, Dense, Float, Layer};

/// The weight of a layer as its products read it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Packed<T> {
    /// No product.
    None,
    /// W, and Wᵀ where an earlier layer needs `dx`.
    Dense { weight: Panels<T>, transposed: Option<Panels<T>> },
    /// w, and its transpose by place where an earlier layer needs `dx`.
    Conv2d { weight: Panels<T>, transposed: Option<Vec<Panels<T>>> },
    /// w, and w by filter where an earlier layer needs `dx`.
    ConvPool { weight: Panels<T>, by_filter: Option<Vec<T>> },
}

impl<T: Float> Packed<T> {
    /// Room for the weight of `layer`, with the transpose where `backward` is set.
    pub fn room(layer: &Layer<T>, backward: bool) -> Self {
        match layer {
            Layer::Dense(Dense { weight, .. }) => {
                let (inputs, units) = weight.dim();
                Self::Dense {
                    weight: Panels::zeros(inputs, units),
                    transposed: backward.then(|| Panels::zeros(units, inputs)),
                }
            }
            Layer::Conv2d(conv) => {
                let (inputs, filters) = conv.weight.dim();
                Self::Conv2d {
                    weight: Panels::zeros(inputs, filters),
                    transposed: backward.then(|| conv.transposed()),
                }
            }
            Layer::BatchNorm(_)
            | Layer::Pooling(_)
            | Layer::Dropout(_)
            | Layer::Flatten
            | Layer::Activation(_) => Self::None,
        }
    }

    /// Room for the weight of a convolution that is pooled, as [`Self::room`].
    pub fn conv_pool_room(conv: &Conv2d<T>, backward: bool) -> Self {
        let (inputs, filters) = conv.weight.dim();
        Self::ConvPool {
            weight: Panels::zeros(inputs, filters),
            by_filter: backward.then(|| vec![T::zero(); conv.by_filter_len()]),
        }
    }

    /// Numbers that it holds.
    pub fn numbers(&self) -> usize {
        match self {
            Self::None => 0,
            Self::ConvPool { weight, by_filter } => weight.numbers() + by_filter.iter().flatten().count(),
            Self::Dense { weight, transposed } => {
                weight.numbers() + transposed.iter().map(Panels::numbers).sum::<usize>()
            }
            Self::Conv2d { weight, transposed } => {
                weight.numbers() + transposed.iter().flatten().map(Panels::numbers).sum::<usize>()
            }
        }
    }

    /// Copies the weight of `layer` in.
    pub fn fill(&mut self, layer: &Layer<T>) {
        match (self, layer) {
            (Self::Dense { weight, transposed }, Layer::Dense(dense)) => {
                weight.fill(dense.weight.view());
                if let Some(transposed) = transposed {
                    transposed.fill(dense.weight.t());
                }
            }
            (Self::Conv2d { weight, transposed }, Layer::Conv2d(conv)) => {
                weight.fill(conv.weight.view());
                if let Some(transposed) = transposed {
                    conv.transpose_into(transposed);
                }
            }
            (Self::ConvPool { weight, by_filter }, Layer::Conv2d(conv)) => {
                weight.fill(conv.weight.view());
                if let Some(by_filter) = by_filter {
                    conv.write_by_filter(by_filter);
                }
            }
            _ => {}
        }
    }
}

impl<T: Float> Packed<T> {
    /// Copies the one number of the weight of `layer` in that is in `row` and `column`.
    pub fn fill_one(&mut self, layer: &Layer<T>, row: usize, column: usize) {
        match (self, layer) {
            (Self::Dense { weight, transposed }, Layer::Dense(dense)) => {
                let value = dense.weight[[row, column]];
                weight.set(row, column, value);
                if let Some(transposed) = transposed {
                    transposed.set(column, row, value);
                }
            }
            (Self::Conv2d { weight, transposed }, Layer::Conv2d(conv)) => {
                let value = conv.weight[[row, column]];
                weight.set(row, column, value);
                let channels = conv.input().channels;
                if let Some(transposed) = transposed {
                    transposed[row / channels].set(column, row % channels, value);
                }
            }
            (Self::ConvPool { weight, by_filter }, Layer::Conv2d(conv)) => {
                weight.set(row, column, conv.weight[[row, column]]);
                if let Some(by_filter) = by_filter {
                    let place = conv.place_by_filter(by_filter.len(), row, column);
                    by_filter[place] = conv.weight[[row, column]];
                }
            }
            _ => {}
        }
    }
}

/// The part of a [`Packed`] weight that some rows of it are copied to.
pub(super) enum PackedRows<'a, T> {
    None,
    Dense { weight: ArrayViewMut3<'a, T>, transposed: Option<ArrayViewMut3<'a, T>> },
}

impl<T: Float> Packed<T> {
    /// The parts for `count` rows at a time, a multiple of [`PANEL`]; a convolution is copied as a whole.
    pub fn row_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = PackedRows<'_, T>> + Send {
        let (weight, transposed) = match self {
            Self::Dense { weight, transposed } => (Some(weight), transposed.as_mut()),
            Self::None | Self::Conv2d { .. } | Self::ConvPool { .. } => (None, None),
        };
        let mut weight = weight.map(|panels| panels.row_chunks_mut(count));
        let mut transposed = transposed.map(|panels| panels.panel_chunks_mut(count / PANEL));
        std::iter::repeat_with(move || match weight.as_mut().and_then(Iterator::next) {
            Some(weight) => {
                PackedRows::Dense { weight, transposed: transposed.as_mut().and_then(Iterator::next) }
            }
            None => PackedRows::None,
        })
    }
}

impl<T: Float> PackedRows<'_, T> {
    /// Copies these rows of the weight in.
    pub fn fill(self, rows: ArrayView2<T>) {
        if let Self::Dense { weight, transposed } = self {
            fill_panels(weight, rows);
            if let Some(transposed) = transposed {
                fill_panels(transposed, rows.t());
            }
        }
    }
}
