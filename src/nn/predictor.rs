use ndarray::{Array2, ArrayView2, Axis};

use super::layer::Packed;
use super::{Float, Layer, Network, softmax};

/// Numbers of a layer that are held at a time: what a prediction takes does not grow with its images.
const NUMBERS: usize = 1 << 18;

/// Images that go through the layers together, at most.
const ROWS: usize = 256;

/// A network made ready to answer: `batch_norm` folded away where it can be, the weights packed once,
/// read by any number of threads.
#[derive(Debug)]
pub struct Predictor<T> {
    network: Network<T>,
    folded: Network<T>,
    packed: Vec<Packed<T>>,
    rows: usize,
}

impl<T: Float> Predictor<T> {
    /// Packs the weights of `network`.
    pub fn new(network: Network<T>) -> Self {
        let folded = network.folded();
        let packed = |layer: &Layer<T>| {
            let mut packed = Packed::room(layer, false);
            packed.fill(layer);
            packed
        };
        let widest = folded.shapes().iter().map(|shape| shape.len()).max().unwrap_or(1);
        Self {
            packed: folded.layers().iter().map(packed).collect(),
            rows: (NUMBERS / widest).clamp(1, ROWS),
            network,
            folded,
        }
    }

    /// The network.
    pub fn network(&self) -> &Network<T> {
        &self.network
    }

    /// Bytes of its weights: as they are, folded, and as products read them.
    pub fn memory_bytes(&self) -> usize {
        let numbers =
            2 * self.network.parameter_count() + self.packed.iter().map(Packed::numbers).sum::<usize>();
        numbers * size_of::<T>()
    }

    /// The probability of each class: x (n, inputs) of pixel / 255, result (n, classes). An image
    /// gets the same bits alone or in a batch.
    pub fn probabilities(&self, x: ArrayView2<T>) -> Array2<T> {
        let mut probabilities = Array2::zeros((x.nrows(), self.network.outputs()));
        let parts = x.axis_chunks_iter(Axis(0), self.rows);
        for (x, mut p) in parts.zip(probabilities.axis_chunks_iter_mut(Axis(0), self.rows)) {
            p.assign(&self.scores(x));
            softmax(p);
        }
        probabilities
    }

    fn scores(&self, x: ArrayView2<T>) -> Array2<T> {
        let mut x = x.to_owned();
        for ((layer, packed), shape) in
            self.folded.layers().iter().zip(&self.packed).zip(&self.folded.shapes()[1..])
        {
            let mut y = Array2::zeros((x.nrows(), shape.len()));
            let mut scratch = match layer {
                Layer::Conv2d(conv) => Some(conv.scratch()),
                _ => None,
            };
            layer.forward(packed, x.view(), y.view_mut(), scratch.as_mut());
            x = y;
        }
        x
    }
}
