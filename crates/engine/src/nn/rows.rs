//! Access to rows of values as slices.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::Float;

const ROW_ORDER: &str = "values are in row-major order";

pub(super) fn image<'a, T>(values: &ArrayView2<'a, T>, row: usize) -> &'a [T] {
    values.slice_move(s![row, ..]).to_slice().expect(ROW_ORDER)
}

pub(super) fn image_mut<'a, T>(values: &'a mut ArrayViewMut2<T>, row: usize) -> &'a mut [T] {
    values.slice_mut(s![row, ..]).into_slice().expect(ROW_ORDER)
}

pub(super) fn all<'a, T>(values: &ArrayView2<'a, T>) -> &'a [T] {
    values.to_slice().expect(ROW_ORDER)
}

pub(super) fn all_mut<'a, T>(values: &'a mut ArrayViewMut2<T>) -> &'a mut [T] {
    values.as_slice_mut().expect(ROW_ORDER)
}

/// A matrix view of values in row-major order.
pub(super) fn matrix<T>(values: &[T], columns: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((values.len() / columns, columns), values).expect(ROW_ORDER)
}

/// Mutable [`matrix`].
pub(super) fn matrix_mut<T>(values: &mut [T], columns: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((values.len() / columns, columns), values).expect(ROW_ORDER)
}

/// A new matrix that `write` fills. All elements are 0 before.
pub(super) fn filled<T: Float>(shape: (usize, usize), write: impl FnOnce(ArrayViewMut2<T>)) -> Array2<T> {
    let mut matrix = Array2::zeros(shape);
    write(matrix.view_mut());
    matrix
}
