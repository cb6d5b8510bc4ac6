#[cfg(test)]
mod tests;
mod update;

use ndarray::{Array1, Array2};

use super::group::{Group, Norm, Pass};
use super::packed::Packed;
use super::plan::Op;
use super::sparse_layer::SparseLayer;
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
        Self { layer, weight: Array2::zeros(weight.dim()), bias: Array1::zeros(bias.dim()) }
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
    packed: Vec<Packed<T>>,
    norms: Vec<Option<Norm<T>>>,
    groups: Vec<Group<T>>,
    /// The first layer with parameters, where the plan has it sparse.
    sparse: Option<SparseLayer<T>>,
    gradients: Vec<Gradient<T>>,
}

impl<T: Float> Workspace<T> {
    /// Room for steps of `network` on batches of up to `batch_size` rows of any numbers.
    pub fn new(network: &Network<T>, batch_size: usize) -> Self {
        Self::planned(network, Plan::new(&network.kinds(), batch_size, 1.0))
    }

    /// Room for steps of `network` as `plan`, which was made for it, has them.
    pub fn planned(network: &Network<T>, plan: Plan) -> Self {
        let gradient = |(index, layer): (usize, &Layer<T>)| {
            let (weight, bias) = layer.parameters()?;
            Some(Gradient::zeros(index, weight, bias))
        };
        let gradients = network.layers().iter().enumerate().filter_map(gradient).collect();
        Self { gradients, ..Self::without_gradients(network, plan) }
    }

    /// [`Self::planned`] for passes whose gradients are never held all at once, see [`Self::visit_gradients`].
    pub(super) fn without_gradients(network: &Network<T>, plan: Plan) -> Self {
        let layers = network.layers();
        let packed = |(index, layer): (usize, &Layer<T>)| match layer {
            Layer::Conv2d(conv) if plan.ops.contains(&Op::ConvPool(index)) => {
                Packed::conv_pool_room(conv, index > plan.first)
            }
            _ if plan.is_sparse && index == plan.first => Packed::None,
            layer => Packed::room(layer, index > plan.first),
        };
        let sparse = match &layers.get(plan.first) {
            Some(Layer::Dense(dense)) if plan.is_sparse => {
                Some(SparseLayer::new(plan.first, dense, plan.groups * plan.rows))
            }
            _ => None,
        };
        let norm = |layer: &Layer<T>| match layer {
            Layer::BatchNorm(norm) => Some(Norm::new(norm.channels())),
            _ => None,
        };
        Self {
            packed: layers.iter().enumerate().map(packed).collect(),
            norms: layers.iter().map(norm).collect(),
            groups: (0..plan.groups).map(|_| Group::new(network, &plan)).collect(),
            sparse,
            gradients: Vec::new(),
            plan,
        }
    }

