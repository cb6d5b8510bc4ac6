use super::Operation;
use super::conv_pool::PoolPart;
use super::moments::NormSums;
use super::sparse_dense::{BlockStep, SparseStep};
use crate::nn::group::Group;
use crate::nn::kernel::{AllParts, Panels, PooledWindows, Start, matmul, vectorized};
use crate::nn::layer::values;
use crate::nn::packed::PackedDense;
use crate::nn::rows::{all, matrix_mut};
use crate::nn::{Float, Gradient};

/// What the gradient sum and the update need from an operation with parameters.
pub(in crate::nn) struct Trained<'a, T> {
    /// The packed weight, if the update packs it again in chunks of rows.
    pub packed: Option<&'a mut PackedDense<T>>,
    /// The weight and its gradient, if they are summed and updated in blocks of units instead of chunks of rows.
    pub blocks: Option<SparseStep<'a, T>>,
    pub sum: GradientSum<'a, T>,
}

/// The terms of the gradient of a weight and its bias. They are summed over all groups, first to last.
#[derive(Clone, Copy)]
pub(in crate::nn) enum GradientSum<'a, T> {
    /// dy of each group. The groups hold x.
    Dense(AllParts<'a, Panels<T>>),
    /// The blocks of a sparse layer hold the terms for the weight. The groups hold those for the bias, which is dy.
    Blocks,
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
            Self::Blocks => unreachable!("the gradient of a sparse layer is summed in blocks of units"),
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

    /// Writes `db` to `dbias`. `number` is the index of the operation.
    pub fn bias(self, groups: &[Group<T>], number: usize, dbias: &mut [T]) {
        match self {
            Self::Dense(_) | Self::Blocks => {
                let columns = dbias.len();
                add_up(dbias, groups.iter().flat_map(|group| all(&group.dy(number)).chunks_exact(columns)));
            }
            Self::Groups(gradients) => {
                add_up(dbias, gradients.iter().map(|gradient| values(&gradient.bias)));
            }
            Self::ConvPool(_, parts) => add_up(dbias, parts.iter().map(|part| &*part.dbias)),
            Self::BatchNorm(sums) => {
                dbias.iter_mut().zip(&sums.dy).for_each(|(to, &sum)| *to = T::of(sum));
            }
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

/// The blocks of units of a sparse first layer, and all `count` operations with parameters, in order, with their
/// indices.
pub(in crate::nn) fn trained<T: Float>(
    operations: &mut [Operation<T>],
    count: usize,
) -> (
    impl DoubleEndedIterator<Item = BlockStep<'_, T>> + Send,
    impl Iterator<Item = (usize, Trained<'_, T>)> + Send,
) {
    debug_assert_eq!(
        operations.iter_mut().filter_map(Operation::trained).count(),
        count,
        "an operation for each layer with parameters"
    );
    let trained = operations.iter_mut().enumerate();
    let trained = trained.filter_map(|(number, operation)| Some((number, operation.trained()?)));
    let mut trained = trained.peekable();
    let sparse = trained.peek_mut().and_then(|(_, first)| first.blocks.take());
    (sparse.into_iter().flat_map(SparseStep::blocks), trained)
}
