use ndarray::{ArrayView2, ArrayViewMut2};

use super::conv_pool::routed;
use super::moments::{self, Moments, NormSums, affine};
use super::relu::Relu;
use super::{GradientSum, batch_norm, relu};
use crate::nn::group::{BufferSize, Pass, Rows, Values};
use crate::nn::kernel::{
    Instructions, Parts, Squares, affine_relu_pool, routed_backward, routed_sums, vectorized,
};
use crate::nn::layer::values;
use crate::nn::plan::{OpKind, Plan, PlanOp};
use crate::nn::rows::{all, all_mut, image, image_mut};
use crate::nn::shape::Window;
use crate::nn::{Float, Layer, Network, Shape};

/// A `batch_norm`, alone or fused with the relu, or the relu and max-pool, after it.
///
/// Both passes need sums over the whole batch: the moments of x in the forward pass, and the sums of dy in the backward
/// pass. Each group first sums its own rows. The sums of the groups are then merged in order.
pub(in crate::nn) struct NormOperation<T> {
    layer: usize,
    batch: BatchStatistics<T>,
    parts: Parts<NormPart<T>>,
    fused: Option<Fused<T>>,
}

/// Statistics of the whole batch.
struct BatchStatistics<T> {
    moments: Moments,
    sums: NormSums,
    /// Forward: `y = scale x + shift`.
    scale: Vec<T>,
    shift: Vec<T>,
    mean: Vec<T>,
    /// Coefficients of the backward pass, see [`BatchNorm::slopes`](crate::nn::BatchNorm::slopes).
    slopes: [Vec<T>; 3],
}

/// The buffers of a group.
struct NormPart<T> {
    /// The moments of all rows so far.
    moments: Moments,
    /// The moments of one chunk.
    chunk: Moments,
    sums: NormSums,
    /// The corner of each square that holds the largest value.
    route: Values<T>,
}

/// The relu, and the squares that are pooled.
struct Fused<T> {
    relu: Relu<T>,
    squares: Squares,
}

fn route_size(plan: &Plan, op: &PlanOp) -> BufferSize {
    match op.kind {
        OpKind::NormRelu(_) => plan.buffer_size(op.output.len(), true),
        _ => BufferSize::NONE,
    }
}

pub(super) fn numbers_of(plan: &Plan, op: &PlanOp) -> f64 {
    match op.kind {
        OpKind::NormRelu(_) => {
            plan.groups as f64 * route_size(plan, op).numbers() + relu::numbers_of(plan, op.output)
        }
        _ => 0.0,
    }
}

impl<T: Float> NormOperation<T> {
    pub fn new(plan: &Plan, op: &PlanOp) -> Self {
        let (layer, channels) = (op.layers.start, op.input.channels);
        let moments = || Moments::zeros(channels);
        let zeros = || vec![T::zero(); channels];
        let fused = match op.kind {
            OpKind::NormRelu(window) => Some(Fused {
                relu: Relu::new(plan, layer + 1, op.output),
                squares: squares(op.input, window),
            }),
            _ => None,
        };
        let part = || NormPart {
            moments: moments(),
            chunk: moments(),
            sums: NormSums::zeros(channels),
            route: Values::zeros(route_size(plan, op)),
        };
        let batch = BatchStatistics {
            moments: moments(),
            sums: NormSums::zeros(channels),
            scale: zeros(),
            shift: zeros(),
            mean: zeros(),
            slopes: [zeros(), zeros(), zeros()],
        };
        Self { layer, batch, parts: Parts::new(plan.groups, part), fused }
    }

    pub fn relu(&self) -> Option<&Relu<T>> {
        self.fused.as_ref().map(|fused| &fused.relu)
    }

    pub fn forget_units(&mut self) {
        if let Some(fused) = &mut self.fused {
            fused.relu.forget_units();
        }
    }

    pub fn begin(&mut self) {
        for part in self.parts.iter_mut() {
            part.moments.clear();
            part.sums.clear();
        }
    }

    /// Adds some rows of x to the moments of the group.
    pub fn measure(&self, rows: Rows, x: ArrayView2<T>) {
        let NormPart { moments, chunk, .. } = &mut *self.parts.take(rows.group);
        let x = all(&x);
        vectorized!(chunk.measure(x));
        moments.merge(chunk);
    }

