use super::{INPUT, TrainSpec};
use crate::data::DatasetShape;
use crate::nn::{LayerSpec, Shape, kernel::PANEL, shapes};

/// Groups that sum gradients of filters side by side, at most.
const GROUPS: f64 = 8.0;

/// What a job will take, estimated before it is accepted. In `f64`, since a request can ask for
/// more than any integer holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations: 2 a weight, place and image forward, 2 for its gradient, 2 for the
    /// gradient of its input, and some for every value; validation and test forward alone.
    pub flops: f64,
    /// Bytes of parameters, gradients, optimiser state and one batch's values.
    pub memory_bytes: f64,
}

/// Operations for a value on its way forward: an exponential is some twenty.
const FLOPS_PER_VALUE: f64 = 20.0;

/// Images of a test split, as many as MNIST has.
const TEST_IMAGES: f64 = 10_000.0;

/// Numbers and operations of one layer.
#[derive(Default)]
struct LayerCost {
    parameters: f64,
    /// Multiplications of one image forward, as wide as registers make them.
    products: f64,
    /// Weights as products read them, both ways.
    packed: f64,
    /// What each group keeps for itself.
    per_group: f64,
}

impl Cost {
    /// The cost of `spec` on `dataset`; that of layers that don't fit each other is 0.
    pub fn of(spec: &TrainSpec, dataset: &DatasetShape) -> Self {
        let shapes = shapes(INPUT, &spec.network.layers).unwrap_or_default();
        let mut sum = LayerCost::default();
        let mut values: f64 = shapes.first().map_or(0.0, |shape| shape.len() as f64);
        for (layer, pair) in spec.network.layers.iter().zip(shapes.windows(2)) {
            let &[input, output] = pair else { continue };
            values += output.len() as f64;
            let layer = layer_cost(layer, input, output);
            sum.parameters += layer.parameters;
            sum.products += layer.products;
            sum.packed += layer.packed;
            sum.per_group += layer.per_group;
        }
        let forward = 2.0 * sum.products + FLOPS_PER_VALUE * values;
        let epochs = f64::from(spec.epochs);
        let trained = spec.training_samples(dataset.train) as f64 * epochs;
        let evaluated = spec.validation_samples(dataset.train) as f64 * epochs + TEST_IMAGES;
        // The network, its gradient and a copy of the last step; network and state twice more while a
        // checkpoint is written.
        let state = spec.optimizer.state_names().len() as f64 + f64::from(u8::from(spec.ema_decay.is_some()));
        let copies = 3.0 + state + 2.0 * (1.0 + state);
        // Each value with its gradient and a packed copy of that.
        let kept = 3.0 * values * spec.batch_size as f64;
        let groups = GROUPS.min((spec.batch_size as f64 / 4.0).ceil());
        Self {
            flops: 3.0 * forward * trained + forward * evaluated,
            memory_bytes: 4.0 * (copies * sum.parameters + sum.packed + kept + groups * sum.per_group),
        }
    }
}

fn layer_cost(layer: &LayerSpec, input: Shape, output: Shape) -> LayerCost {
    let padded = |columns: usize| columns.next_multiple_of(PANEL) as f64;
    let channels = input.channels as f64;
    match *layer {
        LayerSpec::Dense { units, .. } => {
            let inputs = input.len() as f64;
            LayerCost {
                parameters: (inputs + 1.0) * units as f64,
                products: inputs * units as f64,
                packed: inputs * padded(units) + units as f64 * padded(input.len()),
                per_group: 0.0,
            }
        }
        LayerSpec::Conv2d { filters, kernel, .. } => {
            let area = (kernel * kernel) as f64;
            let weights = area * channels * filters as f64;
            let bordered = (input.height + kernel) as f64 * (input.width + kernel) as f64 * channels;
            LayerCost {
                parameters: weights + filters as f64,
                products: area * channels * filters.next_multiple_of(16) as f64 * output.places() as f64,
                packed: area * (channels * padded(filters) + filters as f64 * padded(input.channels)),
                per_group: weights + 2.0 * bordered + output.places() as f64 * padded(filters),
            }
        }
        LayerSpec::BatchNorm => LayerCost { parameters: 4.0 * channels, ..LayerCost::default() },
        _ => LayerCost::default(),
    }
}
