use super::values::{Chunk, Values};
use super::{Group, Pass, Scratch};
use crate::nn::batch_norm::{Moments, NormSums};
use crate::nn::conv_pool::routed;
use crate::nn::kernel::{Instructions, Squares, affine_relu_pool, routed_backward, routed_sums, vectorized};
use crate::nn::layer::values;
use crate::nn::plan::Op;
use crate::nn::rows::{all, all_mut, image, image_mut};
use crate::nn::shape::Window;
use crate::nn::{BatchNorm, Float, Shape};

/// What a `batch_norm` needs of the whole batch.
pub(in crate::nn) struct Norm<T> {
    pub moments: Moments,
    pub(super) sums: NormSums,
    /// Forward: `y = scale x + shift`.
    pub(super) scale: Vec<T>,
    pub(super) shift: Vec<T>,
    mean: Vec<T>,
    /// Backward, see [`BatchNorm::slopes`].
    slopes: [Vec<T>; 3],
}

impl<T: Float> Norm<T> {
    pub fn new(channels: usize) -> Self {
        let zeros = || vec![T::zero(); channels];
        Self {
            moments: Moments::zeros(channels),
            sums: NormSums::zeros(channels),
            scale: zeros(),
            shift: zeros(),
            mean: zeros(),
            slopes: [zeros(), zeros(), zeros()],
        }
    }

    /// From the moments of the groups, in order.
    pub fn settle<'a>(&mut self, layer: &BatchNorm<T>, moments: impl Iterator<Item = &'a Moments>) {
        self.moments.clear();
        moments.for_each(|moments| self.moments.merge(moments));
        layer.batch_affine(&self.moments, &mut self.scale, &mut self.shift);
        self.mean.iter_mut().zip(&self.moments.mean).for_each(|(to, &mean)| *to = T::of(mean));
    }

    /// From the running statistics.
    pub fn settle_running(&mut self, layer: &BatchNorm<T>) {
        let (scale, shift) = layer.affine();
        self.scale.copy_from_slice(values(&scale));
        self.shift.copy_from_slice(values(&shift));
    }

    /// From the sums of the groups, in order.
    pub fn add_sums<'a>(&mut self, layer: &BatchNorm<T>, sums: impl Iterator<Item = &'a NormSums>) {
        self.sums.clear();
        sums.for_each(|sums| self.sums.add(sums));
        layer.slopes(&self.moments, &self.sums, &mut self.slopes);
    }

    fn slopes(&self) -> [&[T]; 3] {
        self.slopes.each_ref().map(Vec::as_slice)
    }

    /// `dγ = Σ dy x̂`.
    pub fn weight_gradient(&self, dweight: &mut [T]) {
        dweight.iter_mut().zip(&self.sums.dy_x).for_each(|(to, &sum)| *to = T::of(sum));
    }

    /// `dβ = Σ dy`.
    pub fn bias_gradient(&self, dbias: &mut [T]) {
        dbias.iter_mut().zip(&self.sums.dy).for_each(|(to, &sum)| *to = T::of(sum));
    }
}

/// What a `batch_norm` needs in a group.
pub(super) struct NormScratch<T> {
    /// Of all rows so far, and of those of one chunk.
    pub moments: Moments,
    pub chunk: Moments,
    pub sums: NormSums,
    /// With the relu and pooling behind it, where they are one with it, and where the largest of each
    /// square were.
    pub pool: Option<(Squares, Values<T>)>,
}

/// The layers that begin with a `batch_norm`.
impl<T: Float> Group<T> {
    pub(super) fn forward_norm_pool(&mut self, pass: &Pass<T>, index: usize, end: usize, chunk: Chunk) {
        let (inputs, outputs) = self.values.split_at_mut(end);
        let (x, mut y) = (inputs[index].of(chunk), outputs[0].of_mut(chunk));
        let (scratch, inner) = self.scratch.split_at_mut(index + 1);
        if let (Scratch::BatchNorm(scratch), Some(norm)) = (&mut scratch[index], &pass.norms[index])
            && let Some((pool, route)) = &mut scratch.pool
        {
            let mut route = route.of_mut(chunk);
            for row in 0..chunk.count {
                let (x, y, route) = (image(&x, row), image_mut(&mut y, row), image_mut(&mut route, row));
                affine_relu_pool(Instructions::best(), pool, x, [&norm.scale, &norm.shift], y, route);
            }
        }
        inner[0].watch(self.watches_units, all(&y.view()));
    }

