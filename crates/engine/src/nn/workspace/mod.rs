mod pass;
#[cfg(test)]
mod tests;
mod update;

use ndarray::{Array1, Array2};

use super::group::Group;
use super::operation::Operation;
use super::{Batch, Float, Layer, Loss, Network, Optimizer, Plan, ThreadPool};

/// The sum of the losses of a batch, and the number of correct answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLoss {
    /// Sum of the losses of all rows.
    pub loss_sum: f64,
    /// Number of rows whose label has the largest score.
    pub correct: usize,
}

/// ∂L/∂W and ∂L/∂b of a layer.
#[derive(Clone, Debug)]
pub struct Gradient<T> {
    /// Index of the layer.
    pub layer: usize,
    /// ∂L/∂W, in the shape of the weight.
    pub weight: Array2<T>,
    /// ∂L/∂b, in the shape of the bias.
    pub bias: Array1<T>,
}

impl<T: Float> Gradient<T> {
    pub(super) fn zeros(layer: usize, weight: &Array2<T>, bias: &Array1<T>) -> Self {
        debug_assert_eq!(weight.ncols(), bias.len(), "a bias for each column");
        Self::of_shape(layer, weight.dim())
    }

    pub(super) fn of_shape(layer: usize, (rows, columns): (usize, usize)) -> Self {
        Self { layer, weight: Array2::zeros((rows, columns)), bias: Array1::zeros(columns) }
    }

    pub(super) fn clear(&mut self) {
        self.weight.fill(T::zero());
        self.bias.fill(T::zero());
    }
}

/// All memory of a training step except the parameters. It is allocated once, and holds the values that the backward
/// pass needs, the gradients, and the packed weights.
///
/// The rows of a batch are divided into groups, and one task processes each group. A sparse first layer is computed for
/// all rows before that. The groups are independent of each other until they reach a `batch_norm`, where they
/// synchronise.
pub struct Workspace<T> {
    plan: Plan,
    operations: Vec<Operation<T>>,
    groups: Vec<Group<T>>,
    gradients: Vec<Gradient<T>>,
    is_watching: bool,
}

impl<T: Float> Workspace<T> {
    /// Memory for steps of `network` on batches of up to `batch_size` rows, with no assumption about zeros.
    pub fn new(network: &Network<T>, batch_size: usize) -> Self {
        Self::planned(network, Plan::new(&network.kinds(), network.shapes(), batch_size, 1.0))
    }

    /// Memory for steps of `network` according to `plan`, which must be a plan for this network.
    pub fn planned(network: &Network<T>, plan: Plan) -> Self {
        let gradient = |(index, layer): (usize, &Layer<T>)| {
            let (weight, bias) = layer.parameters()?;
            Some(Gradient::zeros(index, weight, bias))
        };
        let gradients = network.layers().iter().enumerate().filter_map(gradient).collect();
        Self { gradients, ..Self::without_gradients(plan) }
    }

    /// [`Self::planned`] without memory for the gradients. See [`Self::visit_gradients`].
    pub(super) fn without_gradients(plan: Plan) -> Self {
        Self {
            operations: (0..plan.ops.len()).map(|number| Operation::new(&plan, number)).collect(),
            groups: (0..plan.groups).map(|number| Group::new(&plan, number)).collect(),
            gradients: Vec::new(),
            is_watching: false,
            plan,
        }
    }

    /// Bytes of memory, without the gradients and the optimiser's state.
    pub fn memory_bytes(&self) -> usize {
        self.plan.bytes::<T>(0) as usize
    }

    /// Forward pass, loss and backward pass for one batch. Sets [`Self::gradients`] to the gradients of the mean loss.
    /// The order of the sums depends only on the batch.
    pub fn backpropagate(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        pool: &ThreadPool,
    ) -> StepLoss {
        self.pack(network);
        let result = self.pass(network, loss, batch, true, pool);
        self.sum_gradients(pool);
        result
    }

