use serde::Serialize;

use super::number::{factor, number};
use super::trace::{loss_of, passed};
use crate::nn::{Layer, Network, Path, Tape, strongest_paths};

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
    /// Cross-entropy.
    pub loss: f64,
    /// `∂L/∂w` by backpropagation.
    pub gradient: f64,
    /// `(L(w + h) − L(w − h)) / 2h`.
    pub numerical: f64,
    /// `|gradient − numerical| / max(|gradient|, |numerical|, 10⁻⁴)`.
    pub relative_error: f64,
    /// Places where it is used.
    pub uses: usize,
    /// The strongest of them that are not 0.
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

/// Half the distance of the central difference, see [`gradient_check`](crate::nn::gradient_check).
const STEP: f64 = 1e-5;

impl ParameterPlace {
    /// The parameter of this layer, `weight` or `bias`, at `index`: the place along each axis, or in row order.
    ///
    /// # Errors
    /// The name of the field at fault, and why.
    pub fn new(
        network: &Network<f64>,
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
            return Err((
                "index",
                format!("{index:?} is no place in the {tensor} of {name}, whose shape is {shape:?}"),
            ));
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

/// The chain rule for the parameter at `place`, on an image of pixel / 255.
pub fn microscope(network: &Network<f64>, image: Vec<f64>, label: u8, place: &ParameterPlace) -> Microscope {
    let (mut tape, loss) = passed(network, image, label);
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
    terms.retain(|term| term.product != 0.0);
    terms.truncate(TERMS_TOLD);
    let paths = strongest_paths(network, &tape, place.layer, uses.iter().copied(), PATHS_TOLD);
    let paths = paths.iter().map(|path| told(network, &tape, place, path, loss)).collect();
    let value = parameter(&mut network.clone(), place, (row, column), 0.0);
    let numerical = numerical(network, &mut tape, place, (row, column), label);
    let mut found = Microscope {
        layer: network.layer_name(place.layer),
        parameter: if place.is_bias { "bias" } else { "weight" },
        index: place.index.clone(),
        value,
        label: usize::from(label),
        loss,
        gradient,
        numerical,
        relative_error: (gradient - numerical).abs() / gradient.abs().max(numerical.abs()).max(1e-4),
        uses: uses.len(),
        terms,
        paths,
        text: String::new(),
    };
    found.text = found.worked();
    found
}

/// The parameter once `step` is added to it.
fn parameter(
    network: &mut Network<f64>,
    place: &ParameterPlace,
    (row, column): (Option<usize>, usize),
    step: f64,
) -> f64 {
    let (weight, bias) = network.layers_mut()[place.layer].parameters_mut().expect("a layer with parameters");
    let value = match row {
        Some(row) => &mut weight[[row, column]],
        None => &mut bias[column],
    };
    *value += step;
    *value
}

fn numerical(
    network: &Network<f64>,
    tape: &mut Tape<f64>,
    place: &ParameterPlace,
    at: (Option<usize>, usize),
    label: u8,
) -> f64 {
    let mut moved = network.clone();
    let mut loss_at = |step: f64| {
        parameter(&mut moved, place, at, step);
        loss_of(tape.forward_from(&moved, place.layer), label)
    };
    let above = loss_at(STEP);
    let below = loss_at(-2.0 * STEP);
    (above - below) / (2.0 * STEP)
}

/// The values on a path with the local derivative of each.
fn told(
    network: &Network<f64>,
    tape: &Tape<f64>,
    place: &ParameterPlace,
    path: &Path<f64>,
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

impl Microscope {
    fn worked(&self) -> String {
        let place = |index: &[usize]| index.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let name = if self.parameter == "bias" { "b" } else { "w" };
        let own = format!("∂L/∂{name}[{}]", place(&self.index));
        let mut text = format!(
            "{} of {}, {name}[{}] = {}, for an image of class {}: L = {}\n",
            self.parameter,
            self.layer,
            place(&self.index),
            number(self.value),
            self.label,
            number(self.loss)
        );
        let product = |term: &Term| format!("{}·{}", factor(term.input), factor(term.error));
        match (self.uses, self.terms.as_slice()) {
            (uses, []) => {
                let what = "at each of them the value that enters or the error that comes back is 0";
                text += &format!("{own} = 0 over {uses} places: {what}\n");
            }
            (1, [term]) => {
                let output = place(&term.output);
                let enters = if self.parameter == "bias" { "1".to_owned() } else { "x".to_owned() };
                text += &format!(
                    "{own} = {enters}·∂L/∂y[{output}] = {} = {}\n",
                    product(term),
                    number(self.gradient)
                );
            }
            _ => {
                let told = self.terms.iter().map(product).collect::<Vec<_>>().join(" + ");
                let more = self.uses - self.terms.len();
                let rest = if more > 0 { format!(" + {more} smaller ones") } else { String::new() };
                text += &format!(
                    "{own} = Σ x·∂L/∂y over {} places = {told}{rest} = {}\n",
                    self.uses,
                    number(self.gradient)
                );
            }
        }
        text += &format!(
            "numerically (L(w + h) − L(w − h)) / 2h = {}, relative error {:.0e}\n",
            number(self.numerical),
            self.relative_error
        );
        for path in &self.paths {
            let names: Vec<String> = path
                .steps
                .iter()
                .map(|step| match step.layer.as_str() {
                    "loss" => "L".to_owned(),
                    layer => format!("{layer}[{}]", place(&step.unit)),
                })
                .collect();
            let locals: Vec<String> = path.steps.iter().map(|step| factor(step.local)).collect();
            text +=
                &format!("{name} → {}: {} = {}\n", names.join(" → "), locals.join("·"), number(path.product));
        }
        text
    }
}
