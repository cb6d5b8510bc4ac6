use std::ops::Range;

use super::kernel::POOL;
use super::{Activation, LayerKind, PoolingKind};

/// Below this share of numbers that are not 0, going from one to the next is quicker than all numbers.
pub(super) const SPARSE_MAX: f64 = 0.4;

/// Rows of a batch that one task carries forward and backward, where no layer has images.
const GROUP_ROWS: usize = 64;

/// Groups of a batch of images, and images that go through the layers together: so few that what
/// passes from layer to layer stays in the cache of a core.
const IMAGE_GROUPS: usize = 8;
const CHUNK_IMAGES: usize = 4;

/// How a network is trained on this data: the fast path of each layer, chosen here and nowhere else.
///
/// A function of the network, the size of a batch and the data alone, never of threads or processors,
/// so that every machine adds up the same numbers in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is done one after the other, each for some layers.
    pub(super) ops: Vec<Op>,
    /// Places in `ops` before which all rows of the batch meet, for a `batch_norm` needs its moments.
    pub(super) segments: Vec<Range<usize>>,
    /// The first layer with parameters: nothing before it needs a gradient.
    pub(super) first: usize,
    /// Whether that layer skips what is 0 of its input.
    pub(super) is_sparse: bool,
    /// Groups of rows, each carried by one task.
    pub(super) groups: usize,
    /// Rows of a group.
    pub(super) rows: usize,
    /// Rows that go through the layers together.
    pub(super) chunk_rows: usize,
}

/// One step of a pass through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The layer at this place.
    Layer(usize),
    /// `conv2d`, `relu` and `max_pool2d` of 2×2, the first at this place: what lies between them is
    /// never written down.
    ConvPool(usize),
    /// `batch_norm` and `relu`, the first at this place.
    NormRelu(usize),
    /// The same with a `max_pool2d` behind.
    NormPool(usize),
}

impl Op {
    /// What begins with the first of `layers`, which is at this place.
    fn at(layers: &[LayerKind], index: usize) -> Self {
        const RELU: LayerKind = LayerKind::Activation(Activation::Relu);
        const MAX: PoolingKind = PoolingKind::Max;
        match layers {
            [LayerKind::Conv2d, RELU, LayerKind::Pooling { kind: MAX, size: POOL }, ..] => {
                Self::ConvPool(index)
            }
            [LayerKind::BatchNorm, RELU, LayerKind::Pooling { kind: MAX, .. }, ..] => Self::NormPool(index),
            [LayerKind::BatchNorm, RELU, ..] => Self::NormRelu(index),
            _ => Self::Layer(index),
        }
    }

    /// The layers it stands for.
    pub fn layers(self) -> Range<usize> {
        match self {
            Self::Layer(index) => index..index + 1,
            Self::NormRelu(index) => index..index + 2,
            Self::ConvPool(index) | Self::NormPool(index) => index..index + 3,
        }
    }
}

impl Plan {
    /// Whether the value number `index` (the input of layer `index`) lies inside an op and is not written down.
    pub(super) fn is_inside(&self, index: usize) -> bool {
        self.ops.iter().any(|op| op.layers().skip(1).any(|inner| inner == index))
    }

    /// Whether the value number `index` is needed again after all rows have met.
    pub(super) fn is_kept(&self, index: usize) -> bool {
        let earlier = self.segments.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let used = |op: &Op| op.layers().start == index || op.layers().end == index;
        let meets = |segment: &Range<usize>| self.ops[segment.start].layers().start == index;
        earlier.iter().any(|segment| self.ops[segment.clone()].iter().any(used))
            || self.segments.iter().skip(1).any(meets)
            || self.is_gradient_kept(index)
    }

    /// Whether the gradient of value number `index` is: that of what comes out of a `batch_norm`.
    pub(super) fn is_gradient_kept(&self, index: usize) -> bool {
        self.segments.iter().skip(1).any(|segment| self.ops[segment.start].layers().end == index)
    }

    /// The plan for batches of up to `batch_size` rows, of which `nonzero_fraction` of the numbers are
    /// not 0.
    pub fn new(layers: &[LayerKind], batch_size: usize, nonzero_fraction: f64) -> Self {
        let first = layers.iter().position(|layer| layer.has_parameters()).unwrap_or(layers.len());
        let is_input = layers[..first].iter().all(|&layer| layer == LayerKind::Flatten);
        let is_sparse =
            is_input && layers.get(first) == Some(&LayerKind::Dense) && nonzero_fraction < SPARSE_MAX;

        let mut ops = Vec::new();
        let mut rest = layers;
        while !rest.is_empty() {
            let index = layers.len() - rest.len();
            let op = Op::at(rest, index);
            ops.push(op);
            rest = &rest[op.layers().len()..];
        }
        let is_norm = |op: &Op| layers[op.layers().start] == LayerKind::BatchNorm;
        let meetings = ops.iter().enumerate().filter(|(_, op)| is_norm(op)).map(|(place, _)| place);
        let starts: Vec<usize> = std::iter::once(0).chain(meetings).collect();
        let ends = starts.iter().skip(1).copied().chain([ops.len()]);
        let segments = starts.iter().zip(ends).map(|(&start, end)| start..end).collect();

        let is_image = |layer: &LayerKind| matches!(layer, LayerKind::Conv2d | LayerKind::Pooling { .. });
        let has_images = layers.iter().any(is_image);
        let quarters = batch_size.div_ceil(4).max(1);
        let groups = if has_images {
            IMAGE_GROUPS.min(quarters)
        } else {
            // Two at least, so that two cores have work.
            batch_size.div_ceil(GROUP_ROWS).next_multiple_of(2).min(quarters)
        };
        let rows = batch_size.div_ceil(groups);
        let chunk_rows = if has_images && !is_sparse { CHUNK_IMAGES.min(rows) } else { rows };
        Self { ops, segments, first, is_sparse, groups, rows, chunk_rows: chunk_rows.max(1) }
    }
}
