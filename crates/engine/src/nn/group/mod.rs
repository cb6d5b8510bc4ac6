mod gradients;
mod norm;
mod values;

use std::ops::Range;

use ndarray::{Array2, s};

pub(super) use self::gradients::{bias_gradient, weight_gradient};
pub(super) use self::norm::Norm;
use self::norm::{NormScratch, squares};
use self::values::{Chunk, Values};
use super::batch_norm::{Moments, NormSums, affine};
use super::conv_pool::ConvPool;
use super::conv2d::ConvScratch;
use super::kernel::{Panels, vectorized};
use super::packed::Packed;
use super::plan::{Op, Plan};
use super::rows::{all, all_mut, image, image_mut};
use super::sparse_layer::SparseLayer;
use super::workspace::{Gradient, StepLoss};
use super::{Activation, Batch, Float, Layer, Loss, Network, Shape, argmax};

/// What all groups read in a pass.
pub(super) struct Pass<'a, T> {
    pub plan: &'a Plan,
    pub network: &'a Network<T>,
    pub packed: &'a [Packed<T>],
    pub norms: &'a [Option<Norm<T>>],
    pub sparse: Option<&'a SparseLayer<T>>,
    pub loss: &'a Loss,
    pub batch: &'a Batch<'a, T>,
    /// Rows of the whole batch.
    pub size: usize,
}

/// What a layer needs in a group besides its input and output.
enum Scratch<T> {
    None,
    /// dy of all rows.
    Dense(Panels<T>),
    /// The gradient summed over the rows so far.
    Conv2d(ConvScratch<T>, Gradient<T>),
    /// The same, and where the largest of each square were.
    ConvPool(ConvPool<T>, Values<T>),
    /// Figures of this group's rows.
    BatchNorm(Box<NormScratch<T>>),
    /// The factors of the rows.
    Dropout(Values<T>),
    /// The largest output of each unit since the units are watched.
    Relu(Vec<T>),
}

impl<T: Float> Scratch<T> {
    fn memory_bytes(&self) -> usize {
        let numbers = match self {
            Self::None => 0,
            Self::Dense(dy) => dy.numbers(),
            Self::Conv2d(scratch, gradient) => {
                scratch.numbers() + gradient.weight.len() + gradient.bias.len()
            }
            Self::ConvPool(conv_pool, route) => {
                return conv_pool.memory_bytes() + route.array.len() * size_of::<T>();
            }
            Self::BatchNorm(norm) => norm.pool.as_ref().map_or(0, |(_, route)| route.array.len()),
            Self::Dropout(masks) => masks.array.len(),
            Self::Relu(largest) => largest.len(),
        };
        numbers * size_of::<T>()
    }

    /// Keeps the largest value of each channel of what came out of a relu, where units are watched.
    fn watch(&mut self, watches_units: bool, y: &[T]) {
        if let Self::Relu(largest) = self
            && watches_units
        {
            for y in y.chunks_exact(largest.len()) {
                largest.iter_mut().zip(y).for_each(|(largest, &y)| *largest = largest.max(y));
            }
        }
    }
}

/// Some rows of a batch on their way through the network.
pub(super) struct Group<T> {
    /// Its first row in the batch.
    first: usize,
    examples: Vec<u32>,
    labels: Vec<u16>,
    /// Input of layer `i` at `i`; the scores at the end.
    values: Vec<Values<T>>,
    /// The gradient of each of `values`.
    dvalues: Vec<Values<T>>,
    scratch: Vec<Scratch<T>>,
    watches_units: bool,
    result: StepLoss,
}

