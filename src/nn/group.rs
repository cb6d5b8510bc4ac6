use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::batch_norm::{Moments, NormSums, affine};
use super::conv2d::ConvScratch;
use super::kernel::{Panels, vectorized};
use super::layer::{Packed, values};
use super::workspace::{Batch, Gradient, StepLoss};
use super::{Activation, BatchNorm, Float, Layer, Loss, Network, Shape, argmax};

/// Rows of a batch that one task carries forward and backward, where all layers are lists.
const GROUP_ROWS: usize = 32;

/// Groups of a batch of images, and images that go through the layers together: so few that what
/// passes from layer to layer stays in the cache of a core.
const IMAGE_GROUPS: usize = 8;
const CHUNK_IMAGES: usize = 4;

/// What all groups read in a pass.
pub(super) struct Pass<'a, T> {
    pub network: &'a Network<T>,
    pub packed: &'a [Packed<T>],
    pub norms: &'a [Option<Norm<T>>],
    pub loss: &'a Loss,
    pub batch: &'a Batch<'a, T>,
    /// Rows of the whole batch.
    pub size: usize,
}

/// What a `batch_norm` needs of the whole batch.
pub(super) struct Norm<T> {
    pub moments: Moments,
    sums: NormSums,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Float> Norm<T> {
    pub fn new(channels: usize) -> Self {
        Self {
            moments: Moments::zeros(channels),
            sums: NormSums::zeros(channels),
            scale: vec![T::zero(); channels],
            shift: vec![T::zero(); channels],
        }
    }

    /// From the moments of the groups, in order.
    pub fn settle<'a>(&mut self, layer: &BatchNorm<T>, moments: impl Iterator<Item = &'a Moments>) {
        self.moments.clear();
        moments.for_each(|moments| self.moments.merge(moments));
        layer.batch_affine(&self.moments, &mut self.scale, &mut self.shift);
    }

    /// From the running statistics.
    pub fn settle_running(&mut self, layer: &BatchNorm<T>) {
        let (scale, shift) = layer.affine();
        self.scale.copy_from_slice(values(&scale));
        self.shift.copy_from_slice(values(&shift));
    }

    /// From the sums of the groups, in order.
    pub fn add_sums<'a>(&mut self, sums: impl Iterator<Item = &'a NormSums>) {
        self.sums.clear();
        sums.for_each(|sums| self.sums.add(sums));
    }

    /// `dγ = Σ dy x̂`, `dβ = Σ dy`.
    pub fn gradient(&self, gradient: &mut Gradient<T>) {
        gradient.weight.iter_mut().zip(&self.sums.dy_x).for_each(|(to, &sum)| *to = T::of(sum));
        gradient.bias.iter_mut().zip(&self.sums.dy).for_each(|(to, &sum)| *to = T::of(sum));
    }
}

/// Some rows of a group.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    first: usize,
    count: usize,
}

/// Rows that go from layer to layer: those of one chunk, or those of the whole group where they are
/// needed later.
struct Values<T> {
    array: Array2<T>,
    is_kept: bool,
}

impl<T: Float> Values<T> {
    fn range(&self, chunk: Chunk) -> Range<usize> {
        let first = if self.is_kept { chunk.first } else { 0 };
        first..first + chunk.count
    }

    fn of(&self, chunk: Chunk) -> ArrayView2<'_, T> {
        self.array.slice(s![self.range(chunk), ..])
    }

    fn of_mut(&mut self, chunk: Chunk) -> ArrayViewMut2<'_, T> {
        let range = self.range(chunk);
        self.array.slice_mut(s![range, ..])
    }
}

/// What a layer needs in a group besides its input and output.
enum Scratch<T> {
    None,
    /// dy of all rows.
    Dense(Panels<T>),
    /// The gradient summed over the rows so far.
    Conv2d(ConvScratch<T>, Gradient<T>),
    /// Figures of this group's rows.
    BatchNorm(Moments, NormSums),
    /// The factors of the rows.
    Dropout(Values<T>),
    /// The largest output of each unit since the units are watched.
    Relu(Vec<T>),
}

/// Some rows of a batch on their way through the network.
pub(super) struct Group<T> {
    examples: Vec<u32>,
    labels: Vec<u8>,
    capacity: usize,
    chunk_rows: usize,
    /// Input of layer `i` at `i`; the scores at the end.
    values: Vec<Values<T>>,
    /// The gradient of each of `values`.
    dvalues: Vec<Values<T>>,
    scratch: Vec<Scratch<T>>,
    /// The first layer with parameters: no gradient is needed before it.
    first: usize,
    watches_units: bool,
    result: StepLoss,
}

