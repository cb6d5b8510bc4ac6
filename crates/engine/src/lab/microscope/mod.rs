mod worked;

use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, Passes, check_stopped};
use super::trace::dscores;
use crate::nn::{
    Float, LayerSpec, Loss, LossKind, Network, Shape, Stopped, Tape, UnitPath, central_difference,
    relative_error, strongest_paths,
};

/// The chain rule for one parameter of a network on one image. Each use of the parameter contributes the product of its
/// input and the error of its output. `∂L/∂w` is the sum of these products.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Microscope {
    /// The layer, such as `0.dense`.
    pub layer: String,
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Index in the tensor, one number per axis.
    pub index: Vec<usize>,
    /// The value of the parameter.
    pub value: f64,
    /// The true class of the image.
    pub label: usize,
    /// The loss of the image.
    pub loss: f64,
    /// `∂L/∂w` by backpropagation.
    pub gradient: f64,
    /// `(L(w + h) − L(w − h)) / 2h`. `None` at or close to a kink of relu or max-pooling.
    pub numerical: Option<f64>,
    /// See [`relative_error`]. `None` without `numerical`.
    pub relative_error: Option<f64>,
    /// Number of uses of the parameter.
    pub uses: usize,
    /// Number of uses whose input and error are both different from 0.
    pub reached: usize,
    /// The uses with the largest products. There is at least one.
    pub terms: Vec<Term>,
    /// The paths from the parameter to the loss with the largest products.
    pub paths: Vec<PathTrace>,
    /// The whole calculation as text.
    pub text: String,
}

/// One use of the parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Index of the output value that it contributes to.
    pub output: Vec<usize>,
    /// The value that the parameter is multiplied by. It is 1 for a bias.
    pub input: f64,
    /// `∂L/∂output`.
    pub error: f64,
    /// `input · error`.
    pub product: f64,
}

/// A path from the parameter to the loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathTrace {
    /// The product of all local derivatives, which is the share of this path in the gradient.
    pub product: f64,
    /// The values on the path.
    pub steps: Vec<PathStep>,
}

/// A value on a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathStep {
    /// The layer whose output it is, or `loss`.
    pub layer: String,
    /// Index in that output.
    pub unit: Vec<usize>,
    /// The element of the output at that index, or the loss.
    pub value: f64,
    /// Its derivative with respect to the previous value on the path.
    pub local: f64,
}

/// The position of a parameter in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterPlace {
    /// Index of the layer.
    pub layer: usize,
    /// Whether it is a bias, and not a weight.
    pub is_bias: bool,
    /// Index in the tensor, one number per axis.
    pub index: Vec<usize>,
}

/// Largest number of terms and of paths in the answer.
const TERMS_SHOWN: usize = 10;
const PATHS_SHOWN: usize = 5;

/// Largest number of axes of an invalid index that the message repeats.
const AXES_SHOWN: usize = 6;

impl ParameterPlace {
    /// The parameter of this layer at `index`, which has one number per axis, or a single one in row-major
    /// order.
    ///
    /// # Errors
    /// The name of the invalid field, and the reason.
    pub fn new<T: Float>(
        network: &Network<T>,
        layer: usize,
        is_bias: bool,
        index: &[usize],
    ) -> Result<Self, (&'static str, String)> {
        let found = &network.layers()[layer];
        let name = network.layer_name(layer);
        let (_, bias) = found.parameters().ok_or_else(|| ("layer", format!("{name} has no parameters")))?;
        let shape = if is_bias { vec![bias.len()] } else { found.weight_shape() };
        let tensor = if is_bias { "bias" } else { "weight" };
        let places: usize = shape.iter().product();
        let index = match *index {
            [flat] if flat < places && shape.len() != 1 => unravelled(flat, &shape),
            _ => index.to_vec(),
        };
        if index.len() != shape.len() || index.iter().zip(&shape).any(|(at, length)| at >= length) {
            let more = if index.len() > AXES_SHOWN { ", …" } else { "" };
            let index: Vec<String> = index.iter().take(AXES_SHOWN).map(usize::to_string).collect();
            let index = index.join(", ");
            let detail = format!(
                "[{index}{more}] is not an index in the {tensor} of {name}, whose shape is {shape:?}"
            );
            return Err(("index", detail));
        }
        Ok(Self { layer, is_bias, index })
    }

    /// Row and column in the weight matrix. The row of a bias is `None`.
    fn row_and_column(&self, shape: &[usize]) -> (Option<usize>, usize) {
        match (self.is_bias, self.index.as_slice()) {
            (true, [column]) => (None, *column),
            (false, [channel]) => (Some(0), *channel),
            (_, index) => {
                let (last, rest) = index.split_last().expect("an index has one number per axis");
                let row = rest.iter().zip(shape).fold(0, |row, (at, length)| row * length + at);
                (Some(row), *last)
            }
        }
    }
}

/// Converts an index in row-major order to one number per axis.
fn unravelled(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, length) in index.iter_mut().zip(shape).rev() {
        *at = flat % length;
        flat /= length;
    }
    index
}

/// Largest number of passes of a central difference.
const PASSES_MAX: f64 = 10.0;

/// Bytes per value for its list of strongest paths. The capacity of a list is a power of two.
const PATH_LIST_BYTES: f64 = 24.0 + 32.0 * PATHS_SHOWN.next_power_of_two() as f64;

