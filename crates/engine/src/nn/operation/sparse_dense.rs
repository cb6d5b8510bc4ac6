use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::{GradientSum, Trained, dense};
use crate::nn::group::Group;
use crate::nn::kernel::{
    Aligned, Instructions, PANEL, Panels, SPAN, SparseColumns, SparseRows, SparseSpan, SparseView,
    ThreadPool, sparse_matmul, sparse_outer,
};
use crate::nn::layer::values;
use crate::nn::optimizer::Rule;
use crate::nn::packed::PanelsSize;
use crate::nn::plan::{Plan, PlanOp};
use crate::nn::rows::{matrix, matrix_mut};
use crate::nn::{Batch, Float, Gradient, Network};

/// Number of units per task. Their weights fit in the L2 cache of a core.
const UNITS: usize = 2 * PANEL;

/// Number of images per task that converts images to sparse rows.
const IMAGES: usize = 8;

/// A `dense` layer that reads the images, most of whose values are 0.
///
/// The forward pass and the gradient visit only inputs that are not 0. One task processes a block of units for all rows
/// of the batch, so the data of these units stay with one core from step to step. During training, the packed weights
/// are the current ones, and the weights in the network are out of date.
pub(in crate::nn) struct SparseDense<T> {
    layer: usize,
    rows: SparseRows<T>,
    columns: SparseColumns,
    blocks: Vec<Block<T>>,
}

/// A block of units of the layer.
struct Block<T> {
    /// Index of the first unit.
    first: usize,
    /// W, shape (inputs, units), and the optimiser's state for it.
    weight: Panels<T>,
    states: Vec<Panels<T>>,
    /// y, shape (rows, units).
    y: Panels<T>,
    dy: Panels<T>,
    /// dW, in steps that report or clip it.
    gradient: Panels<T>,
    /// Scratch buffer for dW of some inputs.
    part: Aligned<T>,
}

