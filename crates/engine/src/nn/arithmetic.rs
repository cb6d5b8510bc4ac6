use super::kernel::PANEL;
use super::plan::Plan;
use super::{Activation, LayerKind, LayerSpec, Shape};

/// Operations that take as long as one of a convolution's product in `f64`, fitted to the gradient checks of some 600 networks
/// drawn at random, with 1 to 256 rows on one thread. Of a pass forward: for an operation of a dense product, a value that is
/// read or written, one with an exponential, one that is normalised and one that is drawn at random; for the outputs of a
/// convolution that are summed together, for a place of squares that are pooled, and for a step of the plan at all.
const DENSE: f64 = 1.4;
const VALUE: f64 = 22.0;
const EXPONENTIAL: f64 = 125.0;
const NORMALISED: f64 = 32.0;
const DRAWN: f64 = 125.0;
const WINDOW: f64 = 73.0;
const POOLED: f64 = 560.0;
const STEP: f64 = 1_200.0;

/// The same for a weight that is read, where all weights of a network are at most so many: they come from a core's own cache,
/// from one that cores share, or from memory.
const WEIGHT: [(f64, f64); 3] = [(6e4, 0.6), (1e6, 2.3), (f64::INFINITY, 13.4)];

/// How much longer a pass backward takes than one forward; besides, for a step of the plan, and for the gradient of a parameter,
/// which is summed over all rows.
const BACKWARD: f64 = 0.77;
const STEP_BACK: f64 = 147_000.0;
const GRADIENT: f64 = 73.0;

/// Columns of a product, and channels, that are worked on together.
const COLUMNS: usize = 4;
const CHANNELS: usize = 8;

/// What a pass of some rows costs, in operations of equal time, so that what is bound by memory counts as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassOperations {
    /// A pass forward.
    pub forward: f64,
    /// A pass forward and one backward.
    pub both: f64,
}

impl PassOperations {
    /// Those of `rows` rows through a network of these layers with so many `parameters`, as `plan`, which was made for them,
    /// has it. `shapes` are those of the values between the layers.
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

/// For a row of a layer without a product.
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
        // Of two.
        LayerKind::Activation(Tanh) => 2.0 * EXPONENTIAL * values,
        LayerKind::Activation(Relu | LeakyRelu) | LayerKind::Flatten => 0.0,
        LayerKind::Dense { .. } | LayerKind::Conv2d { .. } => 0.0,
    }
}
