use std::ops::Range;

use super::group::BufferSize;
use super::kernel::POOL_SIDE;
use super::operation::numbers_of;
use super::shape::Window;
use super::{Activation, Dropout, Float, LayerKind, PoolingKind, Shape};

/// If the fraction of nonzero values is below this, a product that skips zeros is faster than a full product.
pub(super) const SPARSE_MAX: f64 = 0.4;

/// Largest number of rows per group of a network without convolution or pooling.
const GROUP_ROWS: usize = 64;

/// Largest number of groups per batch of a network with convolution or pooling.
const IMAGE_GROUPS: usize = 8;

/// Images that pass through the layers together. There are so few that the values between two layers stay in a core's
/// cache.
const CHUNK_IMAGES: usize = 4;

/// How a network is trained on given data. The fast path of each layer is chosen here and nowhere else.
///
/// A plan depends only on the network, the batch size and the data. It doesn't depend on threads or processors, so
/// every machine adds the same numbers in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The operations, in order.
    pub(super) ops: Vec<PlanOp>,
    /// Buffer sizes: one slot for the input of each operation, and a last one for the scores.
    pub(super) slots: Vec<SlotSize>,
    /// The operations in segments. Every segment except the first begins with a `batch_norm`. The groups synchronise
    /// before it, because it needs the moments of the whole batch.
    pub(super) segments: Vec<Range<usize>>,
    /// Index of the first operation with parameters. No value before it needs a gradient.
    pub(super) first: usize,
    /// Number of groups of rows. One task processes one group.
    pub(super) groups: usize,
    /// Rows per group.
    pub(super) rows: usize,
    /// Rows of a group that pass through the layers together.
    pub(super) chunk_rows: usize,
}

/// Buffer sizes of a group for the values between two operations, and for their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SlotSize {
    pub value: BufferSize,
    pub gradient: BufferSize,
}

/// One operation of a pass through the network: a single layer, or several layers fused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlanOp {
    pub kind: OpKind,
    /// The indices of the layers that it covers.
    pub layers: Range<usize>,
    pub input: Shape,
    pub output: Shape,
    /// Whether the backward pass computes the gradient of its input.
    pub has_dx: bool,
}

/// The kind of an operation. The [`PlanOp`] holds its shapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum OpKind {
    Dense,
    /// A `dense` that reads the images and skips their zeros, with every `flatten` before it.
    SparseDense,
    Conv2d(Window),
    /// `conv2d`, `relu` and `max_pool2d` of 2×2, fused. The values between these layers are never stored.
    ConvPool(Window),
    BatchNorm,
    /// `batch_norm` and `relu`, fused. With a window, the `max_pool2d` after them is fused as well.
    NormRelu(Option<Window>),
    Dropout(Dropout),
    Relu,
    /// Any other layer. It has no fast path.
    Single(LayerKind),
}

impl OpKind {
    /// The operation that starts at the first of `layers`, and the number of layers that it covers.
    fn at(layers: &[LayerKind], is_sparse: bool) -> (Self, usize) {
        const RELU: LayerKind = LayerKind::Activation(Activation::Relu);
        if is_sparse {
            let flat = layers.iter().take_while(|&&layer| layer == LayerKind::Flatten).count();
            return (Self::SparseDense, flat + 1);
        }
        match *layers {
            [LayerKind::Conv2d { window, .. }, RELU, LayerKind::Pooling(pooling), ..]
                if pooling.kind == PoolingKind::Max && pooling.size() == POOL_SIDE =>
            {
                (Self::ConvPool(window), 3)
            }
            [LayerKind::BatchNorm { .. }, RELU, LayerKind::Pooling(pooling), ..]
                if pooling.kind == PoolingKind::Max =>
            {
                (Self::NormRelu(Some(pooling.window)), 3)
            }
            [LayerKind::BatchNorm { .. }, RELU, ..] => (Self::NormRelu(None), 2),
            [layer, ..] => (layer.op_kind(), 1),
            [] => unreachable!("an operation covers at least one layer"),
        }
    }

    /// Whether the groups synchronise before the operation, because it needs moments of the whole batch.
    fn begins_with_norm(self) -> bool {
        match self {
            Self::BatchNorm | Self::NormRelu(_) => true,
            Self::Dense | Self::SparseDense | Self::Conv2d(_) | Self::ConvPool(_) => false,
            Self::Dropout(_) | Self::Relu | Self::Single(_) => false,
        }
    }

    /// Whether the operation itself reads the images, for all rows of the batch, before the groups begin.
    pub fn reads_images(self) -> bool {
        match self {
            Self::SparseDense => true,
            Self::Dense | Self::Conv2d(_) | Self::ConvPool(_) | Self::BatchNorm | Self::NormRelu(_) => false,
            Self::Dropout(_) | Self::Relu | Self::Single(_) => false,
        }
    }

    /// Whether the gradient of the weight is computed from all rows of a group at once. The operation's input and the
    /// gradient of its output are then kept for the whole group.
    fn keeps_rows(self) -> bool {
        match self {
            Self::Dense | Self::SparseDense => true,
            Self::Conv2d(_) | Self::ConvPool(_) | Self::BatchNorm | Self::NormRelu(_) => false,
            Self::Dropout(_) | Self::Relu | Self::Single(_) => false,
        }
    }
}

