mod worked;

use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, Passes, asked};
use super::trace::dscores;
use crate::nn::{
    Float, Layer, LayerSpec, Loss, LossKind, Network, Shape, Stopped, Tape, UnitPath, central_difference,
    relative_error, strongest_paths,
};

/// The chain rule for one parameter of a network on one image: `∂L/∂w` is the value that enters it times the error
/// that reaches it, summed over the places where it is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Microscope {
    /// Its layer, as `0.dense`.
    pub layer: String,
    /// `weight` or `bias`.
    pub parameter: &'static str,
    /// Its place in the tensor.
    pub index: Vec<usize>,
    /// The parameter itself.
    pub value: f64,
    /// The class the image should be.
    pub label: usize,
    /// The loss.
    pub loss: f64,
    /// `∂L/∂w` by backpropagation.
    pub gradient: f64,
    /// `(L(w + h) − L(w − h)) / 2h`; none on a kink of relu or max-pooling or too near one.
    pub numerical: Option<f64>,
    /// See [`relative_error`].
    pub relative_error: Option<f64>,
    /// Places where it is used.
    pub uses: usize,
    /// Places where neither what enters nor the error that comes back is 0.
    pub reached: usize,
    /// The strongest of them, one at least.
    pub terms: Vec<Term>,
    /// The strongest paths from it to the loss.
    pub paths: Vec<PathTrace>,
    /// All of this as a teacher would write it.
    pub text: String,
}

/// One use of the parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Of what comes out of its layer, the value it is used for.
    pub output: Vec<usize>,
    /// The value that enters it: 1 for a bias.
    pub input: f64,
    /// `∂L/∂output`.
    pub error: f64,
    /// `input · error`.
    pub product: f64,
}

/// One way from the parameter to the loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathTrace {
    /// The product of all local derivatives: this path's part of the gradient.
    pub product: f64,
    /// What it passes.
    pub steps: Vec<PathStep>,
}

/// One value on a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathStep {
    /// The layer it comes out of, or `loss`.
    pub layer: String,
    /// Its place there.
    pub unit: Vec<usize>,
    /// The value.
    pub value: f64,
    /// `∂value/∂(the value before it on the path)`.
    pub local: f64,
}

/// A parameter of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterPlace {
    /// Place of the layer.
    pub layer: usize,
    /// Whether it is a bias.
    pub is_bias: bool,
    /// Place in the tensor.
    pub index: Vec<usize>,
}

/// What of the strongest is told.
const TERMS_TOLD: usize = 10;
const PATHS_TOLD: usize = 5;

/// Axes of a wrong index that are repeated.
const AXES_SHOWN: usize = 6;

impl ParameterPlace {
    /// The parameter of this layer, `weight` or `bias`, at `index`: the place along each axis, or in row order.
    ///
    /// # Errors
    /// The name of the field at fault, and why.
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
            let detail =
                format!("[{index}{more}] is no place in the {tensor} of {name}, whose shape is {shape:?}");
            return Err(("index", detail));
        }
        Ok(Self { layer, is_bias, index })
    }

    /// Row and column of the weight, or the column of the bias.
    fn row_and_column(&self, shape: &[usize]) -> (Option<usize>, usize) {
        match (self.is_bias, self.index.as_slice()) {
            (true, [column]) => (None, *column),
            (false, [channel]) => (Some(0), *channel),
            (_, index) => {
                let (last, rest) = index.split_last().expect("as many places as axes");
                let row = rest.iter().zip(shape).fold(0, |row, (at, length)| row * length + at);
                (Some(row), *last)
            }
        }
    }
}

/// The place along each axis of a place in row order.
fn unravelled(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, length) in index.iter_mut().zip(shape).rev() {
        *at = flat % length;
        flat /= length;
    }
    index
}

/// Passes of a central difference at most, of the smallest and the largest.
const PASSES_MAX: f64 = 10.0;

/// Bytes of what is kept of the ways on from a value: a list with room for more than are told.
const WAYS_BYTES: f64 = 24.0 + 32.0 * PATHS_TOLD.next_power_of_two() as f64;