impl<T: Float> Group<T> {
    /// A group of `plan`.
    pub fn new(network: &Network<T>, plan: &Plan) -> Self {
        let (layers, rows) = (network.layers(), plan.rows);
        let is_dense = |layer: Option<&Layer<T>>| matches!(layer, Some(Layer::Dense(_)));
        let room = |width: usize, is_kept: bool| Values {
            array: Array2::zeros((if is_kept { rows } else { plan.chunk_rows }, width)),
            is_kept,
        };
        let none = || Values { array: Array2::zeros((0, 0)), is_kept: true };
        let is_in_sparse = |index: usize| plan.is_sparse && index <= plan.first;
        let inputs = |(index, shape): (usize, &Shape)| match is_in_sparse(index) || plan.is_inside(index) {
            true => none(),
            false => room(shape.len(), plan.is_kept(index) || is_dense(layers.get(index))),
        };
        let dinputs = |(index, shape): (usize, &Shape)| match index <= plan.first || plan.is_inside(index) {
            true => none(),
            false => room(shape.len(), plan.is_gradient_kept(index) || is_dense(layers.get(index - 1))),
        };
        let outputs = |index: usize| network.shapes()[index].len();
        let scratch = |(index, layer): (usize, &Layer<T>)| match layer {
            Layer::Dense(_) if is_in_sparse(index) => Scratch::None,
            Layer::Dense(dense) => Scratch::Dense(Panels::zeros(rows, dense.bias.len())),
            Layer::Conv2d(conv) if plan.ops.contains(&Op::ConvPool(index)) => Scratch::ConvPool(
                ConvPool::new(conv, plan.chunk_rows),
                room(outputs(index + 3), plan.is_kept(index + 3)),
            ),
            Layer::Conv2d(conv) => {
                Scratch::Conv2d(conv.scratch(), Gradient::zeros(index, &conv.weight, &conv.bias))
            }
            Layer::BatchNorm(norm) => {
                let pooling = match layers.get(index + 2) {
                    Some(Layer::Pooling(pooling)) if plan.ops.contains(&Op::NormPool(index)) => {
                        Some((Some(pooling.window), index + 3))
                    }
                    _ => plan.ops.contains(&Op::NormRelu(index)).then_some((None, index + 2)),
                };
                let pool = pooling.map(|(window, end)| {
                    (squares(network.shapes()[index], window), room(outputs(end), true))
                });
                let moments = || Moments::zeros(norm.channels());
                let sums = NormSums::zeros(norm.channels());
                Scratch::BatchNorm(Box::new(NormScratch { moments: moments(), chunk: moments(), sums, pool }))
            }
            Layer::Dropout(_) => Scratch::Dropout(room(outputs(index), plan.is_kept(index))),
            Layer::Activation(Activation::Relu) => {
                Scratch::Relu(vec![T::zero(); network.shapes()[index].channels])
            }
            Layer::Pooling(_) | Layer::Flatten | Layer::Activation(_) => Scratch::None,
        };
        Self {
            first: 0,
            examples: Vec::with_capacity(rows),
            labels: Vec::with_capacity(rows),
            values: network.shapes().iter().enumerate().map(inputs).collect(),
            dvalues: network.shapes().iter().enumerate().map(dinputs).collect(),
            scratch: layers.iter().enumerate().map(scratch).collect(),
            watches_units: false,
            result: StepLoss::default(),
        }
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        let values = self.values.iter().chain(&self.dvalues).map(|values| values.array.len()).sum::<usize>();
        values * size_of::<T>() + self.scratch.iter().map(Scratch::memory_bytes).sum::<usize>()
    }

    pub fn result(&self) -> StepLoss {
        self.result
    }

    /// Begins a pass with these examples, which are the batch's from `first` on.
    pub fn take(&mut self, first: usize, examples: &[u32]) {
        self.first = first;
        self.examples.clear();
        self.examples.extend_from_slice(examples);
        self.labels.clear();
        self.result = StepLoss::default();
        for scratch in &mut self.scratch {
            match scratch {
                Scratch::Conv2d(_, gradient) => {
                    gradient.weight.fill(T::zero());
                    gradient.bias.fill(T::zero());
                }
                Scratch::ConvPool(conv_pool, _) => conv_pool.clear(),
                Scratch::BatchNorm(norm) => {
                    norm.moments.clear();
                    norm.sums.clear();
                }
                _ => {}
            }
        }
    }

    pub fn for_each_chunk(&mut self, rows: usize, mut work: impl FnMut(&mut Self, Chunk)) {
        for first in (0..self.examples.len()).step_by(rows) {
            work(self, Chunk { first, count: rows.min(self.examples.len() - first) });
        }
    }

