use ndarray::{Array1, Array2, ArrayView2};

use super::group::{Group, Norm, Pass, bias_gradient, weight_gradient};
use super::kernel::{SPAN, pixel, prefetch, vectorized};
use super::layer::{Packed, PackedRows, values_mut};
use super::optimizer::{Rule, States, with_states};
use super::plan::Op;
use super::rows::matrix;
use super::sparse_layer::{BlockStep, SparseLayer};
use super::{Draw, Float, Layer, Loss, Network, Optimizer, Plan, Pool};

/// Images, written one at a time into the rows of a batch.
pub trait Images<T: Float>: Sync {
    /// Writes the example `index`; `draw` decides what is drawn at random.
    fn write(&self, index: u32, draw: Draw, image: &mut [T]);

    /// The example `index` where all are bytes, each of which stands for a [`pixel`].
    fn bytes(&self, _index: u32) -> Option<&[u8]> {
        None
    }

    /// Is told that the example `index` will be asked for soon.
    fn prefetch(&self, _index: u32) {}
}

/// Pixels 0–255, shape (examples, inputs), read as pixel / 255.
impl<T: Float> Images<T> for ArrayView2<'_, u8> {
    fn write(&self, index: u32, _: Draw, image: &mut [T]) {
        let row = self.row(index as usize);
        match row.as_slice() {
            Some(bytes) => {
                vectorized(|| image.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = pixel(byte)))
            }
            None => image.iter_mut().zip(row).for_each(|(to, &byte)| *to = pixel(byte)),
        }
    }

    fn bytes(&self, index: u32) -> Option<&[u8]> {
        self.row(index as usize).to_slice()
    }

    fn prefetch(&self, index: u32) {
        if let Some(pixels) = self.row(index as usize).to_slice() {
            prefetch(pixels);
        }
    }
}

/// Values as they are, shape (examples, inputs).
impl Images<f64> for ArrayView2<'_, f64> {
    fn write(&self, index: u32, _: Draw, image: &mut [f64]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Values as they are, shape (examples, inputs).
impl Images<f32> for ArrayView2<'_, f32> {
    fn write(&self, index: u32, _: Draw, image: &mut [f32]) {
        image.iter_mut().zip(self.row(index as usize)).for_each(|(to, &value)| *to = value);
    }
}

/// Some of the examples, in the order of `rows`.
#[derive(Clone, Copy)]
pub struct Batch<'a, T> {
    /// All examples.
    pub images: &'a dyn Images<T>,
    /// The class of every example.
    pub labels: &'a [u8],
    /// Which of them, and in which order.
    pub rows: &'a [u32],
    /// What is drawn at random in a training step.
    pub draw: Draw,
}

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
/// The rows of a batch are dealt to groups, one task each. Between two `batch_norm` layers, or where
/// there is none from the first layer to the last and back, the groups go on without each other.
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
            gradients: layers
                .iter()
                .enumerate()
                .filter_map(|(layer, kind)| Some((layer, kind.parameters()?)))
                .map(|(layer, (weight, bias))| Gradient::zeros(layer, weight, bias))
                .collect(),
            plan,
        }
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

    /// Loss and accuracy on a batch of any size, as the network answers at inference.
    pub fn evaluate(&mut self, network: &Network<T>, loss: &Loss, batch: Batch<T>, pool: &Pool) -> StepLoss {
        self.pack(network);
        for (norm, layer) in self.norms.iter_mut().zip(network.layers()) {
            if let (Some(norm), Layer::BatchNorm(layer)) = (norm, layer) {
                norm.settle_running(layer);
            }
        }
        let Plan { groups, rows, chunk_rows, .. } = self.plan;
        let mut total = StepLoss::default();
        for rows in batch.rows.chunks(groups * rows) {
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
        total
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

    /// Fraction of the units of each relu that were 0 for every row of the watched steps, by layer; a
    /// unit of an image is a channel at all its places, or at those that pooling behind it reads.
    pub fn dead_fractions(&self, network: &Network<T>) -> Vec<Option<f64>> {
        let fraction = |(index, layer): (usize, &Layer<T>)| {
            matches!(layer, Layer::Activation(super::Activation::Relu)).then(|| {
                let units = network.shapes()[index].channels;
                let is_dead = |unit: &usize| self.groups.iter().all(|group| !group.is_alive(index, *unit));
                (0..units).filter(is_dead).count() as f64 / units as f64
            })
        };
        network.layers().iter().enumerate().map(fraction).collect()
    }

    /// Lays the weights out as the products read them.
    pub(super) fn pack(&mut self, network: &Network<T>) {
        for (packed, layer) in self.packed.iter_mut().zip(network.layers()) {
            packed.fill(layer);
        }
        if let Some((sparse, weight)) = self.sparse.as_mut().zip(first_weight(network)) {
            sparse.pack(weight.view());
        }
    }

    /// Gives `network` the weights that only this has kept up to date since [`Self::pack`].
    pub(super) fn unpack(&self, network: &mut Network<T>) {
        if let Some((sparse, (weight, _))) =
            self.sparse.as_ref().zip(network.layers_mut().iter_mut().find_map(Layer::parameters_mut))
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

    /// The gradients of the batch from what the last [`Self::pass`] left in the groups.
    pub(super) fn sum_gradients(&mut self, pool: &Pool) {
        let Self { groups, norms, gradients, sparse, .. } = self;
        let index = sparse.as_ref().map(|sparse| sparse.index);
        let steps = sparse.iter_mut().flat_map(SparseLayer::steps).map(SumPart::Block);
        let parts = gradients.iter_mut().flat_map(|gradient| {
            let is_sparse = index == Some(gradient.layer);
            let (rows, bias) = gradient.parts_mut();
            rows.take(if is_sparse { 0 } else { usize::MAX }).map(SumPart::Rows).chain([SumPart::Bias(bias)])
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

    /// Moves every weight by its gradient and packs it again, some at a time, while they are in a core's
    /// cache; first sums the gradients where that is still to be done.
    pub(super) fn update<'a>(
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
            let is_sparse = index == Some(gradient.layer);
            let length = SPAN * bias.len();
            let [weight_states, bias_states] = [(); 2].map(|()| states.next().unwrap_or_default());
            let (rows, dbias) = gradient.parts_mut();
            let rows = rows.zip(values_mut(weight).chunks_mut(length)).zip(packed.row_chunks_mut(SPAN));
            with_states(rows, weight_states, length)
                .take(if is_sparse { 0 } else { usize::MAX })
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

/// The weight of the first layer that has one.
fn first_weight<T: Float>(network: &Network<T>) -> Option<&Array2<T>> {
    network.layers().iter().find_map(Layer::parameters).map(|(weight, _)| weight)
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
    fn parts_mut(&mut self) -> (impl Iterator<Item = GradientRows<'_, T>> + Send, GradientBias<'_, T>) {
        let (layer, columns) = (self.layer, self.bias.len());
        let weight = values_mut(&mut self.weight).chunks_mut(SPAN * columns).enumerate();
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
