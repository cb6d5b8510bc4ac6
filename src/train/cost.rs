use super::{INPUT, TrainSpec};
use crate::data::DatasetShape;
use crate::nn::{LayerSpec, Shape, shapes};

/// What a job will take, estimated before it is accepted. In `f64`, since a request can ask for
/// more than any integer holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations: 2 a weight, place and image forward, 2 for its gradient, 2 for the
    /// gradient of its input.
    pub flops: f64,
    /// Bytes of parameters, gradients, optimiser state and one batch's values.
    pub memory_bytes: f64,
}

impl Cost {
    /// The cost of `spec` on `dataset`; that of layers that don't fit each other is 0.
    pub fn of(spec: &TrainSpec, dataset: &DatasetShape) -> Self {
        let shapes = shapes(INPUT, &spec.network.layers).unwrap_or_default();
        let (mut products, mut parameters) = (0.0, 0.0);
        let mut values: f64 = shapes.first().map_or(0.0, |shape| shape.len() as f64);
        for (layer, pair) in spec.network.layers.iter().zip(shapes.windows(2)) {
            let &[input, output] = pair else { continue };
            values += output.len() as f64;
            let (weights, biases) = weights(layer, input);
            parameters += weights + biases;
            if !matches!(layer, LayerSpec::BatchNorm) {
                products += weights * output.places() as f64;
            }
        }
        let images = spec.training_samples(dataset.train) as f64 * f64::from(spec.epochs);
        // The network, its gradient, two packed copies and one of the last step; network and state
        // twice more while a checkpoint is written.
        let state = spec.optimizer.state_names().len() as f64 + f64::from(u8::from(spec.ema_decay.is_some()));
        let copies = 5.0 + state + 2.0 * (1.0 + state);
        // Each value with its gradient and a packed copy of that.
        let kept = 3.0 * values * spec.batch_size as f64;
        Self { flops: 6.0 * products * images, memory_bytes: 4.0 * (copies * parameters + kept) }
    }
}

/// Weights and biases of a layer.
fn weights(layer: &LayerSpec, input: Shape) -> (f64, f64) {
    let channels = input.channels as f64;
    match *layer {
        LayerSpec::Dense { units, .. } => (input.len() as f64 * units as f64, units as f64),
        LayerSpec::Conv2d { filters, kernel, .. } => {
            ((kernel * kernel) as f64 * channels * filters as f64, filters as f64)
        }
        LayerSpec::BatchNorm => (channels, channels),
        _ => (0.0, 0.0),
    }
}