/// A task on all rows of the batch, before they are divided into groups.
enum StartPart<'a, T> {
    Block(&'a mut Block<T>),
    Span(SparseSpan<'a>),
}

/// The sizes of the buffers of a block.
struct BlockSizes {
    /// W, dW, and each state.
    weight: PanelsSize,
    /// y and dy.
    rows: PanelsSize,
    part: usize,
}

impl BlockSizes {
    /// The sizes for a block of `width` units.
    fn of(plan: &Plan, op: &PlanOp, width: usize) -> Self {
        Self {
            weight: PanelsSize(op.input.len(), width),
            rows: PanelsSize(plan.groups * plan.rows, width),
            part: SPAN * width.next_multiple_of(PANEL),
        }
    }
}

pub(super) fn numbers_of<T: Float>(plan: &Plan, op: &PlanOp, states: usize) -> f64 {
    let (rows, inputs) = (plan.groups * plan.rows, op.input.len());
    let bytes = SparseRows::<T>::bytes_of(rows, inputs) + SparseColumns::bytes_of(rows, inputs);
    // A block consists of whole panels, so all blocks together are as large as one block with all units.
    let BlockSizes { weight, rows, part } = BlockSizes::of(plan, op, op.output.len());
    let blocks = (2 + states) as f64 * weight.numbers() + 2.0 * rows.numbers() + part as f64;
    bytes / size_of::<T>() as f64 + blocks
}

impl<T: Float> SparseDense<T> {
    pub fn new(plan: &Plan, op: &PlanOp) -> Self {
        let units = op.output.len();
        let block = |first: usize| {
            let BlockSizes { weight, rows, part } = BlockSizes::of(plan, op, UNITS.min(units - first));
            Block {
                first,
                weight: weight.zeros(),
                states: Vec::new(),
                y: rows.zeros(),
                dy: rows.zeros(),
                gradient: weight.zeros(),
                part: Aligned::zeros(part),
            }
        };
        let (rows, inputs) = (plan.groups * plan.rows, op.input.len());
        Self {
            layer: op.layers.end - 1,
            rows: SparseRows::with_capacity(rows, inputs),
            columns: SparseColumns::with_capacity(rows, inputs),
            blocks: (0..units).step_by(UNITS).map(block).collect(),
        }
    }

    /// Packs the weights.
    pub fn pack(&mut self, network: &Network<T>) {
        let weight = dense(network, self.layer).weight.view();
        for block in &mut self.blocks {
            let columns = block.columns(&weight);
            block.weight.fill(columns);
        }
    }

    /// Replaces the weight in `row` and `column`.
    pub fn pack_one(&mut self, network: &Network<T>, row: usize, column: usize) {
        let block = &mut self.blocks[column / UNITS];
        let value = dense(network, self.layer).weight[[row, column]];
        block.weight.set(row, column - block.first, value);
    }

    /// Unpacks the weights into `network`.
    pub fn unpack(&self, network: &mut Network<T>) {
        let (weight, _) = network.layers_mut()[self.layer].parameters_mut().expect("a dense layer");
        let mut weight = weight.view_mut();
        self.blocks.iter().for_each(|block| block.weight.copy_to(0, block.columns_mut(&mut weight)));
    }

    /// Packs the optimiser's state for the weight, one tensor after the other.
    pub fn pack_states<'a>(&mut self, states: impl Iterator<Item = &'a mut [T]>)
    where
        T: 'a,
    {
        self.blocks.iter_mut().for_each(|block| block.states.clear());
        let units = self.units();
        for state in states {
            let state = matrix(state, units);
            for block in &mut self.blocks {
                let columns = block.columns(&state);
                block.states.push(Panels::of(columns));
            }
        }
    }

    /// Unpacks the optimiser's state.
    pub fn unpack_states<'a>(&self, states: impl Iterator<Item = &'a mut [T]>)
    where
        T: 'a,
    {
        for (index, state) in states.enumerate() {
            let mut state = matrix_mut(state, self.units());
            for block in &self.blocks {
                block.states[index].copy_to(0, block.columns_mut(&mut state));
            }
        }
    }

    fn units(&self) -> usize {
        self.blocks.iter().map(|block| block.weight.columns()).sum()
    }

    /// Computes `y = x W + b` for all rows of `batch`. If `backward`, also prepares the gradient.
    pub fn begin(&mut self, network: &Network<T>, batch: &Batch<T>, backward: bool, pool: &ThreadPool) {
        let bias = values(&dense(network, self.layer).bias);
        let size = batch.rows.len();
        let are_bytes = batch.rows.iter().all(|&example| batch.images.bytes(example).is_some());
        let chunks = self.rows.refill(size, IMAGES, are_bytes).zip(batch.rows.chunks(IMAGES));
        pool.for_each(chunks, |(mut chunk, examples)| {
            batch.for_each_ahead(examples, |row, example| {
                match batch.images.bytes(example).filter(|_| are_bytes) {
                    Some(bytes) => chunk.write_bytes(row, bytes),
                    None => chunk.write(row, |image| batch.images.write(example, batch.draw, image)),
                }
            });
        });
        let Self { rows, columns, blocks, .. } = self;
        let rows = rows.view();
        let spans = backward.then(|| columns.refill(size)).into_iter().flatten().map(StartPart::Span);
        pool.for_each_from_both_ends(blocks.iter_mut().map(StartPart::Block), spans, |start| match start {
            StartPart::Block(Block { first, weight, y, .. }) => {
                let bias = &bias[*first..*first + weight.columns()];
                sparse_matmul(Instructions::best(), rows, weight, bias, y);
            }
            StartPart::Span(span) => span.fill(rows),
        });
    }

    /// Copies the rows of y starting at `first`.
    pub fn write_y(&self, first: usize, y: &mut ArrayViewMut2<T>) {
        self.blocks.iter().for_each(|block| block.y.copy_to(first, block.columns_mut(y)));
    }

    /// The blocks, which sum the gradient of the weight and update it.
    pub fn trained(&mut self) -> Trained<'_, T> {
        let Self { rows, columns, blocks, .. } = self;
        let blocks = SparseStep { rows: rows.view(), columns, blocks };
        Trained { packed: None, blocks: Some(blocks), sum: GradientSum::Blocks }
    }

    /// Copies the gradient summed by [`BlockStep::sum_gradient`].
    pub fn write_gradient(&self, gradient: &mut Gradient<T>) {
        let mut weight = gradient.weight.view_mut();
        self.blocks.iter().for_each(|block| block.gradient.copy_to(0, block.columns_mut(&mut weight)));
    }
}