impl Plan {
    /// The plan for batches of up to `batch_size` rows, in which a fraction `nonzero_fraction` of the values is not 0.
    /// `shapes` contains the input shape of each layer, and the shape of the scores.
    pub fn new(layers: &[LayerKind], shapes: &[Shape], batch_size: usize, nonzero_fraction: f64) -> Self {
        let first = layers.iter().position(|layer| layer.has_parameters()).unwrap_or(layers.len());
        let is_input = layers[..first].iter().all(|&layer| layer == LayerKind::Flatten);
        let is_dense = matches!(layers.get(first), Some(LayerKind::Dense { .. }));
        let is_sparse = is_input && is_dense && nonzero_fraction < SPARSE_MAX;

        let mut ops = Vec::new();
        let mut start = 0;
        while start < layers.len() {
            let (kind, count) = OpKind::at(&layers[start..], is_sparse && start == 0);
            let (input, output) = (shapes[start], shapes[start + count]);
            ops.push(PlanOp { kind, layers: start..start + count, input, output, has_dx: start > first });
            start += count;
        }
        let first = ops.iter().position(|op| op.layers.contains(&first)).unwrap_or(ops.len());
        let norms = ops.iter().enumerate().filter(|(_, op)| op.kind.begins_with_norm());
        let starts: Vec<usize> = std::iter::once(0).chain(norms.map(|(number, _)| number)).collect();
        let ends = starts.iter().skip(1).copied().chain([ops.len()]);
        let segments = starts.iter().zip(ends).map(|(&start, end)| start..end).collect();

        let has_images = layers.iter().any(|layer| layer.has_windows());
        let quarters = batch_size.div_ceil(4).max(1);
        let groups = if has_images {
            IMAGE_GROUPS.min(quarters)
        } else {
            // At least two groups, so that two cores have work.
            batch_size.div_ceil(GROUP_ROWS).next_multiple_of(2).min(quarters)
        };
        let rows = batch_size.div_ceil(groups);
        let chunk_rows = if has_images && !is_sparse { CHUNK_IMAGES.min(rows) } else { rows };
        let slots = Vec::new();
        let mut plan = Self { ops, slots, segments, first, groups, rows, chunk_rows: chunk_rows.max(1) };
        plan.slots = (0..=plan.ops.len()).map(|slot| plan.slot(slot, shapes)).collect();
        plan
    }

    /// The size of a buffer with `width` elements per row. If `is_kept`, it holds all rows of a group, otherwise those
    /// of one chunk.
    pub(super) fn buffer_size(&self, width: usize, is_kept: bool) -> BufferSize {
        BufferSize { rows: if is_kept { self.rows } else { self.chunk_rows }, width, is_kept }
    }

    /// The buffer sizes of slot `slot`.
    fn slot(&self, slot: usize, shapes: &[Shape]) -> SlotSize {
        let length = match self.ops.get(slot) {
            Some(op) if op.kind.reads_images() => 0,
            Some(op) => op.input.len(),
            None => shapes.last().map_or(0, |scores| scores.len()),
        };
        let keeps_rows = |number: usize| self.ops.get(number).is_some_and(|op| op.kind.keeps_rows());
        let is_gradient_kept = self.is_gradient_kept(slot) || slot.checked_sub(1).is_some_and(keeps_rows);
        let gradient = match slot > self.first {
            true => self.buffer_size(length, is_gradient_kept),
            false => BufferSize::NONE,
        };
        SlotSize { value: self.buffer_size(length, self.is_kept(slot) || keeps_rows(slot)), gradient }
    }

    /// Whether the values of slot `slot` are needed again after the groups have synchronised.
    pub(super) fn is_kept(&self, slot: usize) -> bool {
        let earlier = self.segments.split_last().map_or(&[][..], |(_, earlier)| earlier);
        earlier.iter().any(|ops| ops.clone().any(|op| op == slot || op + 1 == slot))
            || self.segments.iter().skip(1).any(|ops| ops.start == slot)
            || self.is_gradient_kept(slot)
    }

    /// Whether the gradient of slot `slot` is needed again after the groups have synchronised. This is the case for the
    /// output of a `batch_norm`.
    fn is_gradient_kept(&self, slot: usize) -> bool {
        self.segments.iter().skip(1).any(|ops| ops.start + 1 == slot)
    }

    /// Bytes of memory of a workspace for this plan, without the gradients. `states` is the number of optimiser tensors
    /// for each weight that the workspace keeps. The result is an `f64`, because a request can ask for so many bytes
    /// that an integer overflows.
    pub fn bytes<T: Float>(&self, states: usize) -> f64 {
        let of_slot = |slot: &SlotSize| slot.value.numbers() + slot.gradient.numbers();
        let of_group: f64 = self.slots.iter().map(of_slot).sum();
        let of_ops: f64 = (0..self.ops.len()).map(|number| numbers_of::<T>(self, number, states)).sum();
        (self.groups as f64 * of_group + of_ops) * size_of::<T>() as f64
    }
}
