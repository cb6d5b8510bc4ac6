use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut3, Axis, s};

use super::simd::LANES_MAX;
use super::{Aligned, vectorized};
use crate::nn::Float;

/// Columns per panel: two AVX-512 registers or four AVX2 registers of `f32`.
pub const PANEL: usize = 32;

/// A matrix of shape (rows, columns) packed for the right-hand side of a product. Its columns are in panels
/// of [`PANEL`], each of which is stored row by row. The last panel is padded with elements that are ignored.
///
/// A product reads it from front to back, for any number of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels<T> {
    rows: usize,
    columns: usize,
    values: Aligned<T>,
}

impl<T: Float> Panels<T> {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let padded = columns.checked_next_multiple_of(PANEL).and_then(|padded| padded.checked_mul(rows));
        let values = Aligned::zeros(padded.expect("the matrix is too large for memory"));
        Self { rows, columns, values }
    }

    /// A copy of `matrix`.
    pub fn of(matrix: ArrayView2<T>) -> Self {
        let mut panels = Self::zeros(matrix.nrows(), matrix.ncols());
        panels.fill(matrix);
        panels
    }

    /// Packs `matrix`, which must have the same number of columns.
    ///
    /// # Panics
    /// If the number of columns differs, or there is not enough memory for the rows.
    pub fn fill(&mut self, matrix: ArrayView2<T>) {
        assert!(matrix.nrows() <= self.capacity() && matrix.ncols() == self.columns);
        self.rows = matrix.nrows();
        fill_panels(self.view_mut(), matrix);
    }

    /// Replaces the element at `row` and `column`.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn set(&mut self, row: usize, column: usize, value: T) {
        assert!(row < self.rows && column < self.columns, "the element is outside the matrix");
        self.values[(column / PANEL * self.rows + row) * PANEL + column % PANEL] = value;
    }

    /// Number of rows that there is memory for.
    fn capacity(&self) -> usize {
        self.values.len() / (self.panels() * PANEL).max(1)
    }

    /// Sets the number of rows to `rows`, and all their elements to 0.
    pub fn clear(&mut self, rows: usize) {
        assert!(rows <= self.capacity(), "not enough memory for the rows");
        self.rows = rows;
        self.values_mut().fill(T::zero());
    }

    /// Packs the rows of all `parts`, one part below the other. They must have `rows` rows in total.
    pub fn fill_rows<'a>(&mut self, rows: usize, parts: impl Iterator<Item = ArrayView2<'a, T>>)
    where
        T: 'a,
    {
        assert!(rows <= self.capacity(), "not enough memory for the rows");
        self.rows = rows;
        let mut first = 0;
        for part in parts {
            let end = first + part.nrows();
            fill_panels(self.view_mut().slice_move(s![.., first..end, ..]), part);
            first = end;
        }
        assert_eq!(first, rows, "the parts have a different number of rows in total");
    }

    /// Unpacks the rows starting at `first` to `matrix`, which has the same number of columns.
    pub fn copy_to(&self, first: usize, mut matrix: ArrayViewMut2<T>) {
        assert!(first + matrix.nrows() <= self.rows && matrix.ncols() == self.columns, "shapes of a copy");
        let panels = self.values.chunks_exact((self.rows * PANEL).max(1));
        for (mut columns, panel) in matrix.axis_chunks_iter_mut(Axis(1), PANEL).zip(panels) {
            let panel = panel[first * PANEL..].chunks_exact(PANEL);
            for (mut to, from) in columns.rows_mut().into_iter().zip(panel) {
                if let (Some(to), Some(from)) =
                    (to.as_slice_mut().and_then(|to| to.first_chunk_mut()), from.first_chunk::<PANEL>())
                {
                    *to = *from;
                    continue;
                }
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
            }
        }
    }

    /// Number of rows in use.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All elements of the rows in use, panel by panel, including the padding.
    pub fn values_mut(&mut self) -> &mut [T] {
        let length = self.panels() * self.rows * PANEL;
        &mut self.values[..length]
    }

    /// Number of columns, without the padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Chunks of `count` rows, each of shape (panels, rows, [`PANEL`]).
    pub fn row_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = ArrayViewMut3<'_, T>> + Send {
        chunks(self.view_mut(), Axis(1), count)
    }

    /// Chunks of `count` panels, each of shape (panels, rows, [`PANEL`]).
    pub fn panel_chunks_mut(&mut self, count: usize) -> impl Iterator<Item = ArrayViewMut3<'_, T>> + Send {
        chunks(self.view_mut(), Axis(0), count)
    }

    /// Start of the panel at index `panel`.
    #[inline(always)]
    pub(super) fn panel(&self, panel: usize) -> *const T {
        self.values[panel * self.rows * PANEL..].as_ptr()
    }

    fn view_mut(&mut self) -> ArrayViewMut3<'_, T> {
        let shape = (self.panels(), self.rows, PANEL);
        let values = &mut self.values[..shape.0 * shape.1 * PANEL];
        ArrayViewMut3::from_shape(shape, values).expect("panels are contiguous")
    }

    /// This matrix as the right-hand side of a product.
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
/// Row r of panel p starts at `r · stride + p · panel`. Each row consists of whole registers up to its last column.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
    panel: usize,
}

impl<'a, T: Float> Right<'a, T> {
    /// A row-major matrix without packing. `None` if its columns don't fill whole registers on every
    /// processor; then [`Panels`] are needed.
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

    /// `count` rows starting at `first`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn slice(self, first: usize, count: usize) -> Self {
        assert!(first <= self.rows && count <= self.rows - first, "the rows exceed the factor");
        Self { values: &self.values[first * self.stride..], rows: count, ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of elements from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Pointer to row 0 of `column`.
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

/// Packs `matrix` (rows, columns) into panels of shape (panels, rows, [`PANEL`]).
pub fn fill_panels<T: Float>(mut panels: ArrayViewMut3<T>, matrix: ArrayView2<T>) {
    for (index, mut panel) in panels.outer_iter_mut().enumerate() {
        let first = index * PANEL;
        let columns = matrix.slice(s![.., first..matrix.ncols().min(first + PANEL)]);
        if let (Some(to), true) = (panel.as_slice_mut(), columns.ncols() == PANEL)
            && columns.t().rows().into_iter().all(|column| column.as_slice().is_some())
        {
            vectorized!(interleave(to, &columns));
            continue;
        }
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

/// Side of the squares that [`interleave`] transposes.
const SIDE: usize = 8;

/// Packs [`PANEL`] contiguous columns into the rows of a panel.
#[inline(always)]
fn interleave<T: Float>(panel: &mut [T], columns: &ArrayView2<T>) {
    let columns: [&[T]; PANEL] =
        std::array::from_fn(|c| columns.slice_move(s![.., c]).to_slice().unwrap_or_default());
    let rows = panel.len() / PANEL;
    for first in (0..rows).step_by(SIDE) {
        for (place, columns) in columns.chunks_exact(SIDE).enumerate() {
            let mut square = [[T::zero(); SIDE]; SIDE];
            let height = SIDE.min(rows - first);
            for (to, column) in square.iter_mut().zip(columns) {
                match column[first..].first_chunk() {
                    Some(column) => *to = *column,
                    None => to[..height].copy_from_slice(&column[first..]),
                }
            }
            for (row, to) in panel[first * PANEL..].chunks_exact_mut(PANEL).enumerate().take(height) {
                for (to, column) in to[place * SIDE..][..SIDE].iter_mut().zip(&square) {
                    *to = column[row];
                }
            }
        }
    }
}
