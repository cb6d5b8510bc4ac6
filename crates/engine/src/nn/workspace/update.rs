//! From the gradients to the next weights.

use ndarray::ArrayView2;

use super::{Gradient, Workspace};
use crate::nn::group::{Group, Norm, bias_gradient, weight_gradient};
use crate::nn::kernel::SPAN;
use crate::nn::layer::values_mut;
use crate::nn::optimizer::{Rule, States, with_states};
use crate::nn::packed::PackedRows;
use crate::nn::rows::matrix;
use crate::nn::sparse_layer::{BlockStep, SparseLayer};
use crate::nn::{Float, Layer, Network, Pool};

impl<T: Float> Workspace<T> {
    /// The gradients of the batch from what the last [`Self::pass`] left in the groups.
    pub(in crate::nn) fn sum_gradients(&mut self, pool: &Pool) {
        let Self { groups, norms, gradients, sparse, .. } = self;
        let index = sparse.as_ref().map(|sparse| sparse.index);
        let steps = sparse.iter_mut().flat_map(SparseLayer::steps).map(SumPart::Block);
        let parts = gradients.iter_mut().flat_map(|gradient| {
            let (rows, bias) = gradient.parts_mut(index);
            rows.map(SumPart::Rows).chain([SumPart::Bias(bias)])
        });
        pool.for_each_from_both_ends(steps, parts, |part| match part {
            SumPart::Block(step) => step.sum_gradient(dys(groups, index)),
            SumPart::Rows(mut rows) => rows.sum(groups, norms),
            SumPart::Bias(mut bias) => bias.sum(groups, norms),
        });
        if let (Some(sparse), Some(gradient)) = (sparse, gradients.first_mut()) {
            sparse.write_gradient(&mut gradient.weight.view_mut());
        }
    }

    /// Calls `visit` with some numbers of the gradient after the other, from what the last [`Self::pass`] left in the
    /// groups: with the place of the layer, whether it is the bias, and where the numbers begin in row order. For networks
    /// whose first layer is not taken as sparse.
    pub(in crate::nn) fn visit_gradients(
        &self,
        network: &Network<T>,
        mut visit: impl FnMut(usize, bool, usize, &[T]),
    ) {
        assert!(self.sparse.is_none(), "a sparse layer sums its own gradient");
        let Self { groups, norms, .. } = self;
        let mut part = Vec::new();
        for (layer, (weight, bias)) in network
            .layers()
            .iter()
            .enumerate()
            .filter_map(|(index, layer)| Some((index, layer.parameters()?)))
        {
            let columns = bias.len();
            for first in (0..weight.nrows()).step_by(SPAN) {
                part.resize(SPAN.min(weight.nrows() - first) * columns, T::zero());
                GradientRows { layer, first, columns, weight: &mut part }.sum(groups, norms);
                visit(layer, false, first * columns, &part);
            }
            part.resize(columns, T::zero());
            GradientBias { layer, bias: &mut part }.sum(groups, norms);
            visit(layer, true, 0, &part);
        }
    }

