use std::ops::Range;

use ndarray::{ArrayView2, s};

use super::norm::Norm;
use super::{Group, Scratch};
use crate::nn::conv_pool::ConvPool;
use crate::nn::kernel::{Panels, Start, matmul, vectorized};
use crate::nn::layer::values;
use crate::nn::rows::{all, matrix_mut};
use crate::nn::{Float, Gradient};

/// Rows from `first` on of `dW` of the layer at `index`, `columns` wide, over all groups, first to last.
pub(in crate::nn) fn weight_gradient<T: Float>(
    groups: &[Group<T>],
    norm: Option<&Norm<T>>,
    index: usize,
    first: usize,
    columns: usize,
    dweight: &mut [T],
) {
    let rows = dweight.len() / columns;
    match &groups[0].scratch[index] {
        Scratch::Conv2d(..) => {
            let parts = groups.iter().filter_map(|group| group.conv_gradient(index));
            add_up(dweight, parts.map(|gradient| &values(&gradient.weight)[first * columns..]));
        }
        Scratch::ConvPool(..) => {
            let parts = groups.iter().filter_map(|group| group.conv_pool(index));
            ConvPool::weight_gradient(parts, first, dweight);
        }
        Scratch::Dense(_) => {
            let x = |group| Group::x(group, index, first..first + rows).reversed_axes();
            let part = |group| Some((x(group), group.packed_dy(index)?));
            matmul(groups.iter().filter_map(part), &mut matrix_mut(dweight, columns), Start::Zero);
        }
        _ => {
            if let Some(norm) = norm {
                norm.weight_gradient(dweight);
            }
        }
    }
}

/// `db` of the layer at `index` over all groups, first to last.
pub(in crate::nn) fn bias_gradient<T: Float>(
    groups: &[Group<T>],
    norm: Option<&Norm<T>>,
    index: usize,
    dbias: &mut [T],
) {
    match &groups[0].scratch[index] {
        Scratch::Conv2d(..) => {
            let parts = groups.iter().filter_map(|group| group.conv_gradient(index));
            add_up(dbias, parts.map(|gradient| values(&gradient.bias)));
        }
        Scratch::ConvPool(..) => {
            let parts = groups.iter().filter_map(|group| group.conv_pool(index));
            add_up(dbias, parts.map(ConvPool::dbias));
        }
        Scratch::BatchNorm(..) => {
            if let Some(norm) = norm {
                norm.bias_gradient(dbias);
            }
        }
        _ => {
            let columns = dbias.len();
            add_up(dbias, groups.iter().flat_map(|group| all(&group.dy(index)).chunks_exact(columns)));
        }
    }
}

/// `sum = Σ parts`, in order.
fn add_up<'a, T: Float>(sum: &mut [T], parts: impl Iterator<Item = &'a [T]>) {
    sum.fill(T::zero());
    vectorized!({
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, &part)| *sum += part);
        }
    });
}

impl<T: Float> Group<T> {
    /// What the convolution at `index` has summed.
    fn conv_gradient(&self, index: usize) -> Option<&Gradient<T>> {
        match &self.scratch[index] {
            Scratch::Conv2d(_, gradient) => Some(gradient),
            _ => None,
        }
    }

    fn conv_pool(&self, index: usize) -> Option<&ConvPool<T>> {
        match &self.scratch[index] {
            Scratch::ConvPool(conv_pool, _) => Some(conv_pool),
            _ => None,
        }
    }

    /// The columns `columns` of the input of the dense layer at `index`.
    fn x(&self, index: usize, columns: Range<usize>) -> ArrayView2<'_, T> {
        self.values[index].array.slice(s![..self.examples.len(), columns])
    }

    /// dy of the dense layer at `index` as a right-hand side.
    fn packed_dy(&self, index: usize) -> Option<&Panels<T>> {
        match &self.scratch[index] {
            Scratch::Dense(dy) => Some(dy),
            _ => None,
        }
    }

    /// dy of the dense layer at `index`, shape (rows, units).
    pub fn dy(&self, index: usize) -> ArrayView2<'_, T> {
        self.dvalues[index + 1].array.slice(s![..self.examples.len(), ..])
    }
}
