//! Sums the gradients and updates the weights.

use super::{Gradient, Workspace};
use crate::nn::group::Group;
use crate::nn::kernel::SPAN;
use crate::nn::layer::values_mut;
use crate::nn::operation::{BlockStep, GradientSum, Trained, trained};
use crate::nn::optimizer::{Rule, States, with_states};
use crate::nn::packed::{PackedDense, PackedRows};
use crate::nn::rows::matrix;
use crate::nn::{Float, Layer, Network, ThreadPool};

impl<T: Float> Workspace<T> {
    /// Sums the gradients of the batch from the terms that the last [`Self::pass`] computed.
    pub(in crate::nn) fn sum_gradients(&mut self, pool: &ThreadPool) {
        let Self { groups, operations, gradients, .. } = self;
        let (blocks, trained) = trained(operations, gradients.len());
        let parts = gradients.iter_mut().zip(trained).flat_map(|(gradient, (number, trained))| {
            let (rows, bias) = gradient.parts_mut(number, trained.sum);
            rows.map(SumPart::Rows).chain([SumPart::Bias(bias)])
        });
        pool.for_each_from_both_ends(blocks.map(SumPart::Block), parts, |part| match part {
            SumPart::Block(block) => block.sum_gradient(groups),
            SumPart::Rows(mut rows) => rows.sum(groups),
            SumPart::Bias(mut bias) => bias.sum(groups),
        });
        operations.iter().for_each(|operation| operation.write_gradient(gradients));
    }

    /// Sums the gradients in parts, from the terms that the last [`Self::pass`] computed. Calls `visit` for each part
    /// with the index of the layer, whether the part belongs to the bias, its offset in row-major order, and its
    /// elements. The first layer must not be sparse.
    pub(in crate::nn) fn visit_gradients(
        &mut self,
        network: &Network<T>,
        mut visit: impl FnMut(usize, bool, usize, &[T]),
    ) {
        let Self { groups, operations, .. } = self;
        let layers = network.layers().iter().enumerate();
        let layers = layers.filter_map(|(index, layer)| Some((index, layer.parameters()?)));
        let (_, trained) = trained(operations, layers.clone().count());
        let mut part = Vec::new();
        for ((layer, (weight, bias)), (number, Trained { sum, .. })) in layers.zip(trained) {
            let columns = bias.len();
            for first in (0..weight.nrows()).step_by(SPAN) {
                part.resize(SPAN.min(weight.nrows() - first) * columns, T::zero());
                GradientRows { number, sum, first, columns, weight: &mut part }.sum(groups);
                visit(layer, false, first * columns, &part);
            }
            part.resize(columns, T::zero());
            GradientBias { number, sum, bias: &mut part }.sum(groups);
            visit(layer, true, 0, &part);
        }
    }

    /// Updates the weights and packs them again, some rows at a time, while they are in a core's cache. Sums the
    /// gradients first, unless `is_summed`.
    pub(in crate::nn) fn update<'a>(
        &mut self,
        network: &mut Network<T>,
        rule: Rule<T>,
        mut states: impl Iterator<Item = States<'a, T>> + Send,
        is_summed: bool,
        pool: &ThreadPool,
    ) where
        T: 'a,
    {
        let Self { groups, operations, gradients, .. } = self;
        let groups = groups.as_slice();
        let to_sum = (!is_summed).then_some(groups);
        let with_parameters = network.layers().iter().filter(|layer| layer.parameters().is_some()).count();
        debug_assert_eq!(gradients.len(), with_parameters, "a gradient for each layer with parameters");
        let (blocks, trained) = trained(operations, gradients.len());
        let layers = network.layers_mut().iter_mut().filter_map(Layer::parameters_mut);
        let layers = layers.zip(gradients.iter_mut()).zip(trained);
        let parts = layers.flat_map(|(((weight, bias), gradient), (number, trained))| {
            let length = SPAN * bias.len();
            let [weight_states, bias_states] = [(); 2].map(|()| states.next().unwrap_or_default());
            let (rows, dbias) = gradient.parts_mut(number, trained.sum);
            let rows = rows.zip(values_mut(weight).chunks_mut(length)).zip(packed_rows(trained.packed));
            let part = |(((gradient, weight), packed), states)| {
                UpdatePart::Rows(RowsUpdate { gradient, weight, packed, states })
            };
            let bias = BiasUpdate { gradient: dbias, bias: values_mut(bias), states: bias_states };
            with_states(rows, weight_states, length).map(part).chain([UpdatePart::Bias(bias)])
        });
        pool.for_each_from_both_ends(blocks.map(UpdatePart::Block), parts, |part| match part {
            UpdatePart::Block(block) if is_summed => block.apply(&rule),
            UpdatePart::Block(block) => block.sum_and_apply(groups, &rule),
            UpdatePart::Rows(rows) => rows.apply(&rule, to_sum),
            UpdatePart::Bias(bias) => bias.apply(&rule, to_sum),
        });
        self.operations.iter_mut().for_each(|operation| operation.pack_after_update(network));
    }
}

