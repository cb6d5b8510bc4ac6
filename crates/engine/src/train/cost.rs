use super::TrainSpec;
use crate::data::{Augment, DatasetShape};
use crate::nn::{LayerKind, LayerSpec, Plan, Shape, kinds, shapes};

/// The cost of a job, estimated before the job is accepted. The numbers are `f64`, because a request can ask for so
/// much that an integer overflows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations, counted as if all products were dense. Each weight costs 2 per position and
    /// image forward and 2 for its gradient. It costs 2 for the gradient of its input, except in the first layer
    /// with parameters. Activations, parameter updates and augmented pixels cost extra. Validation and test are
    /// forward passes only.
    pub flops: f64,
    /// Bytes of parameters, gradients, optimiser state, and the values of one batch.
    pub memory_bytes: f64,
}

/// Operations per parameter in a step of Adam, and per augmented pixel.
const FLOPS_PER_UPDATE: f64 = 12.0;
const FLOPS_PER_PIXEL: f64 = 20.0;

impl Cost {
    /// The cost of `spec` on `dataset`. It is 0 for layers that don't fit each other.
    pub fn of(spec: &TrainSpec, dataset: &DatasetShape) -> Self {
        let shapes = shapes(dataset.input, &spec.network.layers).unwrap_or_default();
        let layers = LayerCost::of_all(&spec.network.layers, &shapes);
        let sum = |figure: fn(&LayerCost) -> f64| layers.iter().map(figure).sum::<f64>();
        let (forward, backward) = (sum(|layer| layer.flops_forward), sum(|layer| layer.flops_backward));
        let parameters = sum(|layer| layer.parameters + layer.buffers);
        let epochs = f64::from(spec.epochs);
        let trained = spec.training_samples(dataset.train) as f64 * epochs;
        let steps = spec.steps_per_epoch(dataset.train) as f64 * epochs;
        let augmentation = spec.augment.map_or(0.0, |augment| flops_of_augmentation(dataset.input, &augment));
        let evaluated = spec.validation_samples(dataset.train) as f64 * epochs + dataset.test as f64;
        // The network, its gradient, and a copy after the last step. Network and state are held twice more
        // while a checkpoint is written.
        let states = spec.optimizer.state_names().len();
        let state = states as f64 + f64::from(u8::from(spec.ema_decay.is_some()));
        let copies = 3.0 + state + 2.0 * (1.0 + state);
        let step = step_bytes(dataset.input, &spec.network.layers, spec.batch_size, states);
        // The order of all examples of the job, and the order within an epoch.
        let orders = dataset.train as f64 + spec.samples(dataset.train) as f64;
        Self {
            flops: (augmentation + forward + backward) * trained
                + FLOPS_PER_UPDATE * parameters * steps
                + forward * evaluated,
            memory_bytes: 4.0 * (copies * parameters + orders) + step,
        }
    }
}

/// Bytes that a training step allocates for batches of `batch_size`, including the optimiser states that are
/// kept there. It is 0 for layers that don't fit each other.
pub fn step_bytes(input: Shape, layers: &[LayerSpec], batch_size: usize, states: usize) -> f64 {
    let Ok(shapes) = shapes(input, layers) else { return 0.0 };
    // Nothing is known about the data yet, so the plan assumes a sparse first layer, which needs the most
    // memory.
    Plan::new(&kinds(layers, &shapes), &shapes, batch_size, 0.0).bytes::<f32>(states)
}

/// The cost of a layer per image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerCost {
    /// Number of trained parameters.
    pub parameters: f64,
    /// Number of values that are stored but not trained: the running statistics of `batch_norm`.
    pub buffers: f64,
    /// Operations of the forward pass.
    pub flops_forward: f64,
    /// Operations of the backward pass.
    pub flops_backward: f64,
}

impl LayerCost {
    /// The cost of each of `layers`. `shapes` contains the input shape of each layer, and the shape of the scores.
    pub fn of_all(layers: &[LayerSpec], shapes: &[Shape]) -> Vec<Self> {
        let mut is_first = true;
        let cost = |(kind, pair): (LayerKind, &[Shape])| {
            let (parameters, products) = (kind.parameters(), kind.products(pair[1]));
            let others = kind.flops_per_value() * pair[1].len() as f64;
            // The first layer with parameters computes no gradient of its input.
            let products_backward = if is_first { 2.0 } else { 4.0 } * products;
            is_first &= parameters == 0.0;
            Self {
                parameters,
                buffers: kind.buffers(),
                flops_forward: 2.0 * products + others,
                flops_backward: products_backward + others,
            }
        };
        kinds(layers, shapes).into_iter().zip(shapes.windows(2)).map(cost).collect()
    }
}

/// Operations of augmentation per image. Each pixel is interpolated from four, and two fields are smoothed along rows
/// and columns.
fn flops_of_augmentation(input: Shape, augment: &Augment) -> f64 {
    let taps = augment.elastic.map_or(0.0, |elastic| 2.0 * elastic.radius() as f64 + 1.0);
    input.len() as f64 * (FLOPS_PER_PIXEL + 2.0 * 2.0 * 2.0 * taps)
}
