use super::kernel::PANEL;
use super::plan::{Op, Plan};
use super::{LayerKind, LayerSpec, PoolingKind, Shape};

/// Operations that take as long as one of a convolution's product in `f64`, fitted to passes of some forty networks with 1 to
/// 256 rows on one thread: for an operation of a dense product, a value that is written, one with an exponential, one that
/// is normalised, one that is drawn at random, and for a value and a place of the squares that are pooled.
const DENSE: f64 = 2.0;
const VALUE: f64 = 15.0;
const EXPONENTIAL: f64 = 50.0;
const NORMALISED: f64 = 40.0;
const DRAWN: f64 = 300.0;
const POOLED: f64 = 5.0;
const POOLED_PLACE: f64 = 600.0;

/// The same for a weight that is read, where all weights of a network are at most so many: they come from a core's own cache,
/// from one that cores share, or from memory.
const WEIGHT: [(f64, f64); 3] = [(1e5, 3.0), (2e6, 10.0), (f64::INFINITY, 22.0)];

/// For a pass at all.
const PASS: f64 = 30_000.0;

/// Columns of a product that are summed together.
const COLUMNS: usize = 8;

/// What a pass forward of `rows` rows through a network costs as `plan`, which was made for them, has it: in operations of
/// equal time, so that what is bound by memory counts as well. `shapes` are those of the values between the layers.
pub fn operations_of_a_pass(plan: &Plan, layers: &[LayerSpec], shapes: &[Shape], rows: usize) -> f64 {
    let chunks = (plan.groups * plan.rows.div_ceil(plan.chunk_rows)) as f64;
    let (rows, length) = (rows as f64, |index: usize| shapes[index].len() as f64);
    let weights = |(layer, input): (&LayerSpec, &Shape)| match *layer {
        LayerSpec::Dense { units, .. } => input.len() as f64 * units.next_multiple_of(PANEL) as f64,
        _ => 0.0,
    };
    let all_weights: f64 = layers.iter().zip(shapes).map(weights).sum();
    let for_weight = WEIGHT.iter().find(|(most, _)| all_weights <= *most).map_or(0.0, |(_, read)| *read);
    let mut operations = PASS + VALUE * rows * length(0);
    for op in &plan.ops {
        let (index, outputs) = (op.layers().start, length(op.layers().end));
        let (input, output) = (shapes[index], shapes[index + 1]);
        let (written, of_layer) = match (*op, layers[index]) {
            (Op::NormRelu(_) | Op::NormPool(_), _) => (outputs, rows * NORMALISED * length(index)),
            (_, LayerSpec::Dense { units, .. }) => {
                let products = 2.0 * length(index) * units.next_multiple_of(COLUMNS) as f64;
                let weights = weights((&layers[index], &input));
                (outputs, rows * DENSE * products + chunks * for_weight * weights)
            }
            (_, LayerSpec::Conv2d { filters, kernel, .. }) => {
                let taps = (kernel * kernel * input.channels * output.places()) as f64;
                // The image is written once more, with its border.
                let products = 2.0 * taps * filters.next_multiple_of(COLUMNS) as f64;
                (outputs + length(index), rows * products)
            }
            (_, layer) => (outputs, rows * operations_of_values(layer.kind(), input)),
        };
        operations += of_layer + VALUE * rows * written;
    }
    operations
}

/// For a row of a layer without a product, besides what it writes.
fn operations_of_values(layer: LayerKind, input: Shape) -> f64 {
    use super::Activation::{Gelu, LeakyRelu, Relu, Sigmoid, Tanh};
    let values = input.len() as f64;
    match layer {
        LayerKind::Pooling { kind: PoolingKind::Max | PoolingKind::Average, .. } => {
            POOLED * values + POOLED_PLACE * input.places() as f64
        }
        LayerKind::BatchNorm => NORMALISED * values,
        LayerKind::Dropout => DRAWN * values,
        LayerKind::Activation(Gelu | Sigmoid | Tanh) => EXPONENTIAL * values,
        LayerKind::Activation(Relu | LeakyRelu) | LayerKind::Flatten => 0.0,
        LayerKind::Dense | LayerKind::Conv2d => 0.0,
    }
}
