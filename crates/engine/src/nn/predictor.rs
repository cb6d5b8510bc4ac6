use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray};

use super::kernel::{Instructions, NonzeroBits, Panels, sparse_matmul, vectorized};
use super::layer::values;
use super::packed::{Packed, PackedDense};
use super::plan::SPARSE_MAX;
use super::rows::{all, all_mut, filled};
use super::{Layer, Network, ThreadPool, softmax};

/// Limits how many values of a layer are in memory at once, so that memory does not grow with the number of images.
const NUMBERS: usize = 1 << 18;

/// Largest number of images that pass through the layers together.
const ROWS: usize = 64;

/// Number of copies of an image that a convolution holds: padded, and packed for a product.
const CONVOLUTION_COPIES: usize = 3;

/// A network prepared for inference: `batch_norm` is folded into the layer before it if possible, and the weights are
/// packed once. It can be used by any number of threads.
#[derive(Debug)]
pub struct Predictor {
    network: Network<f32>,
    folded: Network<f32>,
    packed: Vec<Packed<f32>>,
    rows: usize,
    memory_bytes: usize,
    multiplications: f64,
}

impl Predictor {
    /// Packs the weights of `network`.
    pub fn new(network: Network<f32>) -> Self {
        let folded = network.folded();
        let widest = folded.shapes().iter().map(|shape| shape.len()).max().unwrap_or(1);
        let packed = folded.layers().iter().map(|layer| layer.kind().numbers_packed(false));
        let numbers = 2 * network.parameter_count() + packed.sum::<f64>() as usize;
        let layers = folded.layers().iter().zip(&folded.shapes()[1..]);
        Self {
            packed: folded.layers().iter().map(|layer| layer.packed(false)).collect(),
            rows: (NUMBERS / widest).clamp(1, ROWS),
            memory_bytes: numbers * size_of::<f32>(),
            multiplications: layers.map(|(layer, &output)| layer.kind().products(output)).sum(),
            network,
            folded,
        }
    }

    /// The original network.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    /// Bytes of the weights: original, folded and packed.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Number of multiplications with weights, per image.
    pub fn multiplications(&self) -> f64 {
        self.multiplications
    }

    /// Upper bound of the bytes that `threads` threads need for the values between the layers.
    pub fn working_bytes(&self, images: usize, threads: usize) -> usize {
        let widest = self.folded.shapes().iter().map(|shape| shape.len()).max().unwrap_or(1);
        let parts = images.div_ceil(self.rows).clamp(1, threads);
        // Input and output of a layer, and the copies of one image in a convolution.
        parts * (2 * images.min(self.rows) + CONVOLUTION_COPIES) * widest * size_of::<f32>()
    }

    /// Upper bound of the bytes of [`Self::scores_on`] with `threads` threads, including its result.
    pub fn scores_bytes(&self, images: usize, threads: usize) -> usize {
        let parts = images.div_ceil(self.rows).clamp(1, threads);
        let pixels = parts * images.min(self.rows) * self.network.input().len();
        self.working_bytes(images, threads) + (pixels + images * self.network.outputs()) * size_of::<f32>()
    }

    /// The probability of each class, of shape (n, classes). x (n, inputs) has values from 0 to 1. The result for an
    /// image is the same bit for bit, alone or in a batch.
    pub fn probabilities(&self, x: ArrayView2<f32>) -> Array2<f32> {
        let mut probabilities = Array2::zeros((x.nrows(), self.network.outputs()));
        self.parts(&x, &mut probabilities).for_each(|(x, p)| self.write_probabilities(x, p));
        probabilities
    }

    /// [`Self::probabilities`] on the threads of `pool`, if there are enough images.
    pub fn probabilities_on(&self, pool: &ThreadPool, x: ArrayView2<f32>) -> Array2<f32> {
        if x.nrows() <= self.rows {
            return self.probabilities(x);
        }
        let mut probabilities = Array2::zeros((x.nrows(), self.network.outputs()));
        pool.for_each(self.parts(&x, &mut probabilities), |(x, p)| self.write_probabilities(x, p));
        probabilities
    }