    pub fn load(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        self.labels.extend(examples.iter().map(|&example| pass.batch.labels[example as usize]));
        if pass.sparse.is_some() {
            return;
        }
        let mut rows = self.values[0].of_mut(chunk);
        pass.batch.for_each_ahead(examples, |row, example| {
            pass.batch.images.write(example, pass.batch.draw, image_mut(&mut rows, row));
        });
    }

    /// The values of `ops` from those before; `train` decides what dropout does.
    pub fn forward(&mut self, pass: &Pass<T>, ops: Range<usize>, chunk: Chunk, train: bool) {
        for op in &pass.plan.ops[ops] {
            let index = match *op {
                Op::Layer(index) => index,
                Op::ConvPool(index) => {
                    self.forward_conv_pool(pass, index, chunk);
                    continue;
                }
                Op::NormRelu(index) | Op::NormPool(index) => {
                    self.forward_norm_pool(pass, index, op.layers().end, chunk);
                    continue;
                }
            };
            if let Some(sparse) = pass.sparse
                && index <= sparse.index
            {
                if index == sparse.index {
                    sparse.write_y(self.first + chunk.first, &mut self.values[index + 1].of_mut(chunk));
                }
                continue;
            }
            let (inputs, outputs) = self.values.split_at_mut(index + 1);
            let x = inputs[index].of(chunk);
            let mut y = outputs[0].of_mut(chunk);
            let layer = &pass.network.layers()[index];
            match (layer, &mut self.scratch[index], &pass.norms[index]) {
                (Layer::Conv2d(_), Scratch::Conv2d(scratch, _), _) => {
                    layer.forward(&pass.packed[index], x, y, Some(scratch));
                }
                (Layer::BatchNorm(_), _, Some(norm)) => {
                    let (x, y) = (all(&x), all_mut(&mut y));
                    vectorized!(affine(x, &norm.scale, &norm.shift, y));
                }
                (Layer::Dropout(dropout), Scratch::Dropout(masks), _) if train => {
                    let mut masks = masks.of_mut(chunk);
                    for (row, mut mask) in masks.rows_mut().into_iter().enumerate() {
                        let example = self.examples[chunk.first + row];
                        if let Some(mask) = mask.as_slice_mut() {
                            dropout.mask(pass.batch.draw, index, example, mask);
                        }
                    }
                    ndarray::Zip::from(&mut y).and(x).and(&masks).for_each(|y, &x, &mask| *y = x * mask);
                }
                (_, scratch @ Scratch::Relu(_), _) => {
                    layer.forward(&pass.packed[index], x, y.view_mut(), None);
                    scratch.watch(self.watches_units, all(&y.view()));
                }
                _ => layer.forward(&pass.packed[index], x, y, None),
            }
        }
    }

    fn forward_conv_pool(&mut self, pass: &Pass<T>, index: usize, chunk: Chunk) {
        let (inputs, outputs) = self.values.split_at_mut(index + 3);
        let (x, mut y) = (inputs[index].of(chunk), outputs[0].of_mut(chunk));
        let (scratch, inner) = self.scratch.split_at_mut(index + 1);
        if let (Layer::Conv2d(conv), Packed::ConvPool { weight, .. }, Scratch::ConvPool(conv_pool, route)) =
            (&pass.network.layers()[index], &pass.packed[index], &mut scratch[index])
        {
            let mut route = route.of_mut(chunk);
            conv_pool.forward(conv, weight, all(&x), all_mut(&mut y), all_mut(&mut route));
        }
        inner[0].watch(self.watches_units, all(&y.view()));
    }

    fn backward_conv_pool(&mut self, pass: &Pass<T>, index: usize, chunk: Chunk) {
        let (dinputs, doutputs) = self.dvalues.split_at_mut(index + 3);
        let (x, y, dy) =
            (self.values[index].of(chunk), self.values[index + 3].of(chunk), doutputs[0].of(chunk));
        if let (
            Layer::Conv2d(conv),
            Packed::ConvPool { by_filter, .. },
            Scratch::ConvPool(conv_pool, route),
        ) = (&pass.network.layers()[index], &pass.packed[index], &mut self.scratch[index])
        {
            let route = route.of(chunk);
            let (y, route, dy) = (all(&y), all(&route), all(&dy));
            conv_pool.backward_parameters(conv, all(&x), y, route, dy);
            if let Some(by_filter) = by_filter {
                let mut dx = dinputs[index].of_mut(chunk);
                conv_pool.backward_input(conv, by_filter, [y, route, dy], all_mut(&mut dx));
            }
        }
    }