    /// Adds the chunk to the moments of the input of the `batch_norm` at `index`.
    pub fn measure_norm(&mut self, index: usize, chunk: Chunk) {
        let x = self.values[index].of(chunk);
        if let Scratch::BatchNorm(norm) = &mut self.scratch[index] {
            let x = all(&x);
            vectorized!(norm.chunk.measure(x));
            norm.moments.merge(&norm.chunk);
        }
    }

    /// Adds the chunk to the sums of the `op` that begins with a `batch_norm`, once its dy is there.
    pub fn measure_gradient(&mut self, pass: &Pass<T>, op: Op, chunk: Chunk) {
        let layers = op.layers();
        let (x, dy) = (self.values[layers.start].of(chunk), self.dvalues[layers.end].of(chunk));
        let (Scratch::BatchNorm(scratch), Some(norm)) =
            (&mut self.scratch[layers.start], &pass.norms[layers.start])
        else {
            return;
        };
        match &scratch.pool {
            Some((pool, route)) => {
                let (y, route) = (self.values[layers.end].of(chunk), route.of(chunk));
                let images = routed(dy.ncols(), all(&y), all(&route), all(&dy));
                for (row, routed) in images.enumerate() {
                    let sums = |channel, dy, dy_x| {
                        scratch.sums.add_channel(channel, dy, dy_x, &norm.moments);
                    };
                    routed_sums(Instructions::best(), pool, image(&x, row), &norm.mean, routed, sums);
                }
            }
            None => {
                let (x, dy) = (all(&x), all(&dy));
                vectorized!(scratch.sums.measure(x, dy, &norm.moments));
            }
        }
    }

    /// The input gradient of the `op` that begins with a `batch_norm`, once the sums of all groups are
    /// there.
    pub fn backward_norm(&mut self, pass: &Pass<T>, op: Op, chunk: Chunk) {
        let layers = op.layers();
        let index = layers.start;
        if index <= pass.plan.first {
            return;
        }
        let (dinputs, doutputs) = self.dvalues.split_at_mut(layers.end);
        let (x, dy) = (self.values[index].of(chunk), doutputs[0].of(chunk));
        let mut dx = dinputs[index].of_mut(chunk);
        let (Some(norm), Scratch::BatchNorm(scratch)) = (&pass.norms[index], &self.scratch[index]) else {
            return;
        };
        match &scratch.pool {
            Some((pool, route)) => {
                let (y, route) = (self.values[layers.end].of(chunk), route.of(chunk));
                let images = routed(dy.ncols(), all(&y), all(&route), all(&dy));
                for (row, routed) in images.enumerate() {
                    let (x, dx) = (image(&x, row), image_mut(&mut dx, row));
                    routed_backward(Instructions::best(), pool, x, norm.slopes(), routed, dx);
                }
            }
            None => {
                let (x, dy, dx) = (all(&x), all(&dy), all_mut(&mut dx));
                vectorized!(BatchNorm::backward(norm.slopes(), x, dy, dx));
            }
        }
    }

    pub fn moments(&self, index: usize) -> Option<&Moments> {
        match &self.scratch[index] {
            Scratch::BatchNorm(norm) => Some(&norm.moments),
            _ => None,
        }
    }

    pub fn sums(&self, index: usize) -> Option<&NormSums> {
        match &self.scratch[index] {
            Scratch::BatchNorm(norm) => Some(&norm.sums),
            _ => None,
        }
    }
}

/// The squares of an image of shape `input` that is pooled through `window`, or not pooled.
pub(super) fn squares(input: Shape, window: Option<Window>) -> Squares {
    match window {
        Some(window) => Squares::new(window.places().collect(), window.taps().collect()),
        None => Squares::new((0..input.places()).map(|place| place * input.channels).collect(), vec![0]),
    }
}