impl<T: Float> Block<T> {
    /// The columns of `matrix` that belong to these units.
    fn columns<'a>(&self, matrix: &ArrayView2<'a, T>) -> ArrayView2<'a, T> {
        matrix.slice_move(s![.., self.first..self.first + self.weight.columns()])
    }

    /// Mutable [`Self::columns`].
    fn columns_mut<'a>(&self, matrix: &'a mut ArrayViewMut2<T>) -> ArrayViewMut2<'a, T> {
        matrix.slice_mut(s![.., self.first..self.first + self.weight.columns()])
    }
}

/// The layer after the backward pass of a step.
pub(in crate::nn) struct SparseStep<'a, T> {
    rows: SparseView<'a, T>,
    columns: &'a SparseColumns,
    blocks: &'a mut [Block<T>],
}

impl<'a, T: Float> SparseStep<'a, T> {
    /// The tasks, one for each block of units.
    pub fn blocks(self) -> impl DoubleEndedIterator<Item = BlockStep<'a, T>> + Send {
        let Self { rows, columns, blocks } = self;
        blocks.iter_mut().map(move |block| BlockStep { rows, columns, block })
    }
}

/// A block of units after the backward pass of a step.
pub(in crate::nn) struct BlockStep<'a, T> {
    rows: SparseView<'a, T>,
    columns: &'a SparseColumns,
    block: &'a mut Block<T>,
}

impl<T: Float> BlockStep<'_, T> {
    /// `dW = Σ xᵀ · dy` over all rows, in order. The groups hold dy.
    pub fn sum_gradient(self, groups: &[Group<T>]) {
        self.for_each_part(groups, |block, numbers, part| {
            block.gradient.values_mut()[numbers].copy_from_slice(part);
        });
    }

    /// Updates the weights with the gradient summed by [`Self::sum_gradient`].
    pub fn apply(self, rule: &Rule<T>) {
        let Block { weight, states, gradient, .. } = self.block;
        let gradient = gradient.values_mut();
        apply(rule, weight, states, 0..gradient.len(), gradient);
    }

    /// [`Self::sum_gradient`] and [`Self::apply`] for some inputs at a time, while their weights are in a
    /// core's L1 cache.
    pub fn sum_and_apply(self, groups: &[Group<T>], rule: &Rule<T>) {
        self.for_each_part(groups, |block, numbers, part| {
            apply(rule, &mut block.weight, &mut block.states, numbers, part);
        });
    }

    /// Calls `work` with the gradient of some inputs at a time, panel by panel, and the range of the weight's
    /// elements that it belongs to.
    fn for_each_part(self, groups: &[Group<T>], work: impl Fn(&mut Block<T>, Range<usize>, &[T])) {
        let Self { rows, columns, block } = self;
        let units = block.first..block.first + block.weight.columns();
        // The layer is operation 0.
        let dys = groups.iter().map(|group| group.dy(0).slice_move(s![.., units.clone()]));
        block.dy.fill_rows(rows.rows(), dys);
        let inputs = rows.columns();
        let mut part = std::mem::replace(&mut block.part, Aligned::zeros(0));
        for span in 0..inputs.div_ceil(SPAN) {
            let length = SPAN.min(inputs - span * SPAN) * PANEL;
            let summed = &mut part[..block.weight.panels() * length];
            sparse_outer(Instructions::best(), rows, columns, span, &block.dy, summed);
            for (panel, part) in summed.chunks_exact(length).enumerate() {
                let first = (panel * inputs + span * SPAN) * PANEL;
                work(block, first..first + length, part);
            }
        }
        block.part = part;
    }
}

/// Updates a range of the weight's elements.
fn apply<T: Float>(
    rule: &Rule<T>,
    weight: &mut Panels<T>,
    states: &mut [Panels<T>],
    numbers: Range<usize>,
    gradient: &[T],
) {
    let mut states = states.iter_mut().map(|state| &mut state.values_mut()[numbers.clone()]);
    let states = std::array::from_fn(|_| states.next().unwrap_or_default());
    rule.apply(&mut weight.values_mut()[numbers.clone()], gradient, states);
}