impl<T: Float> Group<T> {
    /// The groups for batches of up to `batch_size` rows: how many is a function of the network and
    /// this size alone.
    pub fn deal(network: &Network<T>, batch_size: usize) -> Vec<Self> {
        let is_image =
            |layer: &Layer<T>| matches!(layer, Layer::Conv2d(_) | Layer::Pooling(_) | Layer::BatchNorm(_));
        let has_images = network.layers().iter().any(is_image);
        let quarters = batch_size.div_ceil(4).max(1);
        let count = if has_images {
            IMAGE_GROUPS.min(quarters)
        } else {
            // Two at least, so that two cores have work.
            batch_size.div_ceil(GROUP_ROWS).next_multiple_of(2).min(quarters)
        };
        let rows = batch_size.div_ceil(count);
        let chunk_rows = if has_images { CHUNK_IMAGES.min(rows) } else { rows };
        (0..count).map(|_| Self::new(network, rows, chunk_rows.max(1))).collect()
    }

    fn new(network: &Network<T>, rows: usize, chunk_rows: usize) -> Self {
        let layers = network.layers();
        let has_norm = layers.iter().any(|layer| matches!(layer, Layer::BatchNorm(_)));
        let is_dense = |layer: Option<&Layer<T>>| matches!(layer, Some(Layer::Dense(_)));
        let room = |width: usize, is_kept: bool| Values {
            array: Array2::zeros((if is_kept { rows } else { chunk_rows }, width)),
            is_kept,
        };
        let inputs =
            |(index, shape): (usize, &Shape)| room(shape.len(), has_norm || is_dense(layers.get(index)));
        let dinputs = |(index, shape): (usize, &Shape)| {
            room(shape.len(), has_norm || index > 0 && is_dense(layers.get(index - 1)))
        };
        let scratch = |(layer, output): (&Layer<T>, &Shape)| match layer {
            Layer::Dense(dense) => Scratch::Dense(Panels::zeros(rows, dense.bias.len())),
            Layer::Conv2d(conv) => Scratch::Conv2d(conv.scratch(), Gradient::zeros(&conv.weight, &conv.bias)),
            Layer::BatchNorm(norm) => {
                let channels = norm.channels();
                Scratch::BatchNorm(Moments::zeros(channels), NormSums::zeros(channels))
            }
            Layer::Dropout(_) => Scratch::Dropout(room(output.len(), has_norm)),
            Layer::Activation(Activation::Relu) => Scratch::Relu(vec![T::zero(); output.channels]),
            Layer::Pooling(_) | Layer::Flatten | Layer::Activation(_) => Scratch::None,
        };
        Self {
            examples: Vec::with_capacity(rows),
            labels: Vec::with_capacity(rows),
            capacity: rows,
            chunk_rows,
            values: network.shapes().iter().enumerate().map(inputs).collect(),
            dvalues: network.shapes().iter().enumerate().map(dinputs).collect(),
            scratch: layers.iter().zip(&network.shapes()[1..]).map(scratch).collect(),
            first: layers.iter().position(|layer| layer.parameters().is_some()).unwrap_or(layers.len()),
            watches_units: false,
            result: StepLoss::default(),
        }
    }

