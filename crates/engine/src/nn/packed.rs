use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut3};

use super::kernel::{PANEL, Panels, fill_panels};
use super::shape::Window;
use super::{Conv2d, Dense, Float};

/// The numbers of rows and columns of [`Panels`], before they are allocated.
#[derive(Clone, Copy)]
pub(super) struct PanelsSize(pub usize, pub usize);

impl PanelsSize {
    /// Number of elements, including the padding.
    pub fn numbers(self) -> f64 {
        self.0 as f64 * self.1.next_multiple_of(PANEL) as f64
    }

    pub fn zeros<T: Float>(self) -> Panels<T> {
        Panels::zeros(self.0, self.1)
    }
}

const TRANSPOSED: &str = "the transpose is packed if dx is needed";

/// The weight of a dense layer, packed for its products.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedDense<T> {
    /// W.
    pub weight: Panels<T>,
    /// Wᵀ. `None` if no earlier layer needs `dx`.
    pub transposed: Option<Panels<T>>,
}

/// The size of W, and the size of Wᵀ if `dx` is needed.
fn dense_sizes(inputs: usize, units: usize, has_dx: bool) -> (PanelsSize, Option<PanelsSize>) {
    (PanelsSize(inputs, units), has_dx.then_some(PanelsSize(units, inputs)))
}

/// Number of elements that [`PackedDense::new`] allocates.
pub(super) fn numbers_of_dense(inputs: usize, units: usize, has_dx: bool) -> f64 {
    let (weight, transposed) = dense_sizes(inputs, units, has_dx);
    weight.numbers() + transposed.map_or(0.0, PanelsSize::numbers)
}

impl<T: Float> PackedDense<T> {
    /// Memory for W, and for Wᵀ if `dx` is needed.
    pub fn new(inputs: usize, units: usize, has_dx: bool) -> Self {
        let (weight, transposed) = dense_sizes(inputs, units, has_dx);
        Self { weight: weight.zeros(), transposed: transposed.map(PanelsSize::zeros) }
    }

    /// The packed weight of `dense`, with its transpose if `dx` is needed.
    pub fn of(dense: &Dense<T>, has_dx: bool) -> Self {
        let (inputs, units) = dense.weight.dim();
        let mut packed = Self::new(inputs, units, has_dx);
        packed.fill(dense);
        packed
    }

    /// Packs the weight of the layer.
    pub fn fill(&mut self, dense: &Dense<T>) {
        self.weight.fill(dense.weight.view());
        if let Some(transposed) = &mut self.transposed {
            transposed.fill(dense.weight.t());
        }
    }

    /// Wᵀ.
    ///
    /// # Panics
    /// If it was packed without `dx`.
    pub fn transposed(&self) -> &Panels<T> {
        self.transposed.as_ref().expect(TRANSPOSED)
    }

    /// Packs a single element of the weight, at `row` and `column`.
    pub fn fill_one(&mut self, dense: &Dense<T>, row: usize, column: usize) {
        let value = dense.weight[[row, column]];
        self.weight.set(row, column, value);
        if let Some(transposed) = &mut self.transposed {
            transposed.set(column, row, value);
        }
    }

    /// The packed weight in parts for `count` rows each. `count` must be a multiple of [`PANEL`].
    pub fn row_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = PackedRows<'_, T>> + Send {
        let mut transposed =
            self.transposed.as_mut().map(|transposed| transposed.panel_chunks_mut(count / PANEL));
        self.weight.row_chunks_mut(count).map(move |weight| PackedRows {
            weight,
            transposed: transposed.as_mut().and_then(Iterator::next),
        })
    }
}

/// The part of a [`PackedDense`] that holds some rows of the weight.
pub(super) struct PackedRows<'a, T> {
    weight: ArrayViewMut3<'a, T>,
    transposed: Option<ArrayViewMut3<'a, T>>,
}

impl<T: Float> PackedRows<'_, T> {
    /// Packs `rows`, the matching rows of the weight.
    pub fn fill(self, rows: ArrayView2<T>) {
        fill_panels(self.weight, rows);
        if let Some(transposed) = self.transposed {
            fill_panels(transposed, rows.t());
        }
    }
}

