use super::layer::{values, values_mut};
use super::{Float, Layer, LayerKind, LayerSpec, Shape};

/// Layers in order. The outputs of the last one are the scores (logits) of the classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network<T> {
    layers: Vec<Layer<T>>,
    /// The input shape of each layer, and the shape of the scores.
    shapes: Vec<Shape>,
}

/// A layer doesn't fit its input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer}: {detail}")]
#[expect(missing_docs, reason = "the message describes the fields")]
pub struct ShapeError {
    pub layer: usize,
    /// The reason, with both shapes.
    pub detail: String,
}

/// A tensor has the wrong number of values for its layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has {found} values, the network needs {expected}")]
#[expect(missing_docs, reason = "the message describes the fields")]
pub struct LengthError {
    pub name: String,
    pub expected: usize,
    pub found: usize,
}

/// A tensor of a network: its name as in PyTorch (`0.weight`), its shape, and its values in row-major order.
pub type NamedTensor<'a, T> = (String, Vec<usize>, &'a [T]);

/// The input shape of each of `layers`, and the output shape of the last one.
///
/// # Errors
/// If a layer doesn't fit its input.
pub fn shapes(input: Shape, layers: &[LayerSpec]) -> Result<Vec<Shape>, ShapeError> {
    let mut shapes = vec![input];
    for (layer, spec) in layers.iter().enumerate() {
        shapes.push(spec.output(shapes[layer]).map_err(|detail| ShapeError { layer, detail })?);
    }
    Ok(shapes)
}

/// The kind of each of `layers`, whose inputs have these `shapes`. A layer that doesn't fit its input is left out.
pub fn kinds(layers: &[LayerSpec], shapes: &[Shape]) -> Vec<LayerKind> {
    layers.iter().zip(shapes).filter_map(|(layer, &input)| layer.kind(input).ok()).collect()
}