    /// Rows it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn result(&self) -> StepLoss {
        self.result
    }

    /// Begins a pass with these examples.
    pub fn take(&mut self, examples: &[u32]) {
        self.examples.clear();
        self.examples.extend_from_slice(examples);
        self.labels.clear();
        self.result = StepLoss::default();
        for scratch in &mut self.scratch {
            if let Scratch::Conv2d(_, gradient) = scratch {
                gradient.weight.fill(T::zero());
                gradient.bias.fill(T::zero());
            }
        }
    }

    pub fn for_each_chunk(&mut self, mut work: impl FnMut(&mut Self, Chunk)) {
        for first in (0..self.examples.len()).step_by(self.chunk_rows) {
            work(self, Chunk { first, count: self.chunk_rows.min(self.examples.len() - first) });
        }
    }

    pub fn load(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let examples = &self.examples[chunk.first..][..chunk.count];
        self.labels.extend(examples.iter().map(|&example| pass.batch.labels[example as usize]));
        for (mut row, &example) in self.values[0].of_mut(chunk).rows_mut().into_iter().zip(examples) {
            if let Some(image) = row.as_slice_mut() {
                pass.batch.images.write(example, pass.batch.draw, image);
            }
        }
    }

    /// The values of `layers` from those before; `train` decides what dropout does.
    pub fn forward(&mut self, pass: &Pass<T>, layers: Range<usize>, chunk: Chunk, train: bool) {
        for index in layers {
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
                    vectorized(|| affine(x, &norm.scale, &norm.shift, y));
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
                (_, Scratch::Relu(largest), _) => {
                    layer.forward(&pass.packed[index], x, y.view_mut(), None);
                    if self.watches_units {
                        for y in places(y.view(), largest.len()).rows() {
                            largest.iter_mut().zip(y).for_each(|(largest, &y)| *largest = largest.max(y));
                        }
                    }
                }
                _ => layer.forward(&pass.packed[index], x, y, None),
            }
        }
    }

    pub fn measure(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let scores = self.values[self.values.len() - 1].of(chunk);
        let labels = &self.labels[chunk.first..][..chunk.count];
        let is_correct =
            |(row, label): &(ndarray::ArrayView1<T>, &u8)| argmax(row.iter()) == usize::from(**label);
        self.result.loss_sum += pass.loss.forward(scores, labels);
        self.result.correct += scores.rows().into_iter().zip(labels).filter(is_correct).count();
    }

    /// The moments of the input of the `batch_norm` at `index`.
    pub fn measure_norm(&mut self, index: usize) {
        let x = self.values[index].array.slice(s![..self.examples.len(), ..]);
        if let Scratch::BatchNorm(moments, ..) = &mut self.scratch[index] {
            let x = all(&x);
            vectorized(|| moments.measure(x));
        }
    }

    /// The gradient of the scores.
    pub fn start_backward(&mut self, pass: &Pass<T>, chunk: Chunk) {
        let last = self.values.len() - 1;
        let labels = &self.labels[chunk.first..][..chunk.count];
        pass.loss.backward(self.values[last].of(chunk), labels, pass.size, self.dvalues[last].of_mut(chunk));
    }

    /// The gradients of `layers` from those behind; a `batch_norm` at the front waits for the sums of
    /// all groups, see [`Self::backward_norm`].
    pub fn backward(&mut self, pass: &Pass<T>, layers: Range<usize>, chunk: Chunk) {
        for index in layers.rev().take_while(|&index| index >= self.first) {
            let needs_dx = index > self.first;
            let (dinputs, doutputs) = self.dvalues.split_at_mut(index + 1);
            let mut dx = dinputs[index].of_mut(chunk);
            let dy = doutputs[0].of(chunk);
            let (x, y) = (self.values[index].of(chunk), self.values[index + 1].of(chunk));
            match (&pass.network.layers()[index], &mut self.scratch[index]) {
                (Layer::Dense(_), _) => {
                    if let Packed::Dense { transposed: Some(transposed), .. } = &pass.packed[index] {
                        super::Dense::backward_input(dy, transposed, dx);
                    }
                }
                (Layer::Conv2d(conv), Scratch::Conv2d(scratch, gradient)) => {
                    for row in 0..chunk.count {
                        let (x, dy) = (image(&x, row), image(&dy, row));
                        vectorized(|| conv.backward_parameters(x, dy, scratch, gradient));
                        if needs_dx
                            && let Packed::Conv2d { transposed: Some(transposed), .. } = &pass.packed[index]
                        {
                            conv.backward_input(dy, transposed, scratch, image_mut(&mut dx, row));
                        }
                    }
                }
                (Layer::BatchNorm(_), _) => {}
                (Layer::Pooling(pooling), _) => {
                    for row in 0..chunk.count {
                        vectorized(|| {
                            pooling.backward(
                                image(&x, row),
                                image(&y, row),
                                image(&dy, row),
                                image_mut(&mut dx, row),
                            );
                        });
                    }
                }
                (Layer::Dropout(_), Scratch::Dropout(masks)) => {
                    let masks = masks.of(chunk);
                    ndarray::Zip::from(&mut dx).and(dy).and(masks).for_each(|dx, &dy, &mask| *dx = dy * mask);
                }
                (Layer::Flatten, _) => dx.assign(&dy),
                (Layer::Activation(activation), _) => {
                    let (x, y, dy, dx) = (all(&x), all(&y), all(&dy), all_mut(&mut dx));
                    vectorized(|| activation.backward(x, y, dy, dx));
                }
                (layer, _) => unreachable!("{} has its own scratch", layer.name()),
            }
        }
    }

    /// The input gradient of the `batch_norm` at `index`, once the sums of all groups are there.
    pub fn backward_norm(&mut self, pass: &Pass<T>, index: usize, chunk: Chunk) {
        if index <= self.first {
            return;
        }
        let (dinputs, doutputs) = self.dvalues.split_at_mut(index + 1);
        let (x, dy) = (self.values[index].of(chunk), doutputs[0].of(chunk));
        let mut dx = dinputs[index].of_mut(chunk);
        if let (Layer::BatchNorm(layer), Some(norm)) = (&pass.network.layers()[index], &pass.norms[index]) {
            let (x, dy, dx) = (all(&x), all(&dy), all_mut(&mut dx));
            vectorized(|| layer.backward(x, dy, &norm.moments, &norm.sums, dx));
        }
    }

    /// What all rows of the group come to in `layers`, once they are through.
    pub fn end_backward(&mut self, pass: &Pass<T>, layers: Range<usize>) {
        let rows = self.examples.len();
        for index in layers {
            let dy = self.dvalues[index + 1]
                .array
                .slice(s![..rows.min(self.dvalues[index + 1].array.nrows()), ..]);
            match &mut self.scratch[index] {
                Scratch::Dense(panels) => vectorized(|| panels.fill(dy)),
                Scratch::BatchNorm(_, sums) => {
                    if let Some(norm) = &pass.norms[index] {
                        let x = self.values[index].array.slice(s![..rows, ..]);
                        let (x, dy) = (all(&x), all(&dy));
                        vectorized(|| sums.measure(x, dy, &norm.moments));
                    }
                }
                _ => {}
            }
        }
    }

    pub fn moments(&self, index: usize) -> Option<&Moments> {
        match &self.scratch[index] {
            Scratch::BatchNorm(moments, ..) => Some(moments),
            _ => None,
        }
    }

    pub fn sums(&self, index: usize) -> Option<&NormSums> {
        match &self.scratch[index] {
            Scratch::BatchNorm(_, sums) => Some(sums),
            _ => None,
        }
    }

    /// What the convolution at `index` has summed.
    pub fn gradient(&self, index: usize) -> Option<&Gradient<T>> {
        match &self.scratch[index] {
            Scratch::Conv2d(_, gradient) => Some(gradient),
            _ => None,
        }
    }

    /// The columns `columns` of the input, and dy, of the dense layer at `index`.
    pub fn dense_factors(
        &self,
        index: usize,
        columns: Range<usize>,
    ) -> Option<(ArrayView2<'_, T>, &Panels<T>)> {
        let x = self.values[index].array.slice(s![..self.examples.len(), columns]);
        match &self.scratch[index] {
            Scratch::Dense(dy) => Some((x, dy)),
            _ => None,
        }
    }

    /// dy of the dense layer at `index`.
    pub fn dy(&self, index: usize) -> ArrayView2<'_, T> {
        self.dvalues[index + 1].array.slice(s![..self.examples.len(), ..])
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

