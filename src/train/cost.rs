use super::TrainSpec;
use crate::data::DatasetShape;
use crate::nn::LayerSpec;

/// What a job will take, estimated before it is accepted. In `f64`, since a request can ask for
/// more than any integer holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations: 2 a weight and image forward, 2 for its gradient, 2 for the
    /// gradient of its input.
    pub flops: f64,
    /// Bytes of parameters, gradients, optimiser state and one batch's values.
    pub memory_bytes: f64,
}

impl Cost {
    /// The cost of `spec` on `dataset`.
    pub fn of(spec: &TrainSpec, dataset: &DatasetShape) -> Self {
        let mut width = dataset.inputs as f64;
        let (mut weights, mut parameters, mut values) = (0.0, 0.0, width);
        for layer in &spec.network.layers {
            if let LayerSpec::Dense { units, .. } = *layer {
                let units = units as f64;
                weights += width * units;
                parameters += (width + 1.0) * units;
                width = units;
            }
            values += width;
        }
        let images = spec.training_samples(dataset.train) as f64 * f64::from(spec.epochs);
        // The network, its gradient, two packed copies and one of the last step; network and state
        // twice more while a checkpoint is written.
        let state = spec.optimizer.state_names().len() as f64;
        let copies = 5.0 + state + 2.0 * (1.0 + state);
        // Each value with its gradient and a packed copy of that.
        let kept = 3.0 * values * spec.batch_size as f64;
        Self { flops: 6.0 * weights * images, memory_bytes: 4.0 * (copies * parameters + kept) }
    }
}
