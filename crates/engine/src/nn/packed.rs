use ndarray::{ArrayView2, ArrayViewMut3};

use super::kernel::{PANEL, Panels, fill_panels};
use super::shape::Window;
use super::{Conv2d, Dense, Float, Layer, LayerKind};

/// Rows and columns of [`Panels`], before there are any.
#[derive(Clone, Copy)]
pub(super) struct PanelsRoom(pub usize, pub usize);

impl PanelsRoom {
    /// Numbers, the padding included.
    pub fn numbers(self) -> f64 {
        self.0 as f64 * self.1.next_multiple_of(PANEL) as f64
    }

    pub fn zeros<T: Float>(self) -> Panels<T> {
        Panels::zeros(self.0, self.1)
    }
}

/// The weight of a dense layer as its products read it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedDense<T> {
    /// W.
    pub weight: Panels<T>,
    /// Wᵀ, if an earlier layer needs `dx`.
    pub transposed: Option<Panels<T>>,
}

/// That of W, and that of Wᵀ if there is a `dx`.
fn dense_rooms(inputs: usize, units: usize, has_dx: bool) -> (PanelsRoom, Option<PanelsRoom>) {
    (PanelsRoom(inputs, units), has_dx.then_some(PanelsRoom(units, inputs)))
}

/// Numbers of [`PackedDense::new`].
pub(super) fn numbers_of_dense(inputs: usize, units: usize, has_dx: bool) -> f64 {
    let (weight, transposed) = dense_rooms(inputs, units, has_dx);
    weight.numbers() + transposed.map_or(0.0, PanelsRoom::numbers)
}

impl<T: Float> PackedDense<T> {
    /// Memory for W, and for Wᵀ if `dx` is needed.
    pub fn new(inputs: usize, units: usize, has_dx: bool) -> Self {
        let (weight, transposed) = dense_rooms(inputs, units, has_dx);
        Self { weight: weight.zeros(), transposed: transposed.map(PanelsRoom::zeros) }
    }

    /// Copies the weight in.
    pub fn fill(&mut self, dense: &Dense<T>) {
        self.weight.fill(dense.weight.view());
        if let Some(transposed) = &mut self.transposed {
            transposed.fill(dense.weight.t());
        }
    }

    /// Copies the one number of the weight in that is in `row` and `column`.
    pub fn fill_one(&mut self, dense: &Dense<T>, row: usize, column: usize) {
        let value = dense.weight[[row, column]];
        self.weight.set(row, column, value);
        if let Some(transposed) = &mut self.transposed {
            transposed.set(column, row, value);
        }
    }

    /// The parts that `count` rows of the weight at a time are copied to, a multiple of [`PANEL`].
    pub fn row_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = PackedRows<'_, T>> + Send {
        let mut transposed =
            self.transposed.as_mut().map(|transposed| transposed.panel_chunks_mut(count / PANEL));
        self.weight.row_chunks_mut(count).map(move |weight| PackedRows {
            weight,
            transposed: transposed.as_mut().and_then(Iterator::next),
        })
    }
}

/// The part of a [`PackedDense`] that some rows of the weight are copied to.
pub(super) struct PackedRows<'a, T> {
    weight: ArrayViewMut3<'a, T>,
    transposed: Option<ArrayViewMut3<'a, T>>,
}

impl<T: Float> PackedRows<'_, T> {
    /// Copies these rows in.
    pub fn fill(self, rows: ArrayView2<T>) {
        fill_panels(self.weight, rows);
        if let Some(transposed) = self.transposed {
            fill_panels(transposed, rows.t());
        }
    }
}

/// The weight of a convolution as its products read it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedConv2d<T> {
    /// w.
    pub weight: Panels<T>,
    /// The transpose of w for each place in the window, if an earlier layer needs `dx`.
    pub transposed: Option<Vec<Panels<T>>>,
}

/// That of w, and how often that of its transpose.
fn conv2d_rooms(window: Window, filters: usize, has_dx: bool) -> (PanelsRoom, usize, PanelsRoom) {
    let (taps, channels) = (window.kernel * window.kernel, window.input.channels);
    let transposes = if has_dx { taps } else { 0 };
    (PanelsRoom(taps * channels, filters), transposes, PanelsRoom(filters, channels))
}

/// Numbers of [`PackedConv2d::new`].
pub(super) fn numbers_of_conv2d(window: Window, filters: usize, has_dx: bool) -> f64 {
    let (weight, count, transposed) = conv2d_rooms(window, filters, has_dx);
    weight.numbers() + count as f64 * transposed.numbers()
}

impl<T: Float> PackedConv2d<T> {
    /// Memory for w, and for its transposes if `dx` is needed.
    pub fn new(window: Window, filters: usize, has_dx: bool) -> Self {
        let (weight, count, transposed) = conv2d_rooms(window, filters, has_dx);
        let transposed = has_dx.then(|| (0..count).map(|_| transposed.zeros()).collect());
        Self { weight: weight.zeros(), transposed }
    }

    /// Copies the weight in.
    pub fn fill(&mut self, conv: &Conv2d<T>) {
        self.weight.fill(conv.weight.view());
        if let Some(transposed) = &mut self.transposed {
            conv.transpose_into(transposed);
        }
    }

    /// Copies the one number of the weight in that is in `row` and `column`.
    pub fn fill_one(&mut self, conv: &Conv2d<T>, row: usize, column: usize) {
        let (value, channels) = (conv.weight[[row, column]], conv.input().channels);
        self.weight.set(row, column, value);
        if let Some(transposed) = &mut self.transposed {
            transposed[row / channels].set(column, row % channels, value);
        }
    }
}

/// The weight of any layer as its products read it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Packed<T> {
    /// A layer without a product.
    None,
    Dense(PackedDense<T>),
    Conv2d(PackedConv2d<T>),
}

/// Numbers of [`Packed::of`].
pub(super) fn numbers_of_packed(layer: LayerKind, has_dx: bool) -> f64 {
    match layer {
        LayerKind::Dense { inputs, units } => numbers_of_dense(inputs, units, has_dx),
        LayerKind::Conv2d { window, filters } => numbers_of_conv2d(window, filters, has_dx),
        _ => 0.0,
    }
}

impl<T: Float> Packed<T> {
    /// The weight of `layer`, with its transpose if there is a `dx`.
    pub fn of(layer: &Layer<T>, has_dx: bool) -> Self {
        match layer {
            Layer::Dense(dense) => {
                let (inputs, units) = dense.weight.dim();
                let mut packed = PackedDense::new(inputs, units, has_dx);
                packed.fill(dense);
                Self::Dense(packed)
            }
            Layer::Conv2d(conv) => {
                let mut packed = PackedConv2d::new(conv.window(), conv.filters(), has_dx);
                packed.fill(conv);
                Self::Conv2d(packed)
            }
            _ => Self::None,
        }
    }
}