impl<T: Float> Network<T> {
    /// A network for images of shape `input`, with weights drawn from `seed`.
    ///
    /// # Errors
    /// If a layer doesn't fit its input.
    pub fn new(input: Shape, layers: &[LayerSpec], seed: u64) -> Result<Self, ShapeError> {
        let shapes = shapes(input, layers)?;
        let layer = |(layer, (&spec, &input))| {
            Layer::new(spec, input, seed, layer).map_err(|detail| ShapeError { layer, detail })
        };
        let layers = layers.iter().zip(&shapes).enumerate().map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, shapes })
    }

    /// Shape of an image.
    pub fn input(&self) -> Shape {
        self.shapes[0]
    }

    /// Number of scores, which is the number of classes.
    pub fn outputs(&self) -> usize {
        self.shapes[self.layers.len()].len()
    }

    /// The layers in order.
    pub fn layers(&self) -> &[Layer<T>] {
        &self.layers
    }

    /// The kind of each layer.
    pub fn kinds(&self) -> Vec<LayerKind> {
        self.layers.iter().map(Layer::kind).collect()
    }

    /// Mutable [`Self::layers`].
    pub fn layers_mut(&mut self) -> &mut [Layer<T>] {
        &mut self.layers
    }

    /// The input shape of each layer, and the shape of the scores.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Number of weights and biases.
    pub fn parameter_count(&self) -> usize {
        self.parameters().map(|(_, _, values)| values.len()).sum()
    }

    /// The trained tensors: weight and bias of each layer that has them.
    pub fn parameters(&self) -> impl Iterator<Item = NamedTensor<'_, T>> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            layer.parameters().into_iter().flat_map(move |(weight, bias)| {
                [
                    (format!("{index}.weight"), layer.weight_shape(), values(weight)),
                    (format!("{index}.bias"), vec![bias.len()], values(bias)),
                ]
            })
        })
    }

    /// Tensors that are stored but not trained: the running statistics of `batch_norm`.
    pub fn buffers(&self) -> impl Iterator<Item = NamedTensor<'_, T>> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let [_, _, mean, variance] = layer.tensors();
            [("running_mean", mean), ("running_var", variance)].into_iter().filter_map(
                move |(name, values)| Some((format!("{index}.{name}"), vec![values?.len()], values?)),
            )
        })
    }

    /// Parameters and buffers, which together determine the network's function.
    pub fn tensors(&self) -> impl Iterator<Item = NamedTensor<'_, T>> {
        self.parameters().chain(self.buffers())
    }

    /// Replaces each of [`Self::tensors`] by `tensor(name)`.
    ///
    /// # Errors
    /// If `tensor` fails, or its result has the wrong number of values. Some tensors may have been replaced by then.
    pub fn set_tensors<E: From<LengthError>>(
        &mut self,
        mut tensor: impl FnMut(&str) -> Result<Vec<T>, E>,
    ) -> Result<(), E> {
        let names: Vec<String> = self.tensors().map(|(name, ..)| name).collect();
        let mut targets = Vec::new();
        let mut buffers = Vec::new();
        for layer in &mut self.layers {
            let [weight, bias, mean, variance] = layer.tensors_mut();
            targets.extend([weight, bias].into_iter().flatten());
            buffers.extend([mean, variance].into_iter().flatten());
        }
        for (target, name) in targets.into_iter().chain(buffers).zip(names) {
            let values = tensor(&name)?;
            if values.len() != target.len() {
                return Err(LengthError { name, expected: target.len(), found: values.len() }.into());
            }
            target.copy_from_slice(&values);
        }
        Ok(())
    }

    /// Copies the parameters and buffers of a network with the same layers, without allocating.
    pub fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            to.copy_from(from);
        }
    }

    /// `average ← average + (1 − decay) (value − average)` for every parameter and buffer.
    pub fn average_with(&mut self, other: &Self, decay: f64) {
        let rest = T::of(1.0 - decay);
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            let tensors = to.tensors_mut().into_iter().zip(from.tensors());
            for (to, from) in tensors.filter_map(|(to, from)| Some((to?, from?))) {
                to.iter_mut().zip(from).for_each(|(average, &value)| *average += rest * (value - *average));
            }
        }
    }

    /// Copies parameters and buffers from each layer of `other` that fits. See [`fitting_layers`].
    pub fn adopt(&mut self, other: &Self) {
        for (to, from) in self.layers.iter_mut().zip(&other.layers) {
            if fit(&(to.name(), to.weight_shape()), &(from.name(), from.weight_shape())) {
                to.copy_from(from);
            }
        }
    }

    /// The values of every parameter, in the order of [`Self::parameters`].
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.layers
            .iter_mut()
            .filter_map(Layer::parameters_mut)
            .flat_map(|(weight, bias)| [values_mut(weight), values_mut(bias)])
    }

    /// The same network with elements of another type. `f64` is used to check gradients.
    pub fn converted<U: Float>(&self) -> Network<U> {
        let layers = self.layers.iter().map(Layer::converted).collect();
        Network { layers, shapes: self.shapes.clone() }
    }

    /// The name of the layer at `index`, such as `0.dense`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn layer_name(&self, index: usize) -> String {
        format!("{index}.{}", self.layers[index].name())
    }

    /// A network that computes the same function at inference. Each `batch_norm` after a `dense` or `conv2d` is folded
    /// into that layer. `γ (x W + b − μ) / √(σ² + ε) + β` is `x (W s) + (b − μ) s + β`, with the scale
    /// `s = γ / √(σ² + ε)` of each column.
    #[must_use]
    pub fn folded(&self) -> Self {
        let mut folded = Self { layers: Vec::new(), shapes: vec![self.input()] };
        for (layer, &output) in self.layers.iter().zip(&self.shapes[1..]) {
            if let Layer::BatchNorm(norm) = layer
                && let Some(Layer::Dense(_) | Layer::Conv2d(_)) = folded.layers.last()
                && let Some((weight, bias)) = folded.layers.last_mut().and_then(Layer::parameters_mut)
            {
                let (scale, shift) = norm.affine();
                *weight *= &scale;
                *bias = &*bias * &scale + &shift;
                continue;
            }
            folded.layers.push(layer.clone());
            folded.shapes.push(output);
        }
        folded
    }
}

/// Whether two layers have the same kind and weights of the same shape.
fn fit(a: &(&str, Vec<usize>), b: &(&str, Vec<usize>)) -> bool {
    !a.1.is_empty() && a == b
}

/// The number of layers of network `a` that can take the parameters of network `b`. A layer fits if the other network
/// has a layer with the same index, kind and weight shape. Both networks are for images of shape `input`.
///
/// # Errors
/// If the layers of one network don't fit each other.
pub fn fitting_layers(input: Shape, a: &[LayerSpec], b: &[LayerSpec]) -> Result<usize, ShapeError> {
    let (a, b) = (kinds(a, &shapes(input, a)?), kinds(b, &shapes(input, b)?));
    let [a, b] = [a, b].map(|kinds| kinds.into_iter().map(|kind| (kind.name(), kind.weight_shape())));
    Ok(a.zip(b).filter(|(a, b)| fit(a, b)).count())
}
