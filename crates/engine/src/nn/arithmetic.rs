use super::kernel::PANEL;
use super::plan::Plan;
use super::{Activation, LayerKind, LayerSpec, Shape};

/// Time of a gradient check in units of one operation of a convolution's product in `f64`. The factors were
/// fitted to the checks of about 600 random networks, with 1 to 256 rows on one thread. They are, for a
/// forward pass: an operation of a dense product; a value read or written; one with an exponential; one that
/// is normalised; one that is drawn at random; the outputs of a convolution summed together; a pixel of a
/// pooled output; and each operation of the plan.
const DENSE: f64 = 1.4;
const VALUE: f64 = 22.0;
const EXPONENTIAL: f64 = 125.0;
const NORMALISED: f64 = 32.0;
const DRAWN: f64 = 125.0;
const WINDOW: f64 = 73.0;
const POOLED: f64 = 560.0;
const STEP: f64 = 1_200.0;

/// Time per weight read, by an upper bound of the network's weights. These come from a core's own cache, from
/// a shared cache, or from memory.
const WEIGHT: [(f64, f64); 3] = [(6e4, 0.6), (1e6, 2.3), (f64::INFINITY, 13.4)];

/// Time of a backward pass relative to a forward pass; in addition, per operation of the plan; and per
/// parameter, whose gradient is summed over all rows.
const BACKWARD: f64 = 0.77;
const STEP_BACK: f64 = 147_000.0;
const GRADIENT: f64 = 73.0;

/// Columns of a product, and channels, that are processed together.
const COLUMNS: usize = 4;
const CHANNELS: usize = 8;

/// The cost of a pass in operations of equal time, so that memory-bound work counts as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassOperations {
    /// A forward pass.
    pub forward: f64,
    /// A forward and a backward pass.
    pub both: f64,
}

impl PassOperations {
    /// The cost of `rows` rows in a network of these layers with `parameters` parameters, as executed by
    /// `plan`. `shapes` are those of the values between the layers.
    pub fn new(plan: &Plan, layers: &[LayerSpec], shapes: &[Shape], parameters: f64, rows: usize) -> Self {
        let chunks = (plan.groups * plan.rows.div_ceil(plan.chunk_rows)) as f64;
        let (rows, length) = (rows as f64, |index: usize| shapes[index].len() as f64);
        let weights = |(layer, input): (&LayerSpec, &Shape)| match *layer {
            LayerSpec::Dense { units, .. } => input.len() as f64 * units.next_multiple_of(PANEL) as f64,
            _ => 0.0,
        };
        let all_weights: f64 = layers.iter().zip(shapes).map(weights).sum();
        let for_weight = WEIGHT.iter().find(|(most, _)| all_weights <= *most).map_or(0.0, |(_, read)| *read);
        let mut forward = VALUE * rows * length(0);
        for op in &plan.ops {
            let (index, outputs) = (op.layers.start, length(op.layers.end));
            let (input, output) = (shapes[index], shapes[index + 1]);
            let of_layer = match layers[index] {
                LayerSpec::Dense { units, .. } => {
                    let products = 2.0 * length(index) * units.next_multiple_of(COLUMNS) as f64;
                    let weights = weights((&layers[index], &input));
                    rows * (DENSE * products + VALUE * outputs) + chunks * for_weight * weights
                }
                LayerSpec::Conv2d { filters, kernel, .. } => {
                    let (places, columns) = (output.places() as f64, filters.next_multiple_of(COLUMNS));
                    let products = 2.0 * places * (kernel * kernel * input.channels * columns) as f64;
                    let windows = places * (columns / COLUMNS) as f64;
                    rows * (products + WINDOW * windows + VALUE * outputs)
                }
                layer => {
                    rows * layer.kind(input).map_or(0.0, |kind| operations_of_values(kind, input, output))
                }
            };
            forward += of_layer + STEP * chunks;
        }
        let steps = plan.ops.len() as f64 * chunks;
        let backward = BACKWARD * forward + STEP_BACK * steps + GRADIENT * parameters;
        Self { forward, both: forward + backward }
    }
}

/// The cost of one row in a layer without a product.
fn operations_of_values(layer: LayerKind, input: Shape, output: Shape) -> f64 {
    use Activation::{Gelu, LeakyRelu, Relu, Sigmoid, Tanh};
    let values = input.len() as f64;
    match layer {
        LayerKind::Pooling(_) => POOLED * output.places() as f64,
        LayerKind::BatchNorm { .. } => {
            NORMALISED * (input.places() * input.channels.next_multiple_of(CHANNELS)) as f64
        }
        LayerKind::Dropout(_) => DRAWN * values,
        LayerKind::Activation(Gelu | Sigmoid) => EXPONENTIAL * values,
        // tanh computes two exponentials.
        LayerKind::Activation(Tanh) => 2.0 * EXPONENTIAL * values,
        LayerKind::Activation(Relu | LeakyRelu) | LayerKind::Flatten => 0.0,
        LayerKind::Dense { .. } | LayerKind::Conv2d { .. } => 0.0,
    }
}