const ROW_ORDER: &str = "values are in row order";

/// (rows · places, channels) of (rows, places · channels).
fn places<T>(values: ArrayView2<T>, channels: usize) -> ArrayView2<T> {
    let rows = values.len() / channels;
    values.into_shape_with_order((rows, channels)).expect(ROW_ORDER)
}

fn image<'a, T>(values: &ArrayView2<'a, T>, row: usize) -> &'a [T] {
    values.slice_move(s![row, ..]).to_slice().expect(ROW_ORDER)
}

fn image_mut<'a, T>(values: &'a mut ArrayViewMut2<T>, row: usize) -> &'a mut [T] {
    values.slice_mut(s![row, ..]).into_slice().expect(ROW_ORDER)
}

fn all<'a, T>(values: &ArrayView2<'a, T>) -> &'a [T] {
    values.to_slice().expect(ROW_ORDER)
}

fn all_mut<'a, T>(values: &'a mut ArrayViewMut2<T>) -> &'a mut [T] {
    values.as_slice_mut().expect(ROW_ORDER)
}

/// One layer at inference, for any rows.
impl<T: Float> Layer<T> {
    /// `y = f(x)`: x (rows, inputs), y (rows, outputs).
    pub(super) fn forward(
        &self,
        packed: &Packed<T>,
        x: ArrayView2<T>,
        mut y: ArrayViewMut2<T>,
        scratch: Option<&mut ConvScratch<T>>,
    ) {
        match (self, packed, scratch) {
            (Self::Dense(dense), Packed::Dense { weight, .. }, _) => dense.forward(x, weight, y),
            (Self::Conv2d(conv), Packed::Conv2d { weight, .. }, Some(scratch)) => {
                for row in 0..x.nrows() {
                    let (x, y) = (image(&x, row), image_mut(&mut y, row));
                    vectorized(|| conv.forward(x, weight, scratch, y));
                }
            }
            (Self::BatchNorm(norm), ..) => {
                let (scale, shift) = norm.affine();
                affine(all(&x), values(&scale), values(&shift), all_mut(&mut y));
            }
            (Self::Pooling(pooling), ..) => {
                for row in 0..x.nrows() {
                    vectorized(|| pooling.forward(image(&x, row), image_mut(&mut y, row)));
                }
            }
            (Self::Dropout(_) | Self::Flatten, ..) => y.assign(&x),
            (Self::Activation(activation), ..) => {
                let (x, y) = (all(&x), all_mut(&mut y));
                vectorized(|| activation.forward(x, y));
            }
            (Self::Dense(_) | Self::Conv2d(_), ..) => unreachable!("{} has its weight packed", self.name()),
        }
    }
}
