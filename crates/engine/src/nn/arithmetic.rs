use super::plan::Plan;
use super::{LayerSpec, Shape, kinds};

// Costs of a forward pass. The unit is the time of one operation of a convolution's product in `f64`. The factors were
// fitted to gradient checks of about 600 random networks, with 1 to 256 rows on one thread.

/// One operation of a dense product.
pub(super) const DENSE: f64 = 1.4;
/// One value read or written.
pub(super) const VALUE: f64 = 22.0;
/// One exponential.
pub(super) const EXPONENTIAL: f64 = 125.0;
/// One normalised value.
pub(super) const NORMALISED: f64 = 32.0;
/// One random value.
pub(super) const DRAWN: f64 = 125.0;
/// [`COLUMNS`] outputs of a convolution, which are summed together.
pub(super) const WINDOW: f64 = 73.0;
/// One pixel of a pooled output.
pub(super) const POOLED_PIXEL: f64 = 560.0;
/// One operation of the plan, for one chunk of rows.
const STEP: f64 = 1_200.0;

/// Largest number of weights of a network, and the cost of reading one weight. The weights are read from a core's own
/// cache, from a shared cache, or from memory.
const WEIGHT: [(f64, f64); 3] = [(6e4, 0.6), (1e6, 2.3), (f64::INFINITY, 13.4)];

/// Cost of a backward pass relative to a forward pass.
const BACKWARD: f64 = 0.77;
/// Additional cost of a backward pass, for one operation of the plan and one chunk of rows.
const STEP_BACK: f64 = 147_000.0;
/// Additional cost of a backward pass for one parameter, whose gradient is summed over all rows.
const GRADIENT: f64 = 73.0;

/// Columns of a product that are processed together.
pub(super) const COLUMNS: usize = 4;
/// Channels of a normalisation that are processed together.
pub(super) const CHANNELS: usize = 8;

/// The cost of a pass in operations that all take the same time. Memory-bound work is included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassOperations {
    /// A forward pass.
    pub forward: f64,
    /// A forward and a backward pass.
    pub both: f64,
}

impl PassOperations {
    /// The cost of `rows` rows in a network with these layers and `parameters` parameters, executed according to
    /// `plan`. `shapes` contains the input shape of each layer, and the shape of the scores.
    pub fn new(plan: &Plan, layers: &[LayerSpec], shapes: &[Shape], parameters: f64, rows: usize) -> Self {
        let chunks = (plan.groups * plan.rows.div_ceil(plan.chunk_rows)) as f64;
        let (rows, length) = (rows as f64, |index: usize| shapes[index].len() as f64);
        let kinds = kinds(layers, shapes);
        let all_weights: f64 = kinds.iter().map(|kind| kind.weights_read()).sum();
        let for_weight = WEIGHT.iter().find(|(most, _)| all_weights <= *most).map_or(0.0, |(_, read)| *read);
        let mut forward = VALUE * rows * length(0);
        for op in &plan.ops {
            let index = op.layers.start;
            let (kind, input, output) = (kinds[index], shapes[index], shapes[index + 1]);
            let values = kind.operations(input, output, length(op.layers.end));
            let weights = chunks * for_weight * kind.weights_read();
            forward += rows * values + weights + STEP * chunks;
        }
        let steps = plan.ops.len() as f64 * chunks;
        let backward = BACKWARD * forward + STEP_BACK * steps + GRADIENT * parameters;
        Self { forward, both: forward + backward }
    }
}