/// What a microscope takes.
pub fn microscope_cost(input: Shape, layers: &[LayerSpec], place: &ParameterPlace) -> AnswerCost {
    let passes = Passes::of(input, layers);
    let flops = passes.forward() * (1.0 + PASSES_MAX)
        + passes.errors(place.layer + 1)
        + EDGE_FLOPS * passes.forward();
    let held = passes.parameters() + passes.tape(1, place.layer + 1) + 2.0 * passes.values();
    let held = size_of::<f64>() as f64 * held + WAYS_BYTES * passes.values_from(place.layer + 1);
    let text = layers.len() as f64 * FIELDS_BYTES * PATHS_TOLD as f64 + 4.0 * FIELDS_BYTES;
    AnswerCost { flops, memory_bytes: held, answer_bytes: 0.0 }.then(AnswerCost::of_text(text))
}

/// Operations for the strongest ways through an edge, for each operation of a pass.
const EDGE_FLOPS: f64 = 10.0;

/// The chain rule for the parameter at `place`, on an image of pixel / 255, in `f64`, as long as `go_on`, asked before each
/// pass, says yes.
///
/// # Errors
/// If it says no.
pub fn microscope(
    network: &Network<f32>,
    kind: LossKind,
    (image, label): (&[f32], u16),
    place: &ParameterPlace,
    go_on: &dyn Fn() -> bool,
) -> Result<Microscope, Stopped> {
    let image: Vec<f64> = image.iter().copied().map(f64::from).collect();
    let mut network: Network<f64> = network.converted();
    asked(go_on)?;
    let mut tape = Tape::new(&network, place.layer + 1);
    tape.pass_image(&network, &image);
    let (dscores, loss) = dscores(&tape, kind, label);
    asked(go_on)?;
    tape.backward_errors(&network, dscores);
    let layer = &network.layers()[place.layer];
    let (row, column) = place.row_and_column(&layer.weight_shape());
    let values: Vec<f64> = tape.values[place.layer].iter().copied().collect();
    let errors: Vec<f64> = tape.errors[place.layer + 1].iter().copied().collect();
    let mut uses = Vec::new();
    layer.for_each_use(row, column, errors.len(), |from, to| {
        let input = match (layer, from) {
            (_, None) => 1.0,
            (Layer::BatchNorm(norm), Some(at)) => {
                (values[at] - norm.running_mean[column]) / norm.running_deviations()[column]
            }
            (_, Some(at)) => values[at],
        };
        uses.push((to, input));
    });
    let shape = super::trace::dimensions(network.shapes()[place.layer + 1]);
    let mut terms: Vec<Term> = uses
        .iter()
        .map(|&(to, input)| Term {
            output: unravelled(to, &shape),
            input,
            error: errors[to],
            product: input * errors[to],
        })
        .collect();
    let gradient = terms.iter().map(|term| term.product).sum();
    terms.sort_by(|a, b| b.product.abs().total_cmp(&a.product.abs()));
    let reached = terms.iter().filter(|term| term.product != 0.0).count();
    terms.truncate(TERMS_TOLD.min(reached.max(1)));
    asked(go_on)?;
    let paths = strongest_paths(&network, &tape, place.layer, uses.iter().copied(), PATHS_TOLD);
    let paths = paths.iter().map(|path| told(&network, &tape, place, path, loss)).collect();
    let value = *parameter(&mut network, place.layer, (row, column));
    let mut is_stopped = false;
    let numerical = central_difference(loss, |step| {
        is_stopped = is_stopped || !go_on();
        if is_stopped {
            return f64::NAN;
        }
        *parameter(&mut network, place.layer, (row, column)) = value + step;
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

/// The parameter itself.
fn parameter(network: &mut Network<f64>, layer: usize, (row, column): (Option<usize>, usize)) -> &mut f64 {
    let (weight, bias) = network.layers_mut()[layer].parameters_mut().expect("a layer with parameters");
    match row {
        Some(row) => &mut weight[[row, column]],
        None => &mut bias[column],
    }
}

/// The values on a path with the local derivative of each.
fn told(
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