/// The weight of a convolution, packed for its products.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedConv2d<T> {
    /// w.
    pub weight: Panels<T>,
    /// The transpose of w for each position in the window. `None` if no earlier layer needs `dx`.
    pub transposed: Option<Vec<Panels<T>>>,
}

/// The size of w, the number of its transposes, and the size of each transpose.
fn conv2d_sizes(window: Window, filters: usize, has_dx: bool) -> (PanelsSize, usize, PanelsSize) {
    let (taps, channels) = (window.kernel * window.kernel, window.input.channels);
    let transposes = if has_dx { taps } else { 0 };
    (PanelsSize(taps * channels, filters), transposes, PanelsSize(filters, channels))
}

/// Number of elements that [`PackedConv2d::new`] allocates.
pub(super) fn numbers_of_conv2d(window: Window, filters: usize, has_dx: bool) -> f64 {
    let (weight, count, transposed) = conv2d_sizes(window, filters, has_dx);
    weight.numbers() + count as f64 * transposed.numbers()
}

impl<T: Float> PackedConv2d<T> {
    /// Memory for w, and for its transposes if `dx` is needed.
    pub fn new(window: Window, filters: usize, has_dx: bool) -> Self {
        let (weight, count, transposed) = conv2d_sizes(window, filters, has_dx);
        let transposed = has_dx.then(|| (0..count).map(|_| transposed.zeros()).collect());
        Self { weight: weight.zeros(), transposed }
    }

    /// The packed weight of `conv`, with its transposes if `dx` is needed.
    pub fn of(conv: &Conv2d<T>, has_dx: bool) -> Self {
        let mut packed = Self::new(conv.window(), conv.filters(), has_dx);
        packed.fill(conv);
        packed
    }

    /// Packs the weight of the layer.
    pub fn fill(&mut self, conv: &Conv2d<T>) {
        self.weight.fill(conv.weight.view());
        if let Some(transposed) = &mut self.transposed {
            conv.transpose_into(transposed);
        }
    }

    /// The transpose of w for each position in the window.
    ///
    /// # Panics
    /// If they were packed without `dx`.
    pub fn transposed(&self) -> &[Panels<T>] {
        self.transposed.as_ref().expect(TRANSPOSED)
    }

    /// Packs a single element of the weight, at `row` and `column`.
    pub fn fill_one(&mut self, conv: &Conv2d<T>, row: usize, column: usize) {
        let (value, channels) = (conv.weight[[row, column]], conv.input().channels);
        self.weight.set(row, column, value);
        if let Some(transposed) = &mut self.transposed {
            transposed[row / channels].set(column, row % channels, value);
        }
    }
}

/// The weight of any layer, packed for its products.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Packed<T> {
    /// Nothing is packed. A pass of a layer with a product packs its weight itself.
    None,
    Dense(PackedDense<T>),
    Conv2d(PackedConv2d<T>),
}

const OTHER: &str = "the weight was packed for another layer, or without dx";

impl<T: Float> Packed<T> {
    /// The packed weight of `dense`, with its transpose if `has_dx`.
    pub fn dense(&self, dense: &Dense<T>, has_dx: bool) -> Cow<'_, PackedDense<T>> {
        match self {
            Self::Dense(packed) if packed.transposed.is_some() || !has_dx => Cow::Borrowed(packed),
            Self::None => Cow::Owned(PackedDense::of(dense, has_dx)),
            Self::Dense(_) | Self::Conv2d(_) => unreachable!("{OTHER}"),
        }
    }

    /// The packed weight of `conv`, with its transposes if `has_dx`.
    pub fn conv2d(&self, conv: &Conv2d<T>, has_dx: bool) -> Cow<'_, PackedConv2d<T>> {
        match self {
            Self::Conv2d(packed) if packed.transposed.is_some() || !has_dx => Cow::Borrowed(packed),
            Self::None => Cow::Owned(PackedConv2d::of(conv, has_dx)),
            Self::Dense(_) | Self::Conv2d(_) => unreachable!("{OTHER}"),
        }
    }
}
