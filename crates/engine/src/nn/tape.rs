use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::layer::TrainingRows;
use super::network::kinds;
use super::packed::Packed;
use super::{Draw, Float, Gradient, Layer, LayerSpec, Network, Shape};

/// A recorded pass through a network. It holds the values between the layers and, after a backward pass, all gradients.
/// Reverse-mode differentiation calls such a record a tape (Griewank, Walther, *Evaluating Derivatives*, 2008).
///
/// Layers are never fused. They run as at inference: `batch_norm` uses its running statistics, and `dropout` does
/// nothing.
#[derive(Clone, Debug)]
pub struct Tape<T> {
    /// The input of each layer, and the scores. Each has shape (rows, values).
    pub values: Vec<Array2<T>>,
    /// `∂L/∂value` for each of `values`, after a backward pass.
    pub errors: Vec<Array2<T>>,
    /// `∂L/∂W` and `∂L/∂b` of each layer that has parameters.
    pub gradients: Vec<Gradient<T>>,
    packed: Vec<Packed<T>>,
    /// Index of the first value whose error is needed.
    errors_from: usize,
    /// The examples of a training step, and the seed of their random numbers. `None` at inference. Only tests
    /// set it.
    training: Option<(Vec<u32>, Draw)>,
}

impl<T: Float> Tape<T> {
    /// A tape for passes through `network` with its current weights. `errors_from` is the index of the first value
    /// whose error is needed. If it is out of range, there is no backward pass.
    pub fn new(network: &Network<T>, errors_from: usize) -> Self {
        let packed = |(index, layer): (usize, &Layer<T>)| layer.packed(index >= errors_from);
        Self {
            values: Vec::new(),
            errors: Vec::new(),
            gradients: Vec::new(),
            packed: network.layers().iter().enumerate().map(packed).collect(),
            errors_from,
            training: None,
        }
    }

    /// A forward pass of x (rows, inputs).
    pub fn forward(network: &Network<T>, x: Array2<T>) -> Self {
        let mut tape = Self::new(network, 0);
        tape.pass(network, x);
        tape
    }

    /// See [`tape_of_step`](super::testing::tape_of_step).
    pub(super) fn of_step(network: &Network<T>, x: Array2<T>, examples: &[u32], draw: Draw) -> Self {
        let mut tape = Self { training: Some((examples.to_vec(), draw)), ..Self::new(network, 0) };
        tape.pass(network, x);
        tape
    }

    /// [`Self::forward`] for one image.
    pub fn of_image(network: &Network<T>, image: &[T]) -> Self {
        Self::forward(network, row(image))
    }

    /// Another forward pass through the same `network`.
    pub fn pass(&mut self, network: &Network<T>, x: Array2<T>) {
        self.values = vec![x];
        self.errors.clear();
        self.gradients.clear();
        self.run(network, 0);
    }

    /// [`Self::pass`] for one image.
    pub fn pass_image(&mut self, network: &Network<T>, image: &[T]) {
        self.pass(network, row(image));
    }

    /// Recomputes the scores after the parameters of the layer at `index` have changed.
    pub fn forward_from(&mut self, network: &Network<T>, index: usize) -> ArrayView2<'_, T> {
        // Frees the old packed weights before the new ones are allocated.
        self.packed[index] = Packed::None;
        self.packed[index] = network.layers()[index].packed(index >= self.errors_from);
        self.values.truncate(index + 1);
        self.run(network, index);
        self.scores()
    }

    fn run(&mut self, network: &Network<T>, first: usize) {
        for (index, layer) in network.layers().iter().enumerate().skip(first) {
            let x = &self.values[index];
            let mut y = Array2::zeros((x.nrows(), network.shapes()[index + 1].len()));
            layer.forward(&self.packed[index], self.training(index), x.view(), y.view_mut());
            self.values.push(y);
        }
    }

    /// The training step in which the layer at `index` runs.
    fn training(&self, index: usize) -> Option<TrainingRows<'_>> {
        let (examples, draw) = self.training.as_ref()?;
        Some(TrainingRows { examples, draw: *draw, layer: index })
    }

    /// Releases the packed weights. The recorded values remain, but no further pass is possible.
    pub fn end(&mut self) {
        self.packed = Vec::new();
    }

    /// The outputs of the last layer, of shape (rows, classes).
    ///
    /// # Panics
    /// Before the first pass.
    pub fn scores(&self) -> ArrayView2<'_, T> {
        self.values.last().expect("a forward pass was recorded").view()
    }

    /// A backward pass from `dscores`, the gradient of the scores. It sets [`Self::errors`] and
    /// [`Self::gradients`]. The `errors_from` of the tape must be at most the index of the first layer with parameters,
    /// plus one.
    pub fn backward(&mut self, network: &Network<T>, dscores: Array2<T>) {
        self.backward_errors(network, dscores);
        let ends = self.values.iter().zip(&self.errors[1..]).enumerate();
        let gradient = |(index, (x, dy)): (usize, (&Array2<T>, &Array2<T>))| {
            let layer = &network.layers()[index];
            let (weight, bias) = layer.parameters()?;
            let mut gradient = Gradient::zeros(index, weight, bias);
            layer.backward_parameters(self.training(index), x.view(), dy.view(), &mut gradient);
            Some(gradient)
        };
        self.gradients = ends.filter_map(gradient).collect();
    }

    /// [`Self::backward`] without the gradients of parameters. Errors before `errors_from` stay empty.
    pub fn backward_errors(&mut self, network: &Network<T>, dscores: Array2<T>) {
        let mut errors = vec![dscores];
        for (index, layer) in network.layers().iter().enumerate().skip(self.errors_from).rev() {
            let (x, y) = (&self.values[index], &self.values[index + 1]);
            let values = [x.view(), y.view(), errors[errors.len() - 1].view()];
            let mut dx = Array2::zeros(x.dim());
            layer.backward_input(&self.packed[index], self.training(index), values, dx.view_mut());
            errors.push(dx);
        }
        errors.resize(self.values.len(), Array2::zeros((0, 0)));
        errors.reverse();
        self.errors = errors;
    }
}

/// A batch of one image.
fn row<T: Float>(image: &[T]) -> Array2<T> {
    ArrayView1::from(image).insert_axis(Axis(0)).to_owned()
}

/// Number of elements that a [`Tape`] of `rows` rows will hold, without the gradients of the parameters. The result is
/// an `f64`, because a request can ask for layers so large that an integer overflows.
pub fn numbers_of_a_tape(layers: &[LayerSpec], shapes: &[Shape], rows: usize, errors_from: usize) -> f64 {
    let kinds = kinds(layers, shapes);
    let packed = kinds.iter().enumerate().map(|(index, kind)| kind.numbers_packed(index >= errors_from));
    let packed: f64 = packed.sum();
    let scratch = kinds.iter().map(|kind| kind.numbers_of_scratch());
    let numbers = |shapes: &[Shape]| rows as f64 * shapes.iter().map(|shape| shape.len() as f64).sum::<f64>();
    let errors = numbers(shapes.get(errors_from..).unwrap_or_default());
    packed + scratch.fold(0.0, f64::max) + numbers(shapes) + errors
}
