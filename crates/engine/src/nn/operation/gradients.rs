use super::Operation;
use super::conv_pool::PoolPart;
use super::moments::NormSums;
use super::sparse_dense::SparseDense;
use crate::nn::group::Group;
use crate::nn::kernel::{AllParts, Panels, PooledWindows, Start, matmul, vectorized};
use crate::nn::layer::values;
use crate::nn::packed::PackedDense;
use crate::nn::rows::{all, matrix_mut};
use crate::nn::{Float, Gradient};

/// What the gradient sum and the update need from an operation with parameters.
pub(in crate::nn) struct Trained<'a, T> {
    /// Index of the operation.
    pub number: usize,
    /// The packed weight, if the update packs it again in chunks of rows.
    pub packed: Option<&'a mut PackedDense<T>>,
    /// `None` for a sparse layer, which sums the gradient of its weight itself.
    pub sum: Option<GradientSum<'a, T>>,
}

/// The terms of the gradient of a weight and its bias. They are summed over all groups, first to last.
#[derive(Clone, Copy)]
pub(in crate::nn) enum GradientSum<'a, T> {
    /// dy of each group. The groups hold x.
    Dense(AllParts<'a, Panels<T>>),
    /// The gradient of each group.
    Groups(AllParts<'a, Gradient<T>>),
    ConvPool(&'a PooledWindows, AllParts<'a, PoolPart<T>>),
    /// The complete sums.
    BatchNorm(&'a NormSums),
}

impl<T: Float> GradientSum<'_, T> {
    /// Writes the rows of `dW` that start at `first` to `dweight`. `number` is the index of the operation, and
    /// `columns` is the number of columns of `dW`.
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

/// Writes `db` to `dbias`. `number` is the index of the operation, and `sum` holds the terms of its gradient.
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

/// The sparse first layer, if there is one, and all `count` operations with parameters, in order.
pub(in crate::nn) fn trained<T: Float>(
    operations: &mut [Operation<T>],
    count: usize,
) -> (Option<&mut SparseDense<T>>, impl Iterator<Item = Trained<'_, T>> + Send) {
    let with_parameters = operations.iter().filter(|operation| operation.has_parameters()).count();
    debug_assert_eq!(with_parameters, count, "an operation for each layer with parameters");
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
