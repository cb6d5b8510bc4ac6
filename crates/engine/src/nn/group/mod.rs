mod values;

use std::ops::Range;

use ndarray::{ArrayView2, s};

pub(super) use self::values::{BufferSize, Chunk, Values};
use super::operation::Operation;
use super::plan::{Plan, SlotSize};
use super::rows::{all, image_mut};
use super::workspace::StepLoss;
use super::{Batch, Float, Loss, Network, argmax};

/// The data that all groups read during a pass.
pub(super) struct Pass<'a, T> {
    pub plan: &'a Plan,
    pub operations: &'a [Operation<T>],
    pub network: &'a Network<T>,
    pub loss: &'a Loss,
    pub batch: &'a Batch<'a, T>,
    /// Whether dropout is active.
    pub is_training: bool,
    /// Whether each relu records which of its units are ever above 0.
    pub is_watching: bool,
}

/// The rows for which an operation runs.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Index of the group.
    pub group: usize,
    /// Index of the first row in the batch.
    pub first: usize,
    /// The position of the rows in the group.
    pub chunk: Chunk,
    pub examples: &'a [u32],
}

/// The values between two operations, and their gradient.
struct Slot<T> {
    value: Values<T>,
    gradient: Values<T>,
}

/// Some rows of a batch, with the values between the operations.
pub(super) struct Group<T> {
    number: usize,
    /// Index of its first row in the batch.
    first: usize,
    examples: Vec<u32>,
    labels: Vec<u16>,
    /// The input of each operation, and the scores last.
    slots: Vec<Slot<T>>,
    result: StepLoss,
}

impl<T: Float> Group<T> {
    /// The group `number` of `plan`.
    pub fn new(plan: &Plan, number: usize) -> Self {
        let slot = |&SlotSize { value, gradient }: &SlotSize| Slot {
            value: Values::zeros(value),
            gradient: Values::zeros(gradient),
        };
        Self {
            number,
            first: 0,
            examples: Vec::with_capacity(plan.rows),
            labels: Vec::with_capacity(plan.rows),
            slots: plan.slots.iter().map(slot).collect(),
            result: StepLoss::default(),
        }
    }

    pub fn result(&self) -> StepLoss {
        self.result
    }

    /// Begins a pass with these examples. `first` is the index of the first one in the batch.
    pub fn take(&mut self, first: usize, examples: &[u32]) {
        self.first = first;
        self.examples.clear();
        self.examples.extend_from_slice(examples);
        self.labels.clear();
        self.result = StepLoss::default();
    }

    pub fn for_each_chunk(&mut self, rows: usize, mut work: impl FnMut(&mut Self, Chunk)) {
        for first in (0..self.examples.len()).step_by(rows) {
            work(self, Chunk { first, count: rows.min(self.examples.len() - first) });
        }
    }

    /// The rows of a chunk, and the slots. They are borrowed together, so that the slots can be changed.
    fn rows(&mut self, chunk: Chunk) -> (Rows<'_>, &mut [Slot<T>]) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        let rows = Rows { group: self.number, first: self.first + chunk.first, chunk, examples };
        (rows, &mut self.slots)
    }

    /// Reads the labels of a chunk, and its images if no operation has read them.
    pub fn load(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        self.labels.extend(examples.iter().map(|&example| pass.batch.labels[example as usize]));
        if pass.plan.ops.first().is_some_and(|op| op.kind.reads_images()) {
            return;
        }
        let mut images = self.slots[0].value.of_mut(chunk);
        pass.batch.for_each_ahead(examples, |row, example| {
            pass.batch.images.write(example, pass.batch.draw, image_mut(&mut images, row));
        });
    }

    /// The forward pass through `operations`.
    pub fn forward(&mut self, pass: &Pass<T>, operations: Range<usize>, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        for number in operations {
            let [input, output] = &mut slots[number..number + 2] else { unreachable!("two slots") };
            let (x, y) = (input.value.of(chunk), output.value.of_mut(chunk));
            pass.operations[number].forward(pass, rows, x, y);
        }
    }

    /// Adds the loss and the number of correct answers. If `backward`, also computes the gradient of the scores.
    pub fn measure(&mut self, pass: &Pass<T>, chunk: Chunk, backward: bool) {
        let last = self.slots.len() - 1;
        let Slot { value, gradient } = &mut self.slots[last];
        let scores = value.of(chunk);
        let labels = &self.labels[chunk.first..][..chunk.count];
        let rows = all(&scores).chunks_exact(scores.ncols()).zip(labels);
        self.result.correct += rows.filter(|(row, label)| argmax(row.iter()) == usize::from(**label)).count();
        self.result.loss_sum += match backward {
            true => pass.loss.backward(scores, labels, pass.batch.rows.len(), gradient.of_mut(chunk)),
            false => pass.loss.forward(scores, labels),
        };
    }

    /// The backward pass through `operations`, down to the first operation with parameters.
    pub fn backward(&mut self, pass: &Pass<T>, operations: Range<usize>, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        for number in (operations.start.max(pass.plan.first)..operations.end).rev() {
            let [Slot { value, gradient }, output] = &mut slots[number..number + 2] else {
                unreachable!("two slots")
            };
            let dx = pass.plan.ops[number].has_dx.then(|| gradient.of_mut(chunk));
            let values = [value.of(chunk), output.value.of(chunk), output.gradient.of(chunk)];
            pass.operations[number].backward(pass, rows, values, dx);
        }
    }

    /// Adds the inputs of a chunk to the moments of the `batch_norm` at `number`.
    pub fn measure_norm(&mut self, pass: &Pass<T>, number: usize, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        pass.operations[number].measure(rows, slots[number].value.of(chunk));
    }

    /// Adds a chunk to the gradient sums of the `batch_norm` at `number`. Its dy must be known.
    pub fn measure_gradient(&mut self, pass: &Pass<T>, number: usize, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        let (input, output) = (&slots[number], &slots[number + 1]);
        let values = [input.value.of(chunk), output.value.of(chunk), output.gradient.of(chunk)];
        pass.operations[number].measure_gradient(rows, values);
    }

    /// Ends the backward pass through `operations`, after all rows of the group.
    pub fn end_backward(&mut self, pass: &Pass<T>, operations: Range<usize>) {
        for number in operations {
            pass.operations[number].end_backward(self.number, || self.dy(number));
        }
    }

    /// Columns `columns` of the input of operation `number`, which is a dense layer.
    pub fn x(&self, number: usize, columns: Range<usize>) -> ArrayView2<'_, T> {
        self.slots[number].value.first(self.examples.len()).slice_move(s![.., columns])
    }

    /// dy of operation `number`, which is a dense layer. Shape (rows, units).
    pub fn dy(&self, number: usize) -> ArrayView2<'_, T> {
        self.slots[number + 1].gradient.first(self.examples.len())
    }
}