    /// Moves every weight by its gradient and packs it again, some at a time, while they are in a core's
    /// cache; first sums the gradients where that is still to be done.
    pub(in crate::nn) fn update<'a>(
        &mut self,
        network: &mut Network<T>,
        rule: Rule<T>,
        mut states: impl Iterator<Item = States<'a, T>> + Send,
        is_summed: bool,
        pool: &Pool,
    ) where
        T: 'a,
    {
        let Self { groups, norms, gradients, packed, sparse, .. } = self;
        let index = sparse.as_ref().map(|sparse| sparse.index);
        let steps = sparse.iter_mut().flat_map(SparseLayer::steps).map(UpdatePart::Block);
        let layers = network.layers_mut().iter_mut().zip(packed.iter_mut());
        let layers = layers.filter_map(|(layer, packed)| Some((layer.parameters_mut()?, packed)));
        let parts = layers.zip(gradients.iter_mut()).flat_map(|(((weight, bias), packed), gradient)| {
            let length = SPAN * bias.len();
            let [weight_states, bias_states] = [(); 2].map(|()| states.next().unwrap_or_default());
            let (rows, dbias) = gradient.parts_mut(index);
            let rows = rows.zip(values_mut(weight).chunks_mut(length)).zip(packed.row_chunks_mut(SPAN));
            with_states(rows, weight_states, length)
                .map(|(((gradient, weight), packed), states)| UpdatePart::Rows {
                    gradient,
                    weight,
                    packed,
                    states,
                })
                .chain([UpdatePart::Bias { gradient: dbias, bias: values_mut(bias), states: bias_states }])
        });
        pool.for_each_from_both_ends(steps, parts, |part| match part {
            UpdatePart::Block(step) if is_summed => step.apply(&rule),
            UpdatePart::Block(step) => step.sum_and_apply(dys(groups, index), &rule),
            UpdatePart::Rows { mut gradient, weight, packed, states } => {
                if !is_summed {
                    gradient.sum(groups, norms);
                }
                rule.apply(weight, gradient.weight, states);
                packed.fill(matrix(weight, gradient.columns));
            }
            UpdatePart::Bias { mut gradient, bias, states } => {
                if !is_summed {
                    gradient.sum(groups, norms);
                }
                rule.apply(bias, gradient.bias, states);
            }
        });
        for (packed, layer) in self.packed.iter_mut().zip(network.layers()) {
            if let Layer::Conv2d(_) = layer {
                packed.fill(layer);
            }
        }
    }
}

/// What the gradients are summed in.
enum SumPart<'a, T> {
    Block(BlockStep<'a, T>),
    Rows(GradientRows<'a, T>),
    Bias(GradientBias<'a, T>),
}

/// What the weights are moved in.
enum UpdatePart<'a, 's, T> {
    Block(BlockStep<'a, T>),
    Rows {
        gradient: GradientRows<'a, T>,
        weight: &'a mut [T],
        packed: PackedRows<'a, T>,
        states: States<'s, T>,
    },
    Bias {
        gradient: GradientBias<'a, T>,
        bias: &'a mut [T],
        states: States<'s, T>,
    },
}

/// dy of the layer at `index`, group after group.
fn dys<T: Float>(groups: &[Group<T>], index: Option<usize>) -> impl Iterator<Item = ArrayView2<'_, T>> {
    groups.iter().filter_map(move |group| Some(group.dy(index?)))
}

/// Some rows of a gradient.
struct GradientRows<'a, T> {
    layer: usize,
    first: usize,
    columns: usize,
    weight: &'a mut [T],
}

/// The part of a gradient that is the bias's.
struct GradientBias<'a, T> {
    layer: usize,
    bias: &'a mut [T],
}

impl<T: Float> Gradient<T> {
    /// The rows of the weight, none for the layer at `sparse`, which has blocks of its own; and the bias.
    fn parts_mut(
        &mut self,
        sparse: Option<usize>,
    ) -> (impl Iterator<Item = GradientRows<'_, T>> + Send, GradientBias<'_, T>) {
        let (layer, columns) = (self.layer, self.bias.len());
        let weight = if sparse == Some(layer) { &mut [][..] } else { values_mut(&mut self.weight) };
        let weight = weight.chunks_mut(SPAN * columns).enumerate();
        let rows =
            weight.map(move |(index, weight)| GradientRows { layer, first: index * SPAN, columns, weight });
        (rows, GradientBias { layer, bias: values_mut(&mut self.bias) })
    }
}

impl<T: Float> GradientRows<'_, T> {
    fn sum(&mut self, groups: &[Group<T>], norms: &[Option<Norm<T>>]) {
        let Self { layer, first, columns, ref mut weight } = *self;
        weight_gradient(groups, norms[layer].as_ref(), layer, first, columns, weight);
    }
}

impl<T: Float> GradientBias<'_, T> {
    fn sum(&mut self, groups: &[Group<T>], norms: &[Option<Norm<T>>]) {
        bias_gradient(groups, norms[self.layer].as_ref(), self.layer, self.bias);
    }
}
