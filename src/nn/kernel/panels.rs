use ndarray::{ArrayView2, ArrayViewMut3, Axis, s};

use super::simd::LANES_MAX;
use crate::nn::Float;

/// Columns in one panel: two AVX-512 registers or four AVX2 registers of `f32`.
pub const PANEL: usize = 32;

/// A matrix of shape (rows, columns) laid out for the right-hand side of a product: columns in
/// panels of [`PANEL`], each panel row by row, the last one filled up with numbers that don't count.
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
        let padded = columns.checked_next_multiple_of(PANEL).and_then(|padded| padded.checked_mul(rows));
        let values = vec![T::zero(); padded.expect("a matrix that fits into memory")];
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
        let capacity = self.values.len() / (self.columns.div_ceil(PANEL) * PANEL).max(1);
        assert!(matrix.nrows() <= capacity && matrix.ncols() == self.columns);
        self.rows = matrix.nrows();
        fill_panels(self.view_mut(), matrix);
    }

    /// Rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers that it holds, those of the padding included.
    pub fn numbers(&self) -> usize {
        self.values.len()
    }

    /// Columns, without the padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Pieces of `count` rows, each of shape (panels, rows, [`PANEL`]).
    pub fn row_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = ArrayViewMut3<'_, T>> + Send {
        chunks(self.view_mut(), Axis(1), count)
    }

    /// Pieces of `count` panels, each of shape (panels, rows, [`PANEL`]).
    pub fn panel_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = ArrayViewMut3<'_, T>> + Send {
        chunks(self.view_mut(), Axis(0), count)
    }

    fn view_mut(&mut self) -> ArrayViewMut3<'_, T> {
        let shape = (self.columns.div_ceil(PANEL), self.rows, PANEL);
        let values = &mut self.values[..shape.0 * shape.1 * PANEL];
        ArrayViewMut3::from_shape(shape, values).expect("panel after panel")
    }

    /// This matrix as a factor.
    pub fn right(&self) -> Right<'_, T> {
        let Self { rows, columns, ref values } = *self;
        Right { values, rows, columns, stride: PANEL, panel: rows * PANEL }
    }
}

impl<'a, T: Float> From<&'a Panels<T>> for Right<'a, T> {
    fn from(panels: &'a Panels<T>) -> Self {
        panels.right()
    }
}

/// The right-hand side of a product, of shape (rows, columns).
///
/// Row r of panel p begins at `r · stride + p · panel`, and has whole registers up to its last
/// column.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
    panel: usize,
}

impl<'a, T: Float> Right<'a, T> {
    /// A matrix in row order as it is, where its columns are whole registers on every processor;
    /// others need [`Panels`].
    pub fn row_major(values: &'a [T], columns: usize) -> Option<Self> {
        let is_whole = columns > 0 && columns.is_multiple_of(LANES_MAX);
        is_whole.then(|| Self {
            values,
            rows: values.len() / columns,
            columns,
            stride: columns,
            panel: PANEL,
        })
    }

    /// `count` rows from `first` on.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn slice(self, first: usize, count: usize) -> Self {
        assert!(first <= self.rows && count <= self.rows - first, "rows of a factor");
        Self { values: &self.values[first * self.stride..], rows: count, ..self }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// From one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where row 0 of the column `column` is, or would be.
    #[inline(always)]
    pub(super) fn at(&self, column: usize) -> *const T {
        self.values.as_ptr().wrapping_add(column / PANEL * self.panel + column % PANEL)
    }
}

fn chunks<T>(
    view: ArrayViewMut3<'_, T>,
    axis: Axis,
    count: usize,
) -> impl Iterator<Item = ArrayViewMut3<'_, T>> {
    let mut rest = Some(view);
    std::iter::from_fn(move || {
        let view = rest.take()?;
        if view.len_of(axis) <= count {
            return Some(view);
        }
        let (head, tail) = view.split_at(axis, count);
        rest = Some(tail);
        Some(head)
    })
}

/// Copies `matrix` (rows, columns) into panels of its columns, of shape (panels, rows, [`PANEL`]).
pub fn fill_panels<T: Float>(mut panels: ArrayViewMut3<T>, matrix: ArrayView2<T>) {
    for (index, mut panel) in panels.outer_iter_mut().enumerate() {
        let first = index * PANEL;
        let columns = matrix.slice(s![.., first..matrix.ncols().min(first + PANEL)]);
        for (mut to, from) in panel.rows_mut().into_iter().zip(columns.rows()) {
            match (to.as_slice_mut(), from.as_slice()) {
                (Some(to), Some(from)) => match (to.first_chunk_mut(), from.first_chunk::<PANEL>()) {
                    (Some(to), Some(from)) => *to = *from,
                    _ => to[..from.len()].copy_from_slice(from),
                },
                _ => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
            }
        }
    }
}
