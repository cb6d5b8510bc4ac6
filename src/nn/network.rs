use ndarray::{Array, Dimension};
use serde::{Deserialize, Serialize};

use super::{Activation, Dense, Float, Init};

/// A layer as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LayerSpec {
    /// A fully connected layer.
    Dense {
        /// Outputs.
        units: usize,
        /// How its weights start.
        init: Init,
    },
    /// See [`Activation::Relu`].
    Relu,
    /// See [`Activation::Sigmoid`].
    Sigmoid,
    /// See [`Activation::Tanh`].
    Tanh,
}

impl LayerSpec {
    /// The field's word for this kind of layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
        }
    }
}

impl From<Activation> for LayerSpec {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Tanh => Self::Tanh,
        }
    }
}

/// A layer with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer<T> {
    /// `y = x W + b`.
    Dense(Dense<T>),
    /// `y = f(x)`.
    Activation(Activation),
}

/// Layers in order; the last one's outputs are the scores (logits) of the classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network<T> {
    inputs: usize,
    layers: Vec<Layer<T>>,
}

/// A tensor that is not of the shape its layer needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has {found} values, the network needs {expected}")]
pub struct ShapeError {
    /// Name of the parameter.
    pub name: String,
    /// Values it needs.
    pub expected: usize,
    /// Values it has.
    pub found: usize,
}

impl<T: Float> Network<T> {
    /// A network for rows of `inputs` values, its weights drawn from `seed`.
    pub fn new(inputs: usize, layers: &[LayerSpec], seed: u64) -> Self {
        let mut width = inputs;
        let layers = layers
            .iter()
            .enumerate()
            .map(|(index, &layer)| match layer {
                LayerSpec::Dense { units, init } => {
                    let weight = init.weight(width, units, seed, index);
                    width = units;
                    Layer::Dense(Dense { weight, bias: ndarray::Array1::zeros(units) })
                }
                LayerSpec::Relu => Layer::Activation(Activation::Relu),
                LayerSpec::Sigmoid => Layer::Activation(Activation::Sigmoid),
                LayerSpec::Tanh => Layer::Activation(Activation::Tanh),
            })
            .collect();
        Self { inputs, layers }
    }

    /// Values in a row of input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values in a row of output: the classes.
    pub fn outputs(&self) -> usize {
        self.widths().last().unwrap_or(self.inputs)
    }

    /// The layers in order.
    pub fn layers(&self) -> &[Layer<T>] {
        &self.layers
    }

    /// The output width of each layer.
    pub fn widths(&self) -> impl Iterator<Item = usize> {
        self.layers.iter().scan(self.inputs, |width, layer| {
            if let Layer::Dense(dense) = layer {
                *width = dense.bias.len();
            }
            Some(*width)
        })
    }

    /// The dense layers with their places, first to last.
    pub fn dense(&self) -> impl DoubleEndedIterator<Item = (usize, &Dense<T>)> {
        self.layers.iter().enumerate().filter_map(|(index, layer)| match layer {
            Layer::Dense(dense) => Some((index, dense)),
            Layer::Activation(_) => None,
        })
    }

    /// The dense layers, to be changed.
    pub fn dense_mut(&mut self) -> impl Iterator<Item = &mut Dense<T>> {
        self.layers.iter_mut().filter_map(|layer| match layer {
            Layer::Dense(dense) => Some(dense),
            Layer::Activation(_) => None,
        })
    }

    /// Number of weights and biases.
    pub fn parameter_count(&self) -> usize {
        self.dense().map(|(_, dense)| dense.weight.len() + dense.bias.len()).sum()
    }

    /// Every parameter with its name (`0.weight`, `0.bias`, …), shape and values in row order.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Vec<usize>, &[T])> {
        self.dense().flat_map(|(index, dense)| {
            [
                (format!("{index}.weight"), dense.weight.shape().to_vec(), values(&dense.weight)),
                (format!("{index}.bias"), dense.bias.shape().to_vec(), values(&dense.bias)),
            ]
        })
    }

    /// Replaces every parameter by `values(name)`.
    ///
    /// # Errors
    /// Where one has not as many values as the layer needs; the network is then half changed.
    pub fn set_parameters(&mut self, mut values: impl FnMut(&str) -> Vec<T>) -> Result<(), ShapeError> {
        let names: Vec<String> = self.parameters().map(|(name, ..)| name).collect();
        for (tensor, name) in self.tensors_mut().zip(names) {
            let values = values(&name);
            if values.len() != tensor.len() {
                return Err(ShapeError { name, expected: tensor.len(), found: values.len() });
            }
            tensor.copy_from_slice(&values);
        }
        Ok(())
    }

    /// The values of every parameter, in the order of [`Self::parameters`].
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.dense_mut().flat_map(|dense| [values_mut(&mut dense.weight), values_mut(&mut dense.bias)])
    }
}

const ROW_ORDER: &str = "parameters and their gradients are made in row order and keep it";

/// The elements of a parameter or gradient in row order.
pub(super) fn values<T, D: Dimension>(tensor: &Array<T, D>) -> &[T] {
    tensor.as_slice().expect(ROW_ORDER)
}

/// [`values`], to be changed.
pub(super) fn values_mut<T, D: Dimension>(tensor: &mut Array<T, D>) -> &mut [T] {
    tensor.as_slice_mut().expect(ROW_ORDER)
}
