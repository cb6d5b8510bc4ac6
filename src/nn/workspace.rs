use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::kernel::{PANEL, Panels, fill_panel, vectorized};
use super::network::values_mut;
use super::{Dense, Float, Layer, Loss, Network, Pool};

/// Rows of a batch that one task carries forward and backward, at most.
const BLOCK_ROWS: usize = 32;

/// Rows of a weight whose gradient one task sums: 784 pixels make 14 tasks.
const WEIGHT_ROWS: usize = 56;

/// Where the rows of a batch are read from.
#[derive(Clone, Copy)]
pub enum Examples<'a, T> {
    /// Pixels 0–255, shape (examples, inputs), read as pixel / 255.
    Pixels(ArrayView2<'a, u8>),
    /// Values as they are, shape (examples, inputs).
    Values(ArrayView2<'a, T>),
}

/// Some of the examples, in the order of `rows`.
#[derive(Clone, Copy)]
pub struct Batch<'a, T> {
    /// All examples.
    pub examples: Examples<'a, T>,
    /// The class of every example.
    pub labels: &'a [u8],
    /// Which of them, and in which order.
    pub rows: &'a [u32],
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLoss {
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows whose largest score is their label's.
    pub correct: usize,
}

/// ∂L/∂W and ∂L/∂b of a dense layer.
#[derive(Clone, Debug)]
pub struct Gradient<T> {
    /// Shape (inputs, units).
    pub weight: Array2<T>,
    /// Shape (units).
    pub bias: Array1<T>,
}

/// Everything a step needs besides the parameters, allocated once: the values each layer keeps
/// for its backward pass, the gradients, and the weights as the products read them.
pub struct Workspace<T> {
    weights: Vec<Option<PackedWeight<T>>>,
    blocks: Vec<Block<T>>,
    gradients: Vec<Gradient<T>>,
}

struct PackedWeight<T> {
    weight: Panels<T>,
    /// Wᵀ, where an earlier layer needs `dx`.
    transposed: Option<Panels<T>>,
}

/// Some rows of a batch on their way through the network.
struct Block<T> {
    rows: usize,
    labels: Vec<u8>,
    /// Input of layer `i` at `i`; the scores at the end. Shape (rows, width).
    values: Vec<Array2<T>>,
    /// The gradient of each of `values`.
    dvalues: Vec<Array2<T>>,
    /// `dy` of the dense layers.
    dy: Vec<Option<Panels<T>>>,
    result: StepLoss,
}

impl<T: Float> Workspace<T> {
    /// Room for steps of `network` on batches of up to `batch_size` rows.
    pub fn new(network: &Network<T>, batch_size: usize) -> Self {
        let blocks = blocks_of(batch_size);
        let first_dense = network.dense().next().map(|(index, _)| index);
        let packed = |(index, layer): (usize, &Layer<T>)| match layer {
            Layer::Dense(Dense { weight, .. }) => Some(PackedWeight {
                weight: Panels::zeros(weight.nrows(), weight.ncols()),
                transposed: (Some(index) != first_dense)
                    .then(|| Panels::zeros(weight.ncols(), weight.nrows())),
            }),
            Layer::Activation(_) => None,
        };
        Self {
            weights: network.layers().iter().enumerate().map(packed).collect(),
            blocks: (0..blocks).map(|_| Block::new(network, batch_size.div_ceil(blocks))).collect(),
            gradients: network
                .dense()
                .map(|(_, dense)| Gradient {
                    weight: Array2::zeros(dense.weight.dim()),
                    bias: Array1::zeros(dense.bias.dim()),
                })
                .collect(),
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
        self.pack(network, pool);
        let size = batch.rows.len();
        let result = self.for_each_block(batch, pool, |block, weights| {
            block.forward(network, weights);
            block.measure(loss);
            block.backward(network, weights, loss, size);
        });
        self.sum_gradients(network, pool);
        result
    }

    /// Loss and accuracy on a batch of any size, without gradients.
    pub fn evaluate(&mut self, network: &Network<T>, loss: &Loss, batch: Batch<T>, pool: &Pool) -> StepLoss {
        self.pack(network, pool);
        let capacity: usize = self.blocks.iter().map(Block::capacity).sum();
        let mut total = StepLoss::default();
        for rows in batch.rows.chunks(capacity) {
            let part = self.for_each_block(Batch { rows, ..batch }, pool, |block, weights| {
                block.forward(network, weights);
                block.measure(loss);
            });
            total.loss_sum += part.loss_sum;
            total.correct += part.correct;
        }
        total
    }

    /// The gradients of the last [`Self::backpropagate`], one for each dense layer.
    pub fn gradients(&self) -> &[Gradient<T>] {
        &self.gradients
    }

    /// Fraction of the outputs of each relu that were 0 for every row of the last batch, by layer.
    pub fn dead_fractions(&self, network: &Network<T>) -> Vec<Option<f64>> {
        network
            .layers()
            .iter()
            .enumerate()
            .map(|(index, layer)| match layer {
                Layer::Activation(super::Activation::Relu) => {
                    let width = self.blocks[0].values[index + 1].ncols();
                    let is_dead = |unit: &usize| self.blocks.iter().all(|block| block.is_dead(index, *unit));
                    Some((0..width).filter(is_dead).count() as f64 / width as f64)
                }
                _ => None,
            })
            .collect()
    }

    fn pack(&mut self, network: &Network<T>, pool: &Pool) {
        for (index, dense) in network.dense() {
            if let Some(packed) = &mut self.weights[index] {
                fill(&mut packed.weight, dense.weight.view(), pool);
                if let Some(transposed) = &mut packed.transposed {
                    fill(transposed, dense.weight.t(), pool);
                }
            }
        }
    }

    /// Spreads the rows of `batch` evenly over the blocks and lets the pool work on them.
    fn for_each_block(
        &mut self,
        batch: Batch<T>,
        pool: &Pool,
        work: impl Fn(&mut Block<T>, &[Option<PackedWeight<T>>]) + Sync,
    ) -> StepLoss {
        let rows_each = batch.rows.len().div_ceil(self.blocks.len());
        let weights = &self.weights;
        pool.for_each(&mut self.blocks, |index, block| {
            let first = (index * rows_each).min(batch.rows.len());
            let last = (first + rows_each).min(batch.rows.len());
            block.load(&batch, &batch.rows[first..last]);
            work(block, weights);
        });
        let mut total = StepLoss::default();
        for block in &self.blocks {
            total.loss_sum += block.result.loss_sum;
            total.correct += block.result.correct;
        }
        total
    }

    /// `dW = Σ xᵀ dy` and `db = Σ dy` over the blocks, first to last.
    fn sum_gradients(&mut self, network: &Network<T>, pool: &Pool) {
        let blocks = &self.blocks;
        for ((index, dense), gradient) in network.dense().zip(&mut self.gradients) {
            let units = dense.bias.len();
            let dweight = values_mut(&mut gradient.weight);
            pool.for_each_chunk([dweight], WEIGHT_ROWS * units, |chunk, [dweight]| {
                let rows = dweight.len() / units;
                let first = chunk * WEIGHT_ROWS;
                let Ok(dweight) = ndarray::ArrayViewMut2::from_shape((rows, units), dweight) else {
                    unreachable!("a chunk is whole rows of the weight");
                };
                let parts = blocks.iter().filter_map(|block| {
                    let x = block.values[index].slice(s![..block.rows, first..first + rows]);
                    Some((x, block.dy[index].as_ref()?))
                });
                Dense::backward_weight(parts, dweight);
            });
            gradient.bias.fill(T::zero());
            for block in blocks {
                let dy = block.dvalues[index + 1].slice(s![..block.rows, ..]);
                Dense::backward_bias(dy, gradient.bias.view_mut());
            }
        }
    }
}

/// Blocks that a batch is cut into, a function of its size alone: two at least, where it has the
/// rows, so that two cores have work.
fn blocks_of(batch_size: usize) -> usize {
    batch_size.div_ceil(BLOCK_ROWS).next_multiple_of(2).min(batch_size.div_ceil(4)).max(1)
}

fn fill<T: Float>(panels: &mut Panels<T>, matrix: ArrayView2<T>, pool: &Pool) {
    let length = panels.rows() * PANEL;
    pool.for_each_chunk([panels.values_mut()], length, |index, [panel]| fill_panel(panel, index, matrix));
}

impl<T: Float> Block<T> {
    fn new(network: &Network<T>, rows: usize) -> Self {
        let widths = || std::iter::once(network.inputs()).chain(network.widths());
        let matrices = || widths().map(|width| Array2::zeros((rows, width))).collect();
        Self {
            rows: 0,
            labels: Vec::with_capacity(rows),
            values: matrices(),
            dvalues: matrices(),
            dy: network
                .layers()
                .iter()
                .zip(network.widths())
                .map(|(layer, width)| matches!(layer, Layer::Dense(_)).then(|| Panels::zeros(rows, width)))
                .collect(),
            result: StepLoss::default(),
        }
    }

    fn capacity(&self) -> usize {
        self.values[0].nrows()
    }

    fn load(&mut self, batch: &Batch<T>, rows: &[u32]) {
        self.rows = rows.len();
        self.labels.clear();
        self.labels.extend(rows.iter().map(|&row| batch.labels[row as usize]));
        for (mut to, &row) in self.values[0].rows_mut().into_iter().zip(rows) {
            match batch.examples {
                Examples::Pixels(pixels) => {
                    let scale = T::one() / T::of(255.0);
                    let pixels = pixels.index_axis(Axis(0), row as usize);
                    vectorized(|| to.zip_mut_with(&pixels, |to, &pixel| *to = T::of_byte(pixel) * scale));
                }
                Examples::Values(values) => to.assign(&values.index_axis(Axis(0), row as usize)),
            }
        }
    }

    fn forward(&mut self, network: &Network<T>, weights: &[Option<PackedWeight<T>>]) {
        let n = self.rows;
        for (index, layer) in network.layers().iter().enumerate() {
            let (inputs, outputs) = self.values.split_at_mut(index + 1);
            let x = inputs[index].slice(s![..n, ..]);
            let y = outputs[0].slice_mut(s![..n, ..]);
            match (layer, &weights[index]) {
                (Layer::Dense(dense), Some(packed)) => dense.forward(x, &packed.weight, y),
                (Layer::Activation(activation), _) => vectorized(|| activation.forward(x, y)),
                (Layer::Dense(_), None) => unreachable!("every dense layer has a packed weight"),
            }
        }
    }

    fn scores(&self) -> ArrayView2<'_, T> {
        self.values[self.values.len() - 1].slice(s![..self.rows, ..])
    }

    fn measure(&mut self, loss: &Loss) {
        let scores = self.scores();
        let is_correct =
            |(row, label): &(ndarray::ArrayView1<T>, &u8)| argmax(row.iter()) == usize::from(**label);
        self.result = StepLoss {
            loss_sum: loss.forward(scores, &self.labels),
            correct: scores.rows().into_iter().zip(&self.labels).filter(is_correct).count(),
        };
    }

    fn backward(
        &mut self,
        network: &Network<T>,
        weights: &[Option<PackedWeight<T>>],
        loss: &Loss,
        batch_size: usize,
    ) {
        let n = self.rows;
        let rows = s![..n, ..];
        let last = self.values.len() - 1;
        loss.backward(
            self.values[last].slice(rows),
            &self.labels,
            batch_size,
            self.dvalues[last].slice_mut(rows),
        );
        for (index, layer) in network.layers().iter().enumerate().rev() {
            let (dinputs, doutputs) = self.dvalues.split_at_mut(index + 1);
            let dx = dinputs[index].slice_mut(rows);
            let dy = doutputs[0].slice(rows);
            match layer {
                Layer::Dense(_) => {
                    if let Some(panels) = &mut self.dy[index] {
                        panels.fill(dy);
                    }
                    match weights[index].as_ref().and_then(|packed| packed.transposed.as_ref()) {
                        Some(transposed) => Dense::backward_input(dy, transposed, dx),
                        None => return,
                    }
                }
                Layer::Activation(activation) => {
                    let y = self.values[index + 1].slice(rows);
                    vectorized(|| activation.backward(y, dy, dx));
                }
            }
        }
    }

    fn is_dead(&self, layer: usize, unit: usize) -> bool {
        self.values[layer + 1].slice(s![..self.rows, unit]).iter().all(|&value| value == T::zero())
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
