mod values;

use std::ops::Range;

use ndarray::{ArrayView2, s};

pub(super) use self::values::{Chunk, Room, Values};
use super::operation::Operation;
use super::plan::{Plan, SlotRoom};
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
    /// Whether a dropout draws.
    pub is_training: bool,
    /// Whether the units of a relu are watched.
    pub is_watching: bool,
}

/// Some rows that an operation is done for.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Number of their group.
    pub group: usize,
    /// The first of them in the batch.
    pub first: usize,
    /// Which of the group they are.
    pub chunk: Chunk,
    pub examples: &'a [u32],
}

/// What goes from one operation to the next, and the gradient that comes back.
struct Slot<T> {
    value: Values<T>,
    gradient: Values<T>,
}

/// Some rows of a batch on their way through the operations.
pub(super) struct Group<T> {
    number: usize,
    /// Index of its first row in the batch.
    first: usize,
    examples: Vec<u32>,
    labels: Vec<u16>,
    /// Before each operation, and at the end the scores.
    slots: Vec<Slot<T>>,
    result: StepLoss,
}

impl<T: Float> Group<T> {
    /// The group `number` of `plan`.
    pub fn new(plan: &Plan, number: usize) -> Self {
        let slot = |&SlotRoom { value, gradient }: &SlotRoom| Slot {
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

    /// The rows of a chunk, and the slots, which may be changed meanwhile.
    fn rows(&mut self, chunk: Chunk) -> (Rows<'_>, &mut [Slot<T>]) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        let rows = Rows { group: self.number, first: self.first + chunk.first, chunk, examples };
        (rows, &mut self.slots)
    }

    /// Reads labels and images; a sparse layer has read the images already.
    pub fn load(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        self.labels.extend(examples.iter().map(|&example| pass.batch.labels[example as usize]));
        if let Some(Operation::SparseDense(_)) = pass.operations.first() {
            return;
        }
        let mut images = self.slots[0].value.of_mut(chunk);
        pass.batch.for_each_ahead(examples, |row, example| {
            pass.batch.images.write(example, pass.batch.draw, image_mut(&mut images, row));
        });
    }

    /// The values of `operations`, one after the other.
    pub fn forward(&mut self, pass: &Pass<T>, operations: Range<usize>, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        for number in operations {
            let [input, output] = &mut slots[number..number + 2] else { unreachable!("two of a slice") };
            let (x, y) = (input.value.of(chunk), output.value.of_mut(chunk));
            pass.operations[number].forward(pass, rows, x, y);
        }
    }

    /// Adds loss and accuracy of the scores. With `backward`, computes their gradient as well.
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

    /// The gradients of `operations`, the last first, to the first that is trained.
    pub fn backward(&mut self, pass: &Pass<T>, operations: Range<usize>, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        for number in (operations.start.max(pass.plan.first)..operations.end).rev() {
            let [Slot { value, gradient }, output] = &mut slots[number..number + 2] else {
                unreachable!("two of a slice")
            };
            let dx = pass.plan.ops[number].has_dx.then(|| gradient.of_mut(chunk));
            let values = [value.of(chunk), output.value.of(chunk), output.gradient.of(chunk)];
            pass.operations[number].backward(pass, rows, values, dx);
        }
    }

    /// Adds some rows to the moments of the input of the `batch_norm` that is operation `number`.
    pub fn measure_norm(&mut self, pass: &Pass<T>, number: usize, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        pass.operations[number].norm().measure(rows, slots[number].value.of(chunk));
    }

    /// Adds some rows to the sums of its gradient, once its dy is there.
    pub fn measure_gradient(&mut self, pass: &Pass<T>, number: usize, chunk: Chunk) {
        let (rows, slots) = self.rows(chunk);
        let (input, output) = (&slots[number], &slots[number + 1]);
        let values = [input.value.of(chunk), output.value.of(chunk), output.gradient.of(chunk)];
        pass.operations[number].norm().measure_gradient(rows, values);
    }

    /// Ends the way back through `operations` for all rows of the group.
    pub fn end_backward(&mut self, pass: &Pass<T>, operations: Range<usize>) {
        for number in operations {
            if let Operation::Dense(dense) = &pass.operations[number] {
                dense.keep_dy(self.number, self.dy(number));
            }
        }
    }

    /// The columns `columns` of the input of the dense layer that is operation `number`.
    pub fn x(&self, number: usize, columns: Range<usize>) -> ArrayView2<'_, T> {
        self.slots[number].value.first(self.examples.len()).slice_move(s![.., columns])
    }

    /// dy of the dense layer that is operation `number`, shape (rows, units).
    pub fn dy(&self, number: usize) -> ArrayView2<'_, T> {
        self.slots[number + 1].gradient.first(self.examples.len())
    }
}
