use std::collections::HashMap;

use super::super::OnnxError;
use crate::nn::{Init, LayerSpec, LengthError, NORM_EPS, Network, Padding, Shape, Window};

/// A network that grows by one layer after the other.
pub(super) struct Builder {
    input: Shape,
    /// The shape of the output of the last layer.
    shape: Shape,
    layers: Vec<(LayerSpec, Parameters)>,
    /// A number that changes with every change of the function that the layers compute.
    version: usize,
}

/// The parameters of a layer, in the order of the network. They are empty if it has none.
#[derive(Default)]
struct Parameters {
    weight: Vec<f64>,
    bias: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Builder {
    pub fn new(input: Shape) -> Self {
        Self { input, shape: input, layers: Vec::new(), version: 0 }
    }

    pub fn version(&self) -> usize {
        self.version
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the values are still the pixels of the input.
    pub fn is_input(&self) -> bool {
        self.layers.iter().all(|(layer, _)| *layer == LayerSpec::Flatten)
    }

    pub fn last(&self) -> Option<LayerSpec> {
        self.layers.last().map(|(layer, _)| *layer)
    }

    /// Adds a layer without parameters.
    pub fn plain(&mut self, layer: LayerSpec) -> Result<(), String> {
        self.push(layer, Parameters::default())
    }

    fn push(&mut self, layer: LayerSpec, parameters: Parameters) -> Result<(), String> {
        self.shape = layer.output(self.shape)?;
        self.layers.push((layer, parameters));
        self.version += 1;
        Ok(())
    }

    /// Adds a dense layer, with a weight of shape (inputs, units).
    pub fn dense(&mut self, weight: Vec<f64>, bias: Vec<f64>) -> Result<(), String> {
        let layer = LayerSpec::Dense { units: bias.len(), init: Init::He };
        self.push(layer, Parameters { weight, bias, ..Parameters::default() })
    }

    /// The padding with this many zeros above, left, below and right of the windows.
    ///
    /// # Errors
    /// If it is neither that of `valid` nor that of `same`.
    pub fn padding(&self, kernel: usize, stride: usize, zeros: [usize; 4]) -> Result<Padding, String> {
        let zeros_of = |padding: Padding| {
            let Window { input, padded, .. } = Window::new(self.shape, kernel, stride, padding)?;
            let (rows, columns) = (padded.height - input.height, padded.width - input.width);
            Some([rows / 2, columns / 2, rows - rows / 2, columns - columns / 2])
        };
        let same = zeros_of(Padding::Same);
        if zeros == [0; 4] {
            Ok(Padding::Valid)
        } else if same == Some(zeros) {
            Ok(Padding::Same)
        } else {
            Err(format!(
                "pads are {zeros:?}; for windows of {kernel} pixels, {stride} apart, on {}, 0 or {:?} are supported",
                self.shape,
                same.unwrap_or_default()
            ))
        }
    }

    /// Adds a convolution, with a weight of shape (k, k, channels, filters).
    pub fn convolution(
        &mut self,
        [kernel, stride]: [usize; 2],
        padding: Padding,
        weight: Vec<f64>,
        bias: Vec<f64>,
    ) -> Result<(), String> {
        let layer = LayerSpec::Conv2d { filters: bias.len(), kernel, padding, stride, init: Init::He };
        self.push(layer, Parameters { weight, bias, ..Parameters::default() })
    }

    /// Adds a normalisation by γ, β, μ and σ². Another `epsilon` than that of a network becomes part of γ.
    pub fn batch_norm(&mut self, parameters: [Vec<f64>; 4], epsilon: f64) -> Result<(), String> {
        let [mut weight, bias, mean, variance] = parameters;
        // In a file, ε is a number of 32 bits.
        if epsilon as f32 != NORM_EPS as f32 {
            for (weight, variance) in weight.iter_mut().zip(&variance) {
                *weight *= ((variance + NORM_EPS) / (variance + epsilon)).sqrt();
            }
        }
        self.push(LayerSpec::BatchNorm, Parameters { weight, bias, mean, variance })
    }

    /// Multiplies each channel of the output by a number and adds another: in the last layer if it has parameters, or
    /// else in a normalisation.
    pub fn affine(&mut self, scale: Vec<f64>, shift: Vec<f64>) -> Result<(), String> {
        match self.layers.last_mut() {
            Some((_, parameters)) if !parameters.weight.is_empty() => {
                let columns = scale.len();
                for row in parameters.weight.chunks_exact_mut(columns) {
                    row.iter_mut().zip(&scale).for_each(|(weight, scale)| *weight *= scale);
                }
                let bias = parameters.bias.iter_mut().zip(scale.iter().zip(&shift));
                bias.for_each(|(bias, (scale, shift))| *bias = *bias * scale + shift);
                self.version += 1;
                Ok(())
            }
            _ => {
                let (zeros, ones) = (vec![0.0; scale.len()], vec![1.0; scale.len()]);
                self.batch_norm([scale, shift, zeros, ones], 0.0)
            }
        }
    }

    /// The network and its layers.
    ///
    /// # Errors
    /// If the layers don't fit each other, or a parameter is not finite as `f32`.
    pub fn finished(self) -> Result<(Vec<LayerSpec>, Network<f32>), OnnxError> {
        let fault = |detail: String| OnnxError::Graph(detail);
        let (specs, parameters): (Vec<LayerSpec>, Vec<Parameters>) = self.layers.into_iter().unzip();
        let mut tensors: HashMap<String, Vec<f64>> = HashMap::new();
        for (index, Parameters { weight, bias, mean, variance }) in parameters.into_iter().enumerate() {
            for (name, values) in
                [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance)]
            {
                tensors.insert(format!("{index}.{name}"), values);
            }
        }
        let mut network = Network::new(self.input, &specs, 0).map_err(|error| fault(error.to_string()))?;
        network.set_tensors(|name| {
            let values = tensors.remove(name).unwrap_or_default();
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            if values.iter().all(|value| value.is_finite()) {
                Ok(values)
            } else {
                Err(fault(format!("the parameters of layer {name} don't fit 32-bit floats")))
            }
        })?;
        Ok((specs, network))
    }
}

impl From<LengthError> for OnnxError {
    fn from(error: LengthError) -> Self {
        Self::Graph(error.to_string())
    }
}