    /// Merges the moments of the groups in order, and computes scale and shift.
    pub fn settle(&mut self, network: &Network<T>) {
        let BatchStatistics { moments, scale, shift, mean, .. } = &mut self.batch;
        moments.clear();
        self.parts.iter_mut().for_each(|part| moments.merge(&part.moments));
        batch_norm(network, self.layer).batch_affine(moments, scale, shift);
        mean.iter_mut().zip(&moments.mean).for_each(|(to, &mean)| *to = T::of(mean));
    }

    /// Computes scale and shift from the running statistics.
    pub fn settle_running(&mut self, network: &Network<T>) {
        let (scale, shift) = batch_norm(network, self.layer).affine();
        self.batch.scale.copy_from_slice(values(&scale));
        self.batch.shift.copy_from_slice(values(&shift));
    }

    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        let BatchStatistics { scale, shift, .. } = &self.batch;
        let Some(Fused { relu, squares }) = &self.fused else {
            let (x, y) = (all(&x), all_mut(&mut y));
            vectorized!(affine(x, scale, shift, y));
            return;
        };
        let mut part = self.parts.take(rows.group);
        let mut route = part.route.of_mut(rows.chunk);
        for row in 0..x.nrows() {
            let (x, y, route) = (image(&x, row), image_mut(&mut y, row), image_mut(&mut route, row));
            affine_relu_pool(Instructions::best(), squares, x, [scale, shift], y, route);
        }
        relu.watch(pass, rows, all_mut(&mut y));
    }

    /// Adds some rows to the sums of the group, after their dy is known.
    pub fn measure_gradient(&self, rows: Rows, [x, y, dy]: [ArrayView2<T>; 3]) {
        let BatchStatistics { moments, mean, .. } = &self.batch;
        let NormPart { sums, route, .. } = &mut *self.parts.take(rows.group);
        let Some(Fused { squares, .. }) = &self.fused else {
            let (x, dy) = (all(&x), all(&dy));
            vectorized!(sums.measure(x, dy, moments));
            return;
        };
        let route = route.of(rows.chunk);
        let images = routed(dy.ncols(), all(&y), all(&route), all(&dy));
        for (row, routed) in images.enumerate() {
            let add = |channel, dy, dy_x| sums.add_channel(channel, dy, dy_x, moments);
            routed_sums(Instructions::best(), squares, image(&x, row), mean, routed, add);
        }
    }

    /// Adds the sums of the groups in order, and computes the coefficients of the backward pass.
    pub fn settle_gradient(&mut self, network: &Network<T>) {
        let BatchStatistics { moments, sums, slopes, .. } = &mut self.batch;
        sums.clear();
        self.parts.iter_mut().for_each(|part| sums.add(&part.sums));
        batch_norm(network, self.layer).slopes(moments, sums, slopes);
    }

    /// Computes dx, after [`Self::settle_gradient`].
    pub fn backward(&self, rows: Rows, [x, y, dy]: [ArrayView2<T>; 3], mut dx: ArrayViewMut2<T>) {
        let slopes = self.batch.slopes.each_ref().map(Vec::as_slice);
        let Some(Fused { squares, .. }) = &self.fused else {
            let (x, dy, dx) = (all(&x), all(&dy), all_mut(&mut dx));
            vectorized!(moments::backward(slopes, x, dy, dx));
            return;
        };
        let part = self.parts.take(rows.group);
        let route = part.route.of(rows.chunk);
        let images = routed(dy.ncols(), all(&y), all(&route), all(&dy));
        for (row, routed) in images.enumerate() {
            let (x, dx) = (image(&x, row), image_mut(&mut dx, row));
            routed_backward(Instructions::best(), squares, x, slopes, routed, dx);
        }
    }

    /// Moves the running statistics towards the moments of the batch.
    pub fn track(&self, network: &mut Network<T>) {
        let Layer::BatchNorm(norm) = &mut network.layers_mut()[self.layer] else {
            panic!("layer {} is not the batch_norm that the workspace was created for", self.layer)
        };
        norm.track(&self.batch.moments);
    }

    /// The gradient: dγ = Σ dy x̂ and dβ = Σ dy.
    pub fn gradient(&mut self) -> GradientSum<'_, T> {
        GradientSum::BatchNorm(&self.batch.sums)
    }
}

/// The squares of an image of shape `input` that are pooled. Without a `window`, each pixel is a square.
fn squares(input: Shape, window: Option<Window>) -> Squares {
    match window {
        Some(window) => Squares::new(window.places().collect(), window.taps().collect()),
        None => Squares::new((0..input.places()).map(|place| place * input.channels).collect(), vec![0]),
    }
}
