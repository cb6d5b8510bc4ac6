use ndarray::{ArrayView2, ArrayViewMut2};

use crate::nn::group::{Pass, Rows};
use crate::nn::kernel::{Parts, vectorized};
use crate::nn::plan::Plan;
use crate::nn::rows::{all, all_mut};
use crate::nn::{Activation, Float, Shape};

/// A `relu` that can record which of its units are ever above 0.
pub(in crate::nn) struct Relu<T> {
    /// Index of the layer in the network.
    pub layer: usize,
    /// The largest output of each unit since recording began.
    largest: Parts<Vec<T>>,
}

pub(super) fn numbers_of(plan: &Plan, output: Shape) -> f64 {
    plan.groups as f64 * output.channels as f64
}

impl<T: Float> Relu<T> {
    pub fn new(plan: &Plan, layer: usize, output: Shape) -> Self {
        Self { layer, largest: Parts::new(plan.groups, || vec![T::zero(); output.channels]) }
    }

    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        let (x, y) = (all(&x), all_mut(&mut y));
        vectorized!(Activation::Relu.forward(x, y));
        self.watch(pass, rows, y);
    }

    pub fn backward([x, y, dy]: [ArrayView2<T>; 3], mut dx: ArrayViewMut2<T>) {
        let (x, y, dy, dx) = (all(&x), all(&y), all(&dy), all_mut(&mut dx));
        vectorized!(Activation::Relu.backward(x, y, dy, dx));
    }

    /// Records the largest value of each unit, if the units are watched.
    pub fn watch(&self, pass: &Pass<T>, rows: Rows, y: &[T]) {
        if pass.is_watching {
            let mut largest = self.largest.take(rows.group);
            for y in y.chunks_exact(largest.len()) {
                largest.iter_mut().zip(y).for_each(|(largest, &y)| *largest = largest.max(y));
            }
        }
    }

    /// Discards all recorded values.
    pub fn forget_units(&mut self) {
        self.largest.iter_mut().for_each(|largest| largest.fill(T::zero()));
    }

    /// Whether a unit was ever above 0 since recording began.
    pub fn is_alive(&self, unit: usize) -> bool {
        (0..self.largest.count()).any(|group| self.largest.take(group)[unit] > T::zero())
    }
}