    /// Adds what the scores come to; with `backward` their gradient is then there.
    pub fn measure(&mut self, pass: &Pass<T>, chunk: Chunk, backward: bool) {
        let last = self.values.len() - 1;
        let scores = self.values[last].of(chunk);
        let labels = &self.labels[chunk.first..][..chunk.count];
        let rows = all(&scores).chunks_exact(scores.ncols()).zip(labels);
        self.result.correct += rows.filter(|(row, label)| argmax(row.iter()) == usize::from(**label)).count();
        self.result.loss_sum += match backward {
            true => pass.loss.backward(scores, labels, pass.size, self.dvalues[last].of_mut(chunk)),
            false => pass.loss.forward(scores, labels),
        };
    }

    /// The gradients of `ops` from those behind; a `batch_norm` at the front waits for the sums of all
    /// groups, see [`Self::backward_norm`].
    pub fn backward(&mut self, pass: &Pass<T>, ops: Range<usize>, chunk: Chunk) {
        for op in pass.plan.ops[ops].iter().rev() {
            let index = match *op {
                Op::Layer(index) => index,
                Op::ConvPool(index) => {
                    self.backward_conv_pool(pass, index, chunk);
                    continue;
                }
                Op::NormRelu(_) | Op::NormPool(_) => continue,
            };
            let layer = &pass.network.layers()[index];
            if index < pass.plan.first {
                return;
            }
            let (dinputs, doutputs) = self.dvalues.split_at_mut(index + 1);
            let dy = doutputs[0].of(chunk);
            if let (Layer::Conv2d(conv), Scratch::Conv2d(scratch, gradient)) =
                (layer, &mut self.scratch[index])
            {
                let x = self.values[index].of(chunk);
                for row in 0..chunk.count {
                    vectorized!({
                        conv.backward_parameters(image(&x, row), image(&dy, row), scratch, gradient)
                    });
                }
            }
            if index == pass.plan.first {
                return;
            }
            let mut dx = dinputs[index].of_mut(chunk);
            let (x, y) = (self.values[index].of(chunk), self.values[index + 1].of(chunk));
            match (layer, &mut self.scratch[index]) {
                (Layer::BatchNorm(_), _) => {}
                (Layer::Dropout(_), Scratch::Dropout(masks)) => {
                    let masks = masks.of(chunk);
                    ndarray::Zip::from(&mut dx).and(dy).and(masks).for_each(|dx, &dy, &mask| *dx = dy * mask);
                }
                (_, scratch) => {
                    let scratch = match scratch {
                        Scratch::Conv2d(scratch, _) => Some(scratch),
                        _ => None,
                    };
                    layer.backward_input(&pass.packed[index], [x, y, dy], dx, scratch);
                }
            }
        }
    }

    /// What all rows of the group come to in `ops`, once they are through.
    pub fn end_backward(&mut self, pass: &Pass<T>, ops: Range<usize>) {
        let rows = self.examples.len();
        for index in pass.plan.ops[ops].iter().flat_map(|op| op.layers()) {
            if let Scratch::Dense(panels) = &mut self.scratch[index] {
                let dy = self.dvalues[index + 1].array.slice(s![..rows, ..]);
                vectorized!(panels.fill(dy));
            }
        }
    }

    pub fn watch_units(&mut self, watch: bool) {
        self.watches_units = watch;
        for scratch in self.scratch.iter_mut().filter(|_| watch) {
            if let Scratch::Relu(largest) = scratch {
                largest.fill(T::zero());
            }
        }
    }

    /// Whether the unit of the relu at `index` was ever above 0 since units are watched.
    pub fn is_alive(&self, index: usize, unit: usize) -> bool {
        matches!(&self.scratch[index], Scratch::Relu(largest) if largest[unit] > T::zero())
    }
}
