use ndarray::{ArrayView2, ArrayViewMut2};

use crate::nn::group::{Pass, Rows};
use crate::nn::kernel::Parts;
use crate::nn::plan::Plan;
use crate::nn::rows::all_mut;
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
        Activation::Relu.forward_into(x, y.view_mut());
        self.watch(pass, rows, all_mut(&mut y));
    }

    pub fn backward(values: [ArrayView2<T>; 3], dx: ArrayViewMut2<T>) {
        Activation::Relu.backward_into(values, dx);
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
