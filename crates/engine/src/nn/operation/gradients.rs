use super::Operation;
use super::conv_pool::PoolPart;
use super::sparse_dense::SparseDense;
use crate::nn::batch_norm::NormSums;
use crate::nn::group::Group;
use crate::nn::kernel::{AllParts, Panels, PooledWindows, Start, matmul, vectorized};
use crate::nn::layer::values;
use crate::nn::packed::PackedDense;
use crate::nn::rows::{all, matrix_mut};
use crate::nn::{Float, Gradient};

/// An operation with parameters, as the sums of its gradient and an update see it.
pub(in crate::nn) struct Trained<'a, T> {
    /// Which of the operations it is.
    pub number: usize,
    /// Its weight, if some rows of it at a time are to be laid out anew.
    pub packed: Option<&'a mut PackedDense<T>>,
    /// None of a sparse layer, which sums the gradient of its weight by itself.
    pub sum: Option<GradientSum<'a, T>>,
}

/// What the gradient of a weight and its bias is summed from, over all groups, first to last.
#[derive(Clone, Copy)]
pub(in crate::nn) enum GradientSum<'a, T> {
    /// dy of the groups; x is theirs.
    Dense(AllParts<'a, Panels<T>>),
    /// What each group has summed.
    Groups(AllParts<'a, Gradient<T>>),
    ConvPool(&'a PooledWindows, AllParts<'a, PoolPart<T>>),
    /// Summed already.
    BatchNorm(&'a NormSums),
}

impl<T: Float> GradientSum<'_, T> {
    /// Rows from `first` on of `dW` of the operation `number`, `columns` wide.
    pub fn weight(self, groups: &[Group<T>], number: usize, first: usize, columns: usize, dweight: &mut [T]) {
        match self {
            Self::Dense(dys) => {
                let rows = first..first + dweight.len() / columns;
                let pair = |(group, dy): (_, _)| (Group::x(group, number, rows.clone()).reversed_axes(), dy);
                let pairs = groups.iter().zip(dys.iter()).map(pair);
                matmul(pairs, &mut matrix_mut(dweight, columns), Start::Zero);
            }
            Self::Groups(gradients) => {
                let weights = gradients.iter().map(|gradient| &values(&gradient.weight)[first * columns..]);
                add_up(dweight, weights);
            }
            Self::ConvPool(windows, parts) => {
                PoolPart::weight_gradient(windows, parts.iter(), first, columns, dweight);
            }
            Self::BatchNorm(sums) => {
                dweight.iter_mut().zip(&sums.dy_x).for_each(|(to, &sum)| *to = T::of(sum));
            }
        }
    }
}

/// `db` of the operation `number`, whose weight's gradient is summed from `sum`.
pub(in crate::nn) fn bias_gradient<T: Float>(
    sum: Option<GradientSum<T>>,
    groups: &[Group<T>],
    number: usize,
    dbias: &mut [T],
) {
    match sum {
        None | Some(GradientSum::Dense(_)) => {
            let columns = dbias.len();
            add_up(dbias, groups.iter().flat_map(|group| all(&group.dy(number)).chunks_exact(columns)));
        }
        Some(GradientSum::Groups(gradients)) => {
            add_up(dbias, gradients.iter().map(|gradient| values(&gradient.bias)));
        }
        Some(GradientSum::ConvPool(_, parts)) => add_up(dbias, parts.iter().map(|part| &*part.dbias)),
        Some(GradientSum::BatchNorm(sums)) => {
            dbias.iter_mut().zip(&sums.dy).for_each(|(to, &sum)| *to = T::of(sum));
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

/// The sparse layer at the front, if there is one, and all operations with parameters, in order.
pub(in crate::nn) fn trained<T: Float>(
    operations: &mut [Operation<T>],
) -> (Option<&mut SparseDense<T>>, impl Iterator<Item = Trained<'_, T>> + Send) {
    let (sparse, others) = match operations {
        [Operation::SparseDense(sparse), others @ ..] => (Some(sparse), others),
        others => (None, others),
    };
    let before = usize::from(sparse.is_some());
    let first = sparse.is_some().then_some(Trained { number: 0, packed: None, sum: None });
    let others = others.iter_mut().enumerate().filter_map(move |(number, operation)| {
        let (packed, sum) = operation.trained()?;
        Some(Trained { number: before + number, packed, sum })
    });
    (sparse, first.into_iter().chain(others))
}