/// The cost of [`microscope`].
pub fn microscope_cost(input: Shape, layers: &[LayerSpec], place: &ParameterPlace) -> AnswerCost {
    let passes = Passes::of(input, layers);
    let flops = passes.forward() * (1.0 + PASSES_MAX)
        + passes.errors(place.layer + 1)
        + EDGE_FLOPS * passes.forward();
    let held = passes.parameters() + passes.tape(1, place.layer + 1) + 2.0 * passes.values();
    let held = size_of::<f64>() as f64 * held + PATH_LIST_BYTES * passes.values_from(place.layer + 1);
    let text = layers.len() as f64 * FIELDS_BYTES * PATHS_SHOWN as f64 + 4.0 * FIELDS_BYTES;
    AnswerCost { flops, memory_bytes: held, answer_bytes: 0.0 }.then(AnswerCost::of_text(text))
}

/// Operations per edge to find the strongest paths, relative to the operations of a pass.
const EDGE_FLOPS: f64 = 10.0;

/// Works out the chain rule for the parameter at `place` on an image with values from 0 to 1, in `f64`. `go_on` is
/// called before each pass, and the work stops if it returns false.
///
/// # Errors
/// If `go_on` returns false.
pub fn microscope(
    network: &Network<f32>,
    kind: LossKind,
    (image, label): (&[f32], u16),
    place: &ParameterPlace,
    go_on: &dyn Fn() -> bool,
) -> Result<Microscope, Stopped> {
    let image: Vec<f64> = image.iter().copied().map(f64::from).collect();
    let mut network: Network<f64> = network.converted();
    check_stopped(go_on)?;
    let mut tape = Tape::new(&network, place.layer + 1);
    tape.pass_image(&network, &image);
    let (dscores, loss) = dscores(&tape, kind, label);
    check_stopped(go_on)?;
    tape.backward_errors(&network, dscores);
    let position = place.row_and_column(&network.layers()[place.layer].weight_shape());
    let uses = uses(&network, &tape, place.layer, position);
    let mut terms = terms(&network, &tape, place.layer, &uses);
    let gradient = terms.iter().map(|term| term.product).sum();
    terms.sort_by(|a, b| b.product.abs().total_cmp(&a.product.abs()));
    let reached = terms.iter().filter(|term| term.product != 0.0).count();
    terms.truncate(TERMS_SHOWN.min(reached.max(1)));
    check_stopped(go_on)?;
    let paths = strongest_paths(&network, &tape, place.layer, uses.iter().copied(), PATHS_SHOWN);
    let paths = paths.iter().map(|path| path_trace(&network, &tape, place, path, loss)).collect();
    let value = *parameter(&mut network, place.layer, position);
    let mut is_stopped = false;
    let numerical = central_difference(loss, |step| {
        is_stopped = is_stopped || !go_on();
        if is_stopped {
            return f64::NAN;
        }
        *parameter(&mut network, place.layer, position) = value + step;
        Loss::new(kind).forward(tape.forward_from(&network, place.layer), &[label])
    });
    if is_stopped {
        return Err(Stopped);
    }
    let mut found = Microscope {
        layer: network.layer_name(place.layer),
        parameter: if place.is_bias { "bias" } else { "weight" },
        index: place.index.clone(),
        value,
        label: usize::from(label),
        loss,
        gradient,
        numerical,
        relative_error: numerical.map(|numerical| relative_error(gradient, numerical)),
        uses: uses.len(),
        reached,
        terms,
        paths,
        text: String::new(),
    };
    found.text = found.worked();
    Ok(found)
}

/// The uses of the parameter of layer `layer` at `row` and `column`: the index of the output, and what the parameter is
/// multiplied with.
fn uses(
    network: &Network<f64>,
    tape: &Tape<f64>,
    layer: usize,
    (row, column): (Option<usize>, usize),
) -> Vec<(usize, f64)> {
    let values: Vec<f64> = tape.values[layer].iter().copied().collect();
    let outputs = tape.errors[layer + 1].len();
    let layer = &network.layers()[layer];
    let mut uses = Vec::new();
    layer.for_each_use(row, column, outputs, |from, to| {
        uses.push((to, from.map_or(1.0, |from| layer.factor(&values, from, column))));
    });
    uses
}

/// The term of the gradient for each of `uses`, in the same order.
fn terms(network: &Network<f64>, tape: &Tape<f64>, layer: usize, uses: &[(usize, f64)]) -> Vec<Term> {
    let errors: Vec<f64> = tape.errors[layer + 1].iter().copied().collect();
    let shape = super::trace::dimensions(network.shapes()[layer + 1]);
    let term = |&(to, input): &(usize, f64)| Term {
        output: unravelled(to, &shape),
        input,
        error: errors[to],
        product: input * errors[to],
    };
    uses.iter().map(term).collect()
}

/// The element of the network at `row` and `column`.
fn parameter(network: &mut Network<f64>, layer: usize, (row, column): (Option<usize>, usize)) -> &mut f64 {
    let (weight, bias) = network.layers_mut()[layer].parameters_mut().expect("a layer with parameters");
    match row {
        Some(row) => &mut weight[[row, column]],
        None => &mut bias[column],
    }
}

/// Converts a path to the values on it, each with its local derivative.
fn path_trace(
    network: &Network<f64>,
    tape: &Tape<f64>,
    place: &ParameterPlace,
    path: &UnitPath<f64>,
    loss: f64,
) -> PathTrace {
    let mut steps: Vec<PathStep> = Vec::new();
    for (layer, (&unit, &local)) in (place.layer..).zip(path.units.iter().zip(&path.locals)) {
        steps.push(PathStep {
            layer: network.layer_name(layer),
            unit: unravelled(unit, &super::trace::dimensions(network.shapes()[layer + 1])),
            value: tape.values[layer + 1][[0, unit]],
            local,
        });
    }
    let local = path.locals[path.units.len()];
    steps.push(PathStep { layer: "loss".to_owned(), unit: Vec::new(), value: loss, local });
    PathTrace { product: path.product, steps }
}