    /// Loss and accuracy on a batch of any size, at inference. `go_on` is called before every part of the size that the
    /// workspace is planned for. If it returns false, the result is `None`.
    pub fn evaluate(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        pool: &ThreadPool,
        go_on: impl Fn() -> bool,
    ) -> Option<StepLoss> {
        self.pack(network);
        self.operations.iter_mut().for_each(|operation| operation.settle_running(network));
        let Plan { groups, rows, chunk_rows, .. } = self.plan;
        let mut total = StepLoss::default();
        for rows in batch.rows.chunks(groups * rows) {
            if !go_on() {
                return None;
            }
            let batch = Batch { rows, ..batch };
            self.begin(network, &batch, false, pool);
            let (pass, groups) = self.pass_of(network, loss, &batch, false);
            pool.for_each(groups, |group| {
                group.for_each_chunk(chunk_rows, |group, chunk| {
                    group.load(&pass, chunk);
                    group.forward(&pass, 0..pass.operations.len(), chunk);
                    group.measure(&pass, chunk, false);
                });
            });
            let part = self.result();
            total.loss_sum += part.loss_sum;
            total.correct += part.correct;
        }
        Some(total)
    }

    /// The gradients of the last [`Self::backpropagate`], one for each layer with parameters.
    pub fn gradients(&self) -> &[Gradient<T>] {
        &self.gradients
    }

    /// Moves the running statistics of `network` towards the moments of the last [`Self::backpropagate`].
    pub fn track_statistics(&self, network: &mut Network<T>) {
        self.operations.iter().for_each(|operation| operation.track(network));
    }

    /// Starts or stops recording which outputs of a relu are ever above 0.
    pub fn watch_units(&mut self, watch: bool) {
        self.is_watching = watch;
        if watch {
            self.operations.iter_mut().for_each(Operation::forget_units);
        }
    }

    /// Fraction of the units of the relu at `index` that were 0 for every row of the watched steps. A unit of an image
    /// is a channel at all pixels, or at the pixels that a fused max-pool selects. `None` for any other layer.
    pub fn dead_fraction(&self, network: &Network<T>, index: usize) -> Option<f64> {
        let relu = self.operations.iter().filter_map(Operation::relu).find(|relu| relu.layer == index)?;
        let units = network.shapes()[index].channels;
        let dead = (0..units).filter(|&unit| !relu.is_alive(unit)).count();
        Some(dead as f64 / units as f64)
    }

    /// Packs the weights for products.
    pub(super) fn pack(&mut self, network: &Network<T>) {
        self.operations.iter_mut().for_each(|operation| operation.pack(network));
    }

    /// Packs a single weight of the layer at `index`.
    pub(super) fn pack_one(&mut self, network: &Network<T>, index: usize, row: usize, column: usize) {
        let number = self.plan.ops.iter().position(|op| op.layers.contains(&index));
        self.operations[number.expect("every layer belongs to an operation")].pack_one(network, row, column);
    }

    /// Writes the weights of a sparse first layer back to `network`.
    pub(super) fn unpack(&self, network: &mut Network<T>) {
        self.operations.iter().for_each(|operation| operation.unpack(network));
    }

    /// Packs the optimiser's state for the weights of a sparse first layer.
    pub(super) fn pack_states(&mut self, optimizer: &mut Optimizer<T>) {
        self.operations.iter_mut().for_each(|operation| operation.pack_states(optimizer));
    }

    /// Writes the optimiser's state for these weights back to `optimizer`.
    pub(super) fn unpack_states(&self, optimizer: &mut Optimizer<T>) {
        self.operations.iter().for_each(|operation| operation.unpack_states(optimizer));
    }
}

/// Index of the largest value. If several are equal, the first one.
pub fn argmax<'a, T: Float>(values: impl Iterator<Item = &'a T>) -> usize {
    let mut best = (0, T::neg_infinity());
    for (index, &value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}
