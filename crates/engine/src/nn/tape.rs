use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::kernel::{Panels, Start, matmul};
use super::packed::Packed;
use super::rows::image;
use super::{BatchNorm, Float, Gradient, Layer, Network};

/// A pass through a network as it answers at inference, with all that every layer held, and all that
/// flows back: what reverse accumulation writes down (Griewank, Walther, *Evaluating Derivatives*, 2008).
///
/// The layers are those of a training step, one by one. A `batch_norm` takes its running statistics, a
/// `dropout` lets all through.
#[derive(Clone, Debug)]
pub struct Tape<T> {
    /// What each layer gets, and at the end the scores: shape (rows, values) each.
    pub values: Vec<Array2<T>>,
    /// `∂L/∂value` for each of `values`, once it has flowed back.
    pub errors: Vec<Array2<T>>,
    /// `∂L/∂W` and `∂L/∂b` of each layer that has them.
    pub gradients: Vec<Gradient<T>>,
    packed: Vec<Packed<T>>,
    /// The first of `values` whose error is wanted.
    errors_from: usize,
}

impl<T: Float> Tape<T> {
    /// A tape for passes of `network` as it is, the first of whose values with an error is number `errors_from`; there is no
    /// way back where that is beyond the last.
    pub fn new(network: &Network<T>, errors_from: usize) -> Self {
        let packed = |(index, layer): (usize, &Layer<T>)| {
            let mut packed = Packed::room(layer, index >= errors_from);
            packed.fill(layer);
            packed
        };
        Self {
            values: Vec::new(),
            errors: Vec::new(),
            gradients: Vec::new(),
            packed: network.layers().iter().enumerate().map(packed).collect(),
            errors_from,
        }
    }

    /// Forward: x (rows, inputs).
    pub fn forward(network: &Network<T>, x: Array2<T>) -> Self {
        let mut tape = Self::new(network, 0);
        tape.pass(network, x);
        tape
    }

    /// [`Self::forward`] of one image.
    pub fn of_image(network: &Network<T>, image: &[T]) -> Self {
        Self::forward(network, row(image))
    }

    /// Forward once more, with other values of the same `network`.
    pub fn pass(&mut self, network: &Network<T>, x: Array2<T>) {
        self.values = vec![x];
        self.errors.clear();
        self.gradients.clear();
        self.run(network, 0);
    }

    /// [`Self::pass`] of one image.
    pub fn pass_image(&mut self, network: &Network<T>, image: &[T]) {
        self.pass(network, row(image));
    }

    /// The scores once more, after the parameters of the layer at `index` have changed.
    pub fn forward_from(&mut self, network: &Network<T>, index: usize) -> ArrayView2<'_, T> {
        self.packed[index].fill(&network.layers()[index]);
        self.values.truncate(index + 1);
        self.run(network, index);
        self.scores()
    }

    fn run(&mut self, network: &Network<T>, first: usize) {
        for (index, layer) in network.layers().iter().enumerate().skip(first) {
            let x = &self.values[index];
            let mut y = Array2::zeros((x.nrows(), network.shapes()[index + 1].len()));
            let mut scratch = layer.conv_scratch();
            layer.forward(&self.packed[index], x.view(), y.view_mut(), scratch.as_mut());
            self.values.push(y);
        }
    }

    /// Lets go of the weights: what was computed stays, there are no more passes.
    pub fn end(&mut self) {
        self.packed = Vec::new();
    }

    /// What comes out of the last layer, shape (rows, classes).
    ///
    /// # Panics
    /// Before the first pass.
    pub fn scores(&self) -> ArrayView2<'_, T> {
        self.values.last().expect("a pass").view()
    }

    /// Backward from `dscores`, the gradient of the scores: [`Self::errors`] and [`Self::gradients`] are
    /// then there. The errors that come out of all layers with parameters must be wanted.
    pub fn backward(&mut self, network: &Network<T>, dscores: Array2<T>) {
        self.backward_errors(network, dscores);
        let ends = self.values.iter().zip(&self.errors[1..]).enumerate();
        let gradient = |(index, (x, dy)): (usize, (&Array2<T>, &Array2<T>))| {
            network.layers()[index].gradient(index, x.view(), dy.view())
        };
        self.gradients = ends.filter_map(gradient).collect();
    }

    /// [`Self::backward`] without the gradients of parameters; errors before the first that is wanted stay empty.
    pub fn backward_errors(&mut self, network: &Network<T>, dscores: Array2<T>) {
        let mut errors = vec![dscores];
        for (index, layer) in network.layers().iter().enumerate().skip(self.errors_from).rev() {
            let (x, y) = (self.values[index].view(), self.values[index + 1].view());
            let dy = errors[errors.len() - 1].view();
            let mut dx = Array2::zeros(x.dim());
            let mut scratch = layer.conv_scratch();
            layer.backward_input(&self.packed[index], [x, y, dy], dx.view_mut(), scratch.as_mut());
            errors.push(dx);
        }
        errors.resize(self.values.len(), Array2::zeros((0, 0)));
        errors.reverse();
        self.errors = errors;
    }
}

/// One image as a batch of one.
fn row<T: Float>(image: &[T]) -> Array2<T> {
    ArrayView1::from(image).insert_axis(Axis(0)).to_owned()
}

impl<T: Float> Layer<T> {
    /// `∂L/∂W` and `∂L/∂b` at inference: x (rows, inputs), dy (rows, outputs).
    fn gradient(&self, index: usize, x: ArrayView2<T>, dy: ArrayView2<T>) -> Option<Gradient<T>> {
        let (weight, bias) = self.parameters()?;
        let mut gradient = Gradient::zeros(index, weight, bias);
        match self {
            Self::Conv2d(conv) => {
                let mut scratch = conv.scratch();
                for row in 0..x.nrows() {
                    conv.backward_parameters(image(&x, row), image(&dy, row), &mut scratch, &mut gradient);
                }
            }
            Self::BatchNorm(norm) => norm.inference_gradient(x, dy, &mut gradient),
            _ => {
                matmul([(x.t(), &Panels::of(dy))], &mut gradient.weight.view_mut(), Start::Zero);
                gradient.bias = dy.sum_axis(Axis(0));
            }
        }
        Some(gradient)
    }
}

impl<T: Float> BatchNorm<T> {
    /// `dγ = Σ dy x̂` and `dβ = Σ dy` over rows and places, with the running statistics in x̂.
    fn inference_gradient(&self, x: ArrayView2<T>, dy: ArrayView2<T>, gradient: &mut Gradient<T>) {
        let channels = self.channels();
        let deviations = self.running_deviations();
        for (place, (&x, &dy)) in x.iter().zip(&dy).enumerate() {
            let channel = place % channels;
            let normed = (x - self.running_mean[channel]) / deviations[channel];
            gradient.weight[[0, channel]] += dy * normed;
            gradient.bias[channel] += dy;
        }
    }
}
