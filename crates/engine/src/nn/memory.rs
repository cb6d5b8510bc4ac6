use super::kernel::{LANES_MAX, PANEL, POOL, SPAN};
use super::plan::{Op, Plan};
use super::shape::Window;
use super::{LayerKind, LayerSpec, Padding, Shape};

/// Numbers that a workspace for `plan` holds besides the gradients, before it is made: in `f64`, since layers
/// can be asked for that no integer counts. `shapes` are those of the values between the layers, `states` the
/// tensors that the optimiser keeps for a parameter.
pub fn numbers_of_a_step(plan: &Plan, layers: &[LayerSpec], shapes: &[Shape], states: usize) -> f64 {
    let chunk = |is_kept: bool| if is_kept { plan.rows } else { plan.chunk_rows } as f64;
    let is_dense = |index: usize| layers.get(index).is_some_and(|layer| layer.kind() == LayerKind::Dense);
    let is_in_sparse = |index: usize| plan.is_sparse && index <= plan.first;
    let length = |index: usize| shapes[index].len() as f64;
    let mut group = 0.0;
    let mut packed = 0.0;
    let rows = (plan.groups * plan.rows) as f64;
    if plan.is_sparse {
        // The inputs as numbers, as bytes, and a bit for each, by row and by column.
        packed += length(0) * (1.25 * rows + 2.0 * rows.max(64.0) / 32.0);
    }
    for index in 0..shapes.len() {
        if !is_in_sparse(index) && !plan.is_inside(index) {
            group += length(index) * chunk(plan.is_kept(index) || is_dense(index));
        }
        if index > plan.first && !plan.is_inside(index) {
            group += length(index) * chunk(plan.is_gradient_kept(index) || is_dense(index - 1));
        }
    }
    for op in &plan.ops {
        let index = op.layers().start;
        let (input, output, outputs) = (shapes[index], shapes[index + 1], length(op.layers().end));
        let with_gradient = index > plan.first;
        match (*op, layers[index]) {
            (Op::NormPool(_) | Op::NormRelu(_), _) => group += outputs * chunk(true),
            (Op::ConvPool(_), LayerSpec::Conv2d { filters, kernel, padding, stride, .. }) => {
                let filters_len = filters as f64;
                let inputs = (kernel * kernel * input.channels) as f64;
                let span = (kernel * input.channels).next_multiple_of(LANES_MAX);
                let padded = (kernel * span) as f64 * filters_len;
                let image =
                    Window::new(input, kernel, stride, padding).map_or(0, |window| window.padded.len());
                let squares = (output.height / POOL * (output.width / POOL)) as f64;
                let images = plan.chunk_rows as f64;
                // The images with their borders, the lists of what is alive, dW, and the routes.
                group += (images + 1.0) * (image + LANES_MAX) as f64 + 2.0 * images * squares * filters_len;
                group += padded + outputs * chunk(plan.is_kept(op.layers().end));
                packed += inputs * padded_columns(filters) + if with_gradient { padded } else { 0.0 };
            }
            (_, LayerSpec::Conv2d { filters, kernel, padding, stride, .. }) => {
                let area = (kernel * kernel) as f64;
                let image =
                    Window::new(input, kernel, stride, padding).map_or(0, |window| window.padded.len());
                let is_padded = padding == Padding::Same;
                group += image as f64 * if is_padded { 2.0 } else { 1.0 };
                group += area * (input.channels * filters) as f64;
                if !filters.is_multiple_of(16) {
                    group += output.places() as f64 * padded_columns(filters);
                }
                packed += area * input.channels as f64 * padded_columns(filters);
                packed +=
                    if with_gradient { area * filters as f64 * padded_columns(input.channels) } else { 0.0 };
            }
            (_, LayerSpec::Dense { units, .. }) if is_in_sparse(index) => {
                // y, dy and dW of a span; W, dW and the state.
                packed += padded_columns(units) * (2.0 * rows + SPAN as f64);
                packed += length(index) * padded_columns(units) * (2 + states) as f64;
            }
            (_, LayerSpec::Dense { units, .. }) => {
                group += chunk(true) * padded_columns(units);
                packed += length(index) * padded_columns(units);
                packed += if with_gradient { units as f64 * padded_columns(input.len()) } else { 0.0 };
            }
            (_, LayerSpec::Dropout { .. }) => group += outputs * chunk(plan.is_kept(index)),
            _ => {}
        }
    }
    packed + plan.groups as f64 * group
}

/// Numbers that a [`Tape`](super::Tape) of `rows` rows holds besides the gradients of the parameters, before it is made; as
/// [`numbers_of_a_step`] is for a workspace.
pub fn numbers_of_a_tape(layers: &[LayerSpec], shapes: &[Shape], rows: usize, errors_from: usize) -> f64 {
    let (mut packed, mut scratch) = (0.0, 0f64);
    for (index, layer) in layers.iter().enumerate() {
        let (input, output, with_error) = (shapes[index], shapes[index + 1], index >= errors_from);
        match *layer {
            LayerSpec::Dense { units, .. } => {
                packed += input.len() as f64 * padded_columns(units);
                packed += if with_error { units as f64 * padded_columns(input.len()) } else { 0.0 };
            }
            LayerSpec::Conv2d { filters, kernel, padding, stride, .. } => {
                let area = (kernel * kernel) as f64;
                packed += area * input.channels as f64 * padded_columns(filters);
                packed +=
                    if with_error { area * filters as f64 * padded_columns(input.channels) } else { 0.0 };
                let image =
                    Window::new(input, kernel, stride, padding).map_or(0, |window| window.padded.len());
                scratch = scratch.max(2.0 * image as f64 + output.places() as f64 * padded_columns(filters));
            }
            _ => {}
        }
    }
    let values = |shapes: &[Shape]| rows as f64 * shapes.iter().map(|shape| shape.len() as f64).sum::<f64>();
    packed + scratch + values(shapes) + values(shapes.get(errors_from..).unwrap_or_default())
}

/// Columns of a packed matrix.
fn padded_columns(columns: usize) -> f64 {
    columns.next_multiple_of(PANEL) as f64
}