    /// Bytes that it takes, besides the gradients: what [`numbers_of_a_step`](super::numbers_of_a_step) estimates.
    pub fn memory_bytes(&self) -> usize {
        let packed = self.packed.iter().map(Packed::numbers).sum::<usize>() * size_of::<T>();
        let groups = self.groups.iter().map(Group::memory_bytes).sum::<usize>();
        packed + groups + self.sparse.as_ref().map_or(0, SparseLayer::memory_bytes)
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
        for (norm, layer) in self.norms.iter_mut().zip(network.layers()) {
            if let (Some(norm), Layer::BatchNorm(layer)) = (norm, layer) {
                norm.settle_running(layer);
            }
        }
        let Plan { groups, rows, chunk_rows, .. } = self.plan;
        let mut total = StepLoss::default();
        for rows in batch.rows.chunks(groups * rows) {
            if !go_on() {
                return None;
            }
            self.deal(rows);
            self.start(network, &Batch { rows, ..batch }, false, pool);
            let Self { plan, packed, norms, groups, sparse, .. } = self;
            let pass = Pass {
                plan,
                network,
                packed,
                norms,
                sparse: sparse.as_ref(),
                loss,
                batch: &batch,
                size: rows.len(),
            };
            pool.for_each(groups, |group| {
                group.for_each_chunk(chunk_rows, |group, chunk| {
                    group.load(&pass, chunk);
                    group.forward(&pass, 0..plan.ops.len(), chunk, false);
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
        for (layer, norm) in network.layers_mut().iter_mut().zip(&self.norms) {
            if let (Layer::BatchNorm(layer), Some(norm)) = (layer, norm) {
                layer.track(&norm.moments);
            }
        }
    }

    /// Lets the following steps note which outputs of a relu are ever above 0, or no more.
    pub fn watch_units(&mut self, watch: bool) {
        self.groups.iter_mut().for_each(|group| group.watch_units(watch));
    }

    /// Fraction of the units of the relu at `index` that were 0 for every row of the watched steps; a
    /// unit of an image is a channel at all its places, or at those that pooling behind it reads. `None` of
    /// any other layer.
    pub fn dead_fraction(&self, network: &Network<T>, index: usize) -> Option<f64> {
        matches!(network.layers()[index], Layer::Activation(super::Activation::Relu)).then(|| {
            let units = network.shapes()[index].channels;
            let is_dead = |unit: &usize| self.groups.iter().all(|group| !group.is_alive(index, *unit));
            (0..units).filter(is_dead).count() as f64 / units as f64
        })
    }

    /// Lays the weights out as the products read them.
    pub(super) fn pack(&mut self, network: &Network<T>) {
        self.packed.iter_mut().zip(network.layers()).for_each(|(packed, layer)| packed.fill(layer));
        if let Some(sparse) = &mut self.sparse
            && let Some((weight, _)) = network.layers()[sparse.index].parameters()
        {
            sparse.pack(weight.view());
        }
    }

    /// [`Self::pack`] of one weight of the layer at `index`.
    pub(super) fn pack_one(&mut self, network: &Network<T>, index: usize, row: usize, column: usize) {
        let layer = &network.layers()[index];
        self.packed[index].fill_one(layer, row, column);
        if let (Some(sparse), Some((weight, _))) = (&mut self.sparse, layer.parameters())
            && sparse.index == index
        {
            sparse.set(row, column, weight[[row, column]]);
        }
    }

    /// Gives `network` the weights that only this has kept up to date since [`Self::pack`].
    pub(super) fn unpack(&self, network: &mut Network<T>) {
        if let Some(sparse) = &self.sparse
            && let Some((weight, _)) = network.layers_mut()[sparse.index].parameters_mut()
        {
            sparse.unpack(&mut weight.view_mut());
        }
    }

    /// Takes the optimiser's state over, where it belongs to weights that only this keeps up to date.
    pub(super) fn pack_states(&mut self, optimizer: &mut Optimizer<T>) {
        if let Some(sparse) = &mut self.sparse {
            sparse.pack_states(optimizer.first_state_mut());
        }
    }

    /// Gives it back.
    pub(super) fn unpack_states(&self, optimizer: &mut Optimizer<T>) {
        if let Some(sparse) = &self.sparse {
            sparse.unpack_states(optimizer.first_state_mut());
        }
    }

    /// What is done for all rows before the groups go on by themselves.
    fn start(&mut self, network: &Network<T>, batch: &Batch<T>, backward: bool, pool: &Pool) {
        if let Some(sparse) = &mut self.sparse
            && let Layer::Dense(dense) = &network.layers()[sparse.index]
        {
            sparse.forward(dense, batch, backward, pool);
        }
    }

    /// Gives each group its share of `rows`, all as even as can be.
    fn deal(&mut self, rows: &[u32]) {
        let each = rows.len().div_ceil(self.groups.len());
        for (index, group) in self.groups.iter_mut().enumerate() {
            let first = (index * each).min(rows.len());
            group.take(first, &rows[first..(first + each).min(rows.len())]);
        }
    }

    fn result(&self) -> StepLoss {
        self.groups.iter().fold(StepLoss::default(), |sum, group| StepLoss {
            loss_sum: sum.loss_sum + group.result().loss_sum,
            correct: sum.correct + group.result().correct,
        })
    }

    /// Forward, and backward to what the gradients are summed from, with the weights as packed last.
    pub(super) fn pass(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        backward: bool,
        pool: &Pool,
    ) -> StepLoss {
        self.deal(batch.rows);
        self.start(network, &batch, backward, pool);
        let Self { plan, packed, norms, groups, sparse, .. } = self;
        let (packed, sparse, size) = (packed.as_slice(), sparse.as_ref(), batch.rows.len());
        let Plan { segments, chunk_rows, .. } = &*plan;
        let last = segments.len() - 1;
        let norm_of = |segment: &std::ops::Range<usize>| plan.ops[segment.start];
        for (number, segment) in segments.iter().enumerate() {
            let next = segments.get(number + 1).map(|next| norm_of(next).layers().start);
            let pass = Pass { plan, network, packed, norms, sparse, loss, batch: &batch, size };
            pool.for_each(&mut *groups, |group| {
                group.for_each_chunk(*chunk_rows, |group, chunk| {
                    if number == 0 {
                        group.load(&pass, chunk);
                    }
                    group.forward(&pass, segment.clone(), chunk, true);
                    if let Some(next) = next {
                        group.measure_norm(next, chunk);
                        return;
                    }
                    group.measure(&pass, chunk, backward);
                    if backward {
                        group.backward(&pass, segment.clone(), chunk);
                        if number > 0 {
                            group.measure_gradient(&pass, norm_of(segment), chunk);
                        }
                    }
                });
                if backward && number == last {
                    group.end_backward(&pass, segment.clone());
                }
            });
            if let Some(next) = next
                && let (Some(norm), Layer::BatchNorm(layer)) = (&mut norms[next], &network.layers()[next])
            {
                norm.settle(layer, groups.iter().filter_map(|group| group.moments(next)));
            }
        }
        if backward {
            for (number, segment) in segments.iter().enumerate().rev().skip(1) {
                let later = norm_of(&segments[number + 1]);
                let norm = later.layers().start;
                if let (Some(sums), Layer::BatchNorm(layer)) = (&mut norms[norm], &network.layers()[norm]) {
                    sums.add_sums(layer, groups.iter().filter_map(|group| group.sums(norm)));
                }
                let pass = Pass { plan, network, packed, norms, sparse, loss, batch: &batch, size };
                pool.for_each(&mut *groups, |group| {
                    group.for_each_chunk(*chunk_rows, |group, chunk| {
                        group.backward_norm(&pass, later, chunk);
                        group.backward(&pass, segment.clone(), chunk);
                        if number > 0 {
                            group.measure_gradient(&pass, norm_of(segment), chunk);
                        }
                    });
                    group.end_backward(&pass, segment.clone());
                });
            }
        }
        self.result()
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