/// A task of summing the gradients.
enum SumPart<'a, T> {
    Block(BlockStep<'a, T>),
    Rows(GradientRows<'a, T>),
    Bias(GradientBias<'a, T>),
}

/// A task of updating the weights.
enum UpdatePart<'a, 's, T> {
    Block(BlockStep<'a, T>),
    Rows(RowsUpdate<'a, 's, T>),
    Bias(BiasUpdate<'a, 's, T>),
}

/// The packed weight in parts of [`SPAN`] rows. The iterator is infinite: it yields `None` after the last part, or
/// always if the update doesn't pack the weight.
fn packed_rows<T: Float>(
    packed: Option<&mut PackedDense<T>>,
) -> impl Iterator<Item = Option<PackedRows<'_, T>>> + Send {
    let rows = packed.into_iter().flat_map(|packed| packed.row_chunks_mut(SPAN));
    rows.map(Some).chain(std::iter::repeat_with(|| None))
}

/// Some rows of a weight with their gradient.
struct RowsUpdate<'a, 's, T> {
    gradient: GradientRows<'a, T>,
    weight: &'a mut [T],
    packed: Option<PackedRows<'a, T>>,
    states: States<'s, T>,
}

impl<T: Float> RowsUpdate<'_, '_, T> {
    /// Updates the rows. If `groups` are given, sums the gradient of the rows first.
    fn apply(self, rule: &Rule<T>, groups: Option<&[Group<T>]>) {
        let Self { mut gradient, weight, packed, states } = self;
        if let Some(groups) = groups {
            gradient.sum(groups);
        }
        rule.apply(weight, gradient.weight, states);
        if let Some(packed) = packed {
            packed.fill(matrix(weight, gradient.columns));
        }
    }
}

/// A bias with its gradient.
struct BiasUpdate<'a, 's, T> {
    gradient: GradientBias<'a, T>,
    bias: &'a mut [T],
    states: States<'s, T>,
}

impl<T: Float> BiasUpdate<'_, '_, T> {
    /// As [`RowsUpdate::apply`].
    fn apply(self, rule: &Rule<T>, groups: Option<&[Group<T>]>) {
        let Self { mut gradient, bias, states } = self;
        if let Some(groups) = groups {
            gradient.sum(groups);
        }
        rule.apply(bias, gradient.bias, states);
    }
}

/// Some rows of the gradient of a weight.
struct GradientRows<'a, T> {
    number: usize,
    sum: GradientSum<'a, T>,
    first: usize,
    columns: usize,
    weight: &'a mut [T],
}

/// The gradient of a bias.
struct GradientBias<'a, T> {
    number: usize,
    sum: GradientSum<'a, T>,
    bias: &'a mut [T],
}

impl<T: Float> Gradient<T> {
    /// The gradient of the weight in parts of [`SPAN`] rows, and the gradient of the bias. A sparse layer has no such
    /// rows, because its blocks sum the gradient.
    fn parts_mut<'a>(
        &'a mut self,
        number: usize,
        sum: GradientSum<'a, T>,
    ) -> (impl Iterator<Item = GradientRows<'a, T>> + Send, GradientBias<'a, T>) {
        let columns = self.bias.len();
        let weight = values_mut(&mut self.weight).chunks_mut(SPAN * columns).enumerate();
        let weight = weight.take_while(move |_| !matches!(sum, GradientSum::Blocks));
        let rows = weight.map(move |(index, weight)| {
            let first = index * SPAN;
            GradientRows { number, sum, first, columns, weight }
        });
        (rows, GradientBias { number, sum, bias: values_mut(&mut self.bias) })
    }
}

impl<T: Float> GradientRows<'_, T> {
    fn sum(&mut self, groups: &[Group<T>]) {
        self.sum.weight(groups, self.number, self.first, self.columns, self.weight);
    }
}

impl<T: Float> GradientBias<'_, T> {
    fn sum(&mut self, groups: &[Group<T>]) {
        self.sum.bias(groups, self.number, self.bias);
    }
}
