use ndarray::{ArrayView2, s};

use crate::nn::Float;

/// Columns in one panel: two AVX-512 registers or four AVX2 registers of `f32`.
pub const PANEL: usize = 32;

/// A matrix of shape (rows, columns) laid out for the right-hand side of a product: columns in
/// panels of [`PANEL`], each panel row by row, the last one filled up with zeros.
///
/// A product then reads its right-hand side from front to back, whatever the number of columns.
#[derive(Clone, Debug)]
pub struct Panels<T> {
    rows: usize,
    columns: usize,
    values: Vec<T>,
}

impl<T: Float> Panels<T> {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let values = vec![T::zero(); rows * columns.div_ceil(PANEL) * PANEL];
        Self { rows, columns, values }
    }

    /// A copy of `matrix`.
    pub fn of(matrix: ArrayView2<T>) -> Self {
        let mut panels = Self::zeros(matrix.nrows(), matrix.ncols());
        panels.fill(matrix);
        panels
    }

    /// Copies `matrix` in; its columns are this one's, and its rows at most as many as this one was
    /// made with.
    pub fn fill(&mut self, matrix: ArrayView2<T>) {
        let capacity = self.values.len() / (self.panels() * PANEL).max(1);
        assert!(matrix.nrows() <= capacity && matrix.ncols() == self.columns);
        self.rows = matrix.nrows();
        for (index, panel) in self.panels_mut() {
            fill_panel(panel, index, matrix);
        }
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, without the padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// All values, panel after panel, each of `rows` × [`PANEL`].
    pub fn values(&self) -> &[T] {
        &self.values[..self.rows * self.columns.div_ceil(PANEL) * PANEL]
    }

    /// [`Self::values`], to be changed: pieces of `rows` × [`PANEL`] may be filled by
    /// [`fill_panel`] at the same time.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.rows * self.columns.div_ceil(PANEL) * PANEL]
    }

    fn panels_mut(&mut self) -> impl Iterator<Item = (usize, &mut [T])> {
        let length = (self.rows * PANEL).max(1);
        self.values_mut().chunks_mut(length).enumerate()
    }
}

/// Copies the columns of `matrix` that belong to panel `index` into `panel`.
pub fn fill_panel<T: Float>(panel: &mut [T], index: usize, matrix: ArrayView2<T>) {
    let first = index * PANEL;
    let width = PANEL.min(matrix.ncols() - first);
    let rows = panel.chunks_exact_mut(PANEL);
    match matrix.as_slice() {
        Some(values) => rows
            .zip(values.chunks_exact(matrix.ncols()))
            .for_each(|(to, from)| to[..width].copy_from_slice(&from[first..first + width])),
        None => rows
            .zip(matrix.slice(s![.., first..first + width]).rows())
            .for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, &from)| *to = from)),
    }
}
