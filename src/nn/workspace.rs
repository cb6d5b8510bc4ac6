use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2};

use super::group::{Group, Norm, Pass};
use super::kernel::vectorized;
use super::layer::{Packed, values, values_mut};
use super::{Dense, Draw, Float, Layer, Loss, Network, Pool};

/// Rows of a weight whose gradient one task sums: 784 pixels make 14 tasks.
const WEIGHT_ROWS: usize = 56;

/// Elements of a filter's gradient that one task sums over the groups.
const FILTER_ELEMENTS: usize = 4_096;

/// Images, written one at a time into the rows of a batch.
pub trait Images<T>: Sync {
    /// Writes the example `index`; `draw` decides what is drawn at random.
    fn write(&self, index: u32, draw: Draw, image: &mut [T]);
}

/// Pixels 0–255, shape (examples, inputs), read as pixel / 255.
impl<T: Float> Images<T> for ArrayView2<'_, u8> {
    fn write(&self, index: u32, _: Draw, image: &mut [T]) {
        let scale = T::one() / T::of(255.0);
        let row = self.row(index as usize);
        match row.as_slice() {
            Some(pixels) => vectorized(|| {
                image.iter_mut().zip(pixels).for_each(|(to, &pixel)| *to = T::of_byte(pixel) * scale);
            }),
            None => image.iter_mut().zip(row).for_each(|(to, &pixel)| *to = T::of_byte(pixel) * scale),
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
    /// Of the shape of the weight.
    pub weight: Array2<T>,
    /// Of the shape of the bias.
    pub bias: Array1<T>,
}

impl<T: Float> Gradient<T> {
    pub(super) fn zeros(weight: &Array2<T>, bias: &Array1<T>) -> Self {
        Self { weight: Array2::zeros(weight.dim()), bias: Array1::zeros(bias.dim()) }
    }
}

/// Everything a step needs besides the parameters, allocated once: the values each layer keeps
/// for its backward pass, the gradients, and the weights as the products read them.
///
/// The rows of a batch are dealt to groups, one task each. Between two `batch_norm` layers, or where
/// there is none from the first layer to the last and back, the groups go on without each other.
pub struct Workspace<T> {
    packed: Vec<Packed<T>>,
    norms: Vec<Option<Norm<T>>>,
    groups: Vec<Group<T>>,
    gradients: Vec<Gradient<T>>,
    /// The layers between the places where all groups meet.
    segments: Vec<std::ops::Range<usize>>,
}

impl<T: Float> Workspace<T> {
    /// Room for steps of `network` on batches of up to `batch_size` rows.
    pub fn new(network: &Network<T>, batch_size: usize) -> Self {
        let layers = network.layers();
        let first = layers.iter().position(|layer| layer.parameters().is_some());
        let packed = |(index, layer)| Packed::room(layer, Some(index) != first);
        let norm = |layer: &Layer<T>| match layer {
            Layer::BatchNorm(norm) => Some(Norm::new(norm.channels())),
            _ => None,
        };
        let meetings = layers.iter().enumerate().filter(|(_, layer)| matches!(layer, Layer::BatchNorm(_)));
        let starts: Vec<usize> = std::iter::once(0).chain(meetings.map(|(index, _)| index)).collect();
        let ends = starts.iter().skip(1).copied().chain([layers.len()]);
        Self {
            packed: layers.iter().enumerate().map(packed).collect(),
            norms: layers.iter().map(norm).collect(),
            groups: Group::deal(network, batch_size),
            gradients: layers
                .iter()
                .filter_map(Layer::parameters)
                .map(|(weight, bias)| Gradient::zeros(weight, bias))
                .collect(),
            segments: starts.iter().zip(ends).map(|(&start, end)| start..end).collect(),
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
        let result = self.train_pass(network, loss, batch, true, pool);
        self.sum_gradients(network, pool);
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
        self.train_pass(network, loss, batch, false, pool)
    }

    /// Loss and accuracy on a batch of any size, as the network answers at inference.
    pub fn evaluate(&mut self, network: &Network<T>, loss: &Loss, batch: Batch<T>, pool: &Pool) -> StepLoss {
        self.pack(network, pool);
        for (norm, layer) in self.norms.iter_mut().zip(network.layers()) {
            if let (Some(norm), Layer::BatchNorm(layer)) = (norm, layer) {
                norm.settle_running(layer);
            }
        }
        let capacity: usize = self.groups.iter().map(Group::capacity).sum();
        let mut total = StepLoss::default();
        for rows in batch.rows.chunks(capacity) {
            let size = rows.len();
            self.deal(rows);
            let pass = Pass { network, packed: &self.packed, norms: &self.norms, loss, batch: &batch, size };
            pool.for_each(&mut self.groups, |_, group| {
                group.for_each_chunk(|group, chunk| {
                    group.load(&pass, chunk);
                    group.forward(&pass, 0..network.layers().len(), chunk, false);
                    group.measure(&pass, chunk);
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
    /// unit of an image is a channel at all its places.
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

    fn pack(&mut self, network: &Network<T>, pool: &Pool) {
        for (packed, layer) in self.packed.iter_mut().zip(network.layers()) {
            packed.fill(layer, pool);
        }
    }

    /// Gives each group its share of `rows`, all as even as can be.
    fn deal(&mut self, rows: &[u32]) {
        let each = rows.len().div_ceil(self.groups.len());
        for (index, group) in self.groups.iter_mut().enumerate() {
            let first = (index * each).min(rows.len());
            group.take(&rows[first..(first + each).min(rows.len())]);
        }
    }

    fn result(&self) -> StepLoss {
        self.groups.iter().fold(StepLoss::default(), |sum, group| StepLoss {
            loss_sum: sum.loss_sum + group.result().loss_sum,
            correct: sum.correct + group.result().correct,
        })
    }

    fn train_pass(
        &mut self,
        network: &Network<T>,
        loss: &Loss,
        batch: Batch<T>,
        backward: bool,
        pool: &Pool,
    ) -> StepLoss {
        self.pack(network, pool);
        self.deal(batch.rows);
        let Self { packed, norms, groups, segments, .. } = self;
        let (packed, size) = (packed.as_slice(), batch.rows.len());
        let last = segments.len() - 1;
        for (number, segment) in segments.iter().enumerate() {
            let pass = Pass { network, packed, norms, loss, batch: &batch, size };
            pool.for_each(groups, |_, group| {
                group.for_each_chunk(|group, chunk| {
                    if number == 0 {
                        group.load(&pass, chunk);
                    }
                    group.forward(&pass, segment.clone(), chunk, true);
                    if number == last {
                        group.measure(&pass, chunk);
                        if backward {
                            group.start_backward(&pass, chunk);
                            group.backward(&pass, segment.clone(), chunk);
                        }
                    }
                });
                if number < last {
                    group.measure_norm(segment.end);
                } else if backward {
                    group.end_backward(&pass, segment.clone());
                }
            });
            if number < last
                && let (Some(norm), Layer::BatchNorm(layer)) =
                    (&mut norms[segment.end], &network.layers()[segment.end])
            {
                norm.settle(layer, groups.iter().filter_map(|group| group.moments(segment.end)));
            }
        }
        if backward {
            for (segment, later) in segments.iter().zip(&segments[1..]).rev() {
                if let Some(norm) = &mut norms[later.start] {
                    norm.add_sums(groups.iter().filter_map(|group| group.sums(later.start)));
                }
                let pass = Pass { network, packed, norms, loss, batch: &batch, size };
                pool.for_each(groups, |_, group| {
                    group.for_each_chunk(|group, chunk| {
                        group.backward_norm(&pass, later.start, chunk);
                        group.backward(&pass, segment.clone(), chunk);
                    });
                    group.end_backward(&pass, segment.clone());
                });
            }
        }
        self.result()
    }

    /// The gradients of the batch from what the groups kept, first group to last.
    fn sum_gradients(&mut self, network: &Network<T>, pool: &Pool) {
        let groups = &self.groups;
        let layers = network.layers().iter().enumerate().filter(|(_, layer)| layer.parameters().is_some());
        for ((index, layer), gradient) in layers.zip(&mut self.gradients) {
            match layer {
                Layer::Dense(dense) => sum_dense(groups, index, dense, gradient, pool),
                Layer::Conv2d(_) => {
                    let weight = values_mut(&mut gradient.weight);
                    pool.for_each_chunk([weight], FILTER_ELEMENTS, |chunk, [sum]| {
                        let first = chunk * FILTER_ELEMENTS;
                        let parts = groups.iter().filter_map(|group| group.gradient(index));
                        add_up(sum, parts.map(|part| &values(&part.weight)[first..]));
                    });
                    let parts = groups.iter().filter_map(|group| group.gradient(index));
                    add_up(values_mut(&mut gradient.bias), parts.map(|part| values(&part.bias)));
                }
                _ => {
                    if let Some(norm) = &self.norms[index] {
                        norm.gradient(gradient);
                    }
                }
            }
        }
    }
}

/// `dW = Σ xᵀ dy` and `db = Σ dy` over the groups.
fn sum_dense<T: Float>(
    groups: &[Group<T>],
    index: usize,
    dense: &Dense<T>,
    gradient: &mut Gradient<T>,
    pool: &Pool,
) {
    let units = dense.bias.len();
    pool.for_each_chunk([values_mut(&mut gradient.weight)], WEIGHT_ROWS * units, |chunk, [dweight]| {
        let rows = dweight.len() / units;
        let first = chunk * WEIGHT_ROWS;
        let Ok(dweight) = ArrayViewMut2::from_shape((rows, units), dweight) else {
            unreachable!("a chunk is whole rows of the weight");
        };
        Dense::backward_weight(
            groups.iter().filter_map(|group| group.dense_factors(index, first..first + rows)),
            dweight,
        );
    });
    gradient.bias.fill(T::zero());
    for group in groups {
        Dense::backward_bias(group.dy(index), gradient.bias.view_mut());
    }
}

/// `sum = Σ parts`, in order.
fn add_up<'a, T: Float>(sum: &mut [T], parts: impl Iterator<Item = &'a [T]>) {
    sum.fill(T::zero());
    for part in parts {
        vectorized(|| sum.iter_mut().zip(part).for_each(|(sum, &part)| *sum += part));
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