    /// The score of each class before the softmax, of shape (n, classes), on the threads of `pool`. Images (n, inputs)
    /// have pixels from 0 to 255. The softmax of the scores is [`Self::probabilities`], bit for bit.
    pub fn scores_on(&self, pool: &ThreadPool, images: ArrayView2<u8>) -> Array2<f32> {
        let mut scores = Array2::zeros((images.nrows(), self.network.outputs()));
        let parts = images.axis_chunks_iter(Axis(0), self.rows);
        let parts = parts.zip(scores.axis_chunks_iter_mut(Axis(0), self.rows));
        // Pixels become numbers within a part, where they stay in a core's cache.
        pool.for_each(parts, |(images, mut scores)| scores.assign(&self.scores(unit(images).view())));
        scores
    }

    /// Parts of the images that pass through the layers together, each with the destination of its probabilities.
    fn parts<'a>(
        &self,
        x: &'a ArrayView2<f32>,
        probabilities: &'a mut Array2<f32>,
    ) -> impl Iterator<Item = (ArrayView2<'a, f32>, ArrayViewMut2<'a, f32>)> + Send {
        let images = x.axis_chunks_iter(Axis(0), self.rows);
        images.zip(probabilities.axis_chunks_iter_mut(Axis(0), self.rows))
    }

    fn write_probabilities(&self, x: ArrayView2<f32>, mut probabilities: ArrayViewMut2<f32>) {
        probabilities.assign(&self.scores(x));
        softmax(probabilities);
    }

    fn scores(&self, x: ArrayView2<f32>) -> Array2<f32> {
        let layers = self.folded.layers().iter().zip(&self.packed).zip(&self.folded.shapes()[1..]);
        let (done, mut x) = match self.sparse_start(x) {
            Some((done, y)) => (done, CowArray::from(y)),
            None => (0, CowArray::from(x)),
        };
        for ((layer, packed), shape) in layers.skip(done) {
            let mut y = Array2::zeros((x.nrows(), shape.len()));
            layer.forward(packed, None, x.view(), y.view_mut());
            x = y.into();
        }
        x.into_owned()
    }

    /// Computes the first layers by skipping zeros, if that is faster. Returns the number of layers and their output,
    /// which is the same bit for bit.
    fn sparse_start(&self, x: ArrayView2<f32>) -> Option<(usize, Array2<f32>)> {
        let first = self.folded.layers().iter().position(|layer| !matches!(layer, Layer::Flatten))?;
        let (Layer::Dense(dense), Packed::Dense(PackedDense { weight, .. })) =
            (&self.folded.layers()[first], &self.packed[first])
        else {
            return None;
        };
        let numbers = x.to_slice()?;
        let bits = NonzeroBits::of(numbers, x.ncols());
        if bits.count() as f64 >= SPARSE_MAX * numbers.len() as f64 {
            return None;
        }
        let mut panels = Panels::zeros(x.nrows(), dense.bias.len());
        sparse_matmul(Instructions::best(), bits.rows_of(numbers), weight, values(&dense.bias), &mut panels);
        let mut y = Array2::zeros((x.nrows(), dense.bias.len()));
        panels.copy_to(0, y.view_mut());
        Some((first + 1, y))
    }
}

/// Pixels from 0 to 255 as values from 0 to 1, rounded as in [`to_unit`](crate::data::to_unit).
fn unit(pixels: ArrayView2<u8>) -> Array2<f32> {
    let pixels = pixels.as_standard_layout();
    filled(pixels.dim(), |mut values: ArrayViewMut2<f32>| {
        let (from, to) = (pixels.view(), all_mut(&mut values));
        let pairs = to.iter_mut().zip(all(&from));
        vectorized!(pairs.for_each(|(to, &pixel)| *to = f32::from(pixel) / 255.0));
    })
}
