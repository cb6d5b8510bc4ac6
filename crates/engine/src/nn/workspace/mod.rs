mod pass;
#[cfg(test)]
mod tests;
mod update;

use ndarray::{Array1, Array2};

use super::group::Group;
use super::operation::Operation;
use super::{Batch, Float, Layer, Loss, Network, Optimizer, Plan, Pool};

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLoss {
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows whose largest score is their label's.
    pub correct: usize,
}

/// ∂L/∂W and ∂L/∂b of a layer.
#[derive(Clone, Debug)]
pub struct Gradient<T> {
    /// Its place in the network.
    pub layer: usize,
    /// Of the shape of the weight.
    pub weight: Array2<T>,
    /// Of the shape of the bias.
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

/// Everything a step needs besides the parameters, allocated once: the values each layer keeps
/// for its backward pass, the gradients, and the weights as the products read them.
///
/// The rows of a batch are dealt to groups, one task each; a sparse first layer is done for all of them before.
/// Between two `batch_norm` layers, or where there is none from there to the last layer and back, the groups go on
/// without each other.
pub struct Workspace<T> {
    plan: Plan,
    operations: Vec<Operation<T>>,
    groups: Vec<Group<T>>,
    gradients: Vec<Gradient<T>>,
    is_watching: bool,
}

impl<T: Float> Workspace<T> {
    /// Room for steps of `network` on batches of up to `batch_size` rows of any numbers.
    pub fn new(network: &Network<T>, batch_size: usize) -> Self {
        Self::planned(network, Plan::new(&network.kinds(), network.shapes(), batch_size, 1.0))
    }

    /// Room for steps of `network` as `plan`, which was made for it, has them.
    pub fn planned(network: &Network<T>, plan: Plan) -> Self {
        let gradient = |(index, layer): (usize, &Layer<T>)| {
            let (weight, bias) = layer.parameters()?;
            Some(Gradient::zeros(index, weight, bias))
        };
        let gradients = network.layers().iter().enumerate().filter_map(gradient).collect();
        Self { gradients, ..Self::without_gradients(plan) }
    }

    /// [`Self::planned`] for passes whose gradients are never held all at once, see [`Self::visit_gradients`].
    pub(super) fn without_gradients(plan: Plan) -> Self {
        Self {
            operations: (0..plan.ops.len()).map(|number| Operation::new(&plan, number)).collect(),
            groups: (0..plan.groups).map(|number| Group::new(&plan, number)).collect(),
            gradients: Vec::new(),
            is_watching: false,
            plan,
        }
    }

    /// Bytes that it takes, besides the gradients.
    pub fn memory_bytes(&self) -> usize {
        self.plan.bytes::<T>(0) as usize
    }

    /// Forward, loss and backward for one batch; the gradients of the mean loss are then in
    /// [`Self::gradients`]. The sums run in an order that depends on the batch alone.
    pub fn backpropagate(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        pool: &Pool,
    ) -> StepLoss {
        self.pack(network);
        let result = self.pass(network, loss, batch, true, pool);
        self.sum_gradients(pool);
        result
    }

    /// The loss of a batch as a training step computes it, without the gradients.
    pub fn training_loss(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        pool: &Pool,
    ) -> StepLoss {
        self.pack(network);
        self.pass(network, loss, batch, false, pool)
    }

    /// Loss and accuracy on a batch of any size, as the network answers at inference; `None` where `go_on`, asked
    /// every some hundred images, says no.
    pub fn evaluate(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        pool: &Pool,
        go_on: impl Fn() -> bool,
    ) -> Option<StepLoss> {
        self.pack(network);
        for operation in &mut self.operations {
            if let Operation::BatchNorm(norm) = operation {
                norm.settle_running(network);
            }
        }
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

    /// Moves the running statistics of `network` towards those of the last [`Self::backpropagate`].
    pub fn track_statistics(&self, network: &mut Network<T>) {
        for operation in &self.operations {
            if let Operation::BatchNorm(norm) = operation {
                norm.track(network);
            }
        }
    }

    /// Lets the following steps note which outputs of a relu are ever above 0, or no more.
    pub fn watch_units(&mut self, watch: bool) {
        self.is_watching = watch;
        if watch {
            self.operations.iter_mut().for_each(Operation::forget_units);
        }
    }

    /// Fraction of the units of the relu at `index` that were 0 for every row of the watched steps; a
    /// unit of an image is a channel at all its places, or at those that pooling after it reads. `None` of
    /// any other layer.
    pub fn dead_fraction(&self, network: &Network<T>, index: usize) -> Option<f64> {
        let relu = self.operations.iter().filter_map(Operation::relu).find(|relu| relu.layer == index)?;
        let units = network.shapes()[index].channels;
        let dead = (0..units).filter(|&unit| !relu.is_alive(unit)).count();
        Some(dead as f64 / units as f64)
    }

    /// Lays the weights out as the products read them.
    pub(super) fn pack(&mut self, network: &Network<T>) {
        self.operations.iter_mut().for_each(|operation| operation.pack(network));
    }

    /// [`Self::pack`] of one weight of the layer at `index`.
    pub(super) fn pack_one(&mut self, network: &Network<T>, index: usize, row: usize, column: usize) {
        let number = self.plan.ops.iter().position(|op| op.layers.contains(&index));
        self.operations[number.expect("an operation for each layer")].pack_one(network, row, column);
    }

    /// Gives `network` the weights that only this has kept up to date since [`Self::pack`].
    pub(super) fn unpack(&self, network: &mut Network<T>) {
        if let Some(Operation::SparseDense(sparse)) = self.operations.first() {
            sparse.unpack(network);
        }
    }

    /// Takes the optimiser's state over, where it belongs to weights that only this keeps up to date.
    pub(super) fn pack_states(&mut self, optimizer: &mut Optimizer<T>) {
        if let Some(Operation::SparseDense(sparse)) = self.operations.first_mut() {
            sparse.pack_states(optimizer.first_state_mut());
        }
    }

    /// Gives it back.
    pub(super) fn unpack_states(&self, optimizer: &mut Optimizer<T>) {
        if let Some(Operation::SparseDense(sparse)) = self.operations.first() {
            sparse.unpack_states(optimizer.first_state_mut());
        }
    }
}

/// The place of the largest value, the first of equals.
pub fn argmax<'a, T: Float>(values: impl Iterator<Item = &'a T>) -> usize {
    let mut best = (0, T::neg_infinity());
    for (index, &value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}
