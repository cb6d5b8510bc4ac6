use ndarray::{Array2, ArrayView2, Axis};

use super::kernel::Panels;
use super::{Float, Layer, Network, softmax};

/// Images that go through the layers together: what a prediction holds does not grow with its images.
const ROWS: usize = 256;

/// A network made ready to answer: its weights packed once, read by any number of threads.
#[derive(Debug)]
pub struct Predictor<T> {
    network: Network<T>,
    weights: Vec<Option<Panels<T>>>,
}

impl<T: Float> Predictor<T> {
    /// Packs the weights of `network`.
    pub fn new(network: Network<T>) -> Self {
        let packed = |layer: &Layer<T>| match layer {
            Layer::Dense(dense) => Some(Panels::of(dense.weight.view())),
            Layer::Activation(_) => None,
        };
        let weights = network.layers().iter().map(packed).collect();
        Self { network, weights }
    }

    /// The network.
    pub fn network(&self) -> &Network<T> {
        &self.network
    }

    /// The probability of each class: x (n, inputs) of pixel / 255, result (n, classes). An image
    /// gets the same bits alone or in a batch.
    pub fn probabilities(&self, x: ArrayView2<T>) -> Array2<T> {
        let mut probabilities = Array2::zeros((x.nrows(), self.network.outputs()));
        for (x, mut p) in
            x.axis_chunks_iter(Axis(0), ROWS).zip(probabilities.axis_chunks_iter_mut(Axis(0), ROWS))
        {
            p.assign(&self.of_some(x));
        }
        probabilities
    }

    fn of_some(&self, x: ArrayView2<T>) -> Array2<T> {
        let mut x = x.to_owned();
        for (layer, packed) in self.network.layers().iter().zip(&self.weights) {
            let width = packed.as_ref().map_or(x.ncols(), Panels::columns);
            let mut y = Array2::zeros((x.nrows(), width));
            match (layer, packed) {
                (Layer::Dense(dense), Some(packed)) => dense.forward(x.view(), packed, y.view_mut()),
                (Layer::Activation(activation), _) => activation.forward(x.view(), y.view_mut()),
                (Layer::Dense(_), None) => unreachable!("every dense layer has a packed weight"),
            }
            x = y;
        }
        softmax(x.view_mut());
        x
    }
}
