use std::collections::BTreeMap;

use super::node::{Node, Op};
use super::{inputs_of, made_from, reaching};

/// Largest step `h` of a central difference, for an input of magnitude 1: the cube root of the `f64` rounding
/// unit. There truncation and rounding errors are about equal, if the derivatives of the function are about
/// as large as the function itself (Press et al., *Numerical Recipes*, section 5.7).
const STEP: f64 = 6e-6;

/// How many times the step is divided by ten.
const SHRINKS: i32 = 10;

/// Largest difference between two slopes that agree, relative to the steepest slope seen.
const AGREEMENT: f64 = 1e-6;

/// Largest rounding error of a slope: relative to the slope, and absolute. The larger of the two applies.
const ROUNDING_MAX: [f64; 2] = [1e-4, 1e-9];

/// The reason why there is no central difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoDifference {
    /// The expression has no finite value on one side.
    Undefined,
    /// A relu, max or min takes a different branch on each side.
    Kink,
    /// No two steps agree, or rounding errors are as large as the difference.
    Unclear,
}

/// `(f(x + h) − f(x − h)) / 2h` of the node `output`, for each input.
pub(super) fn differences(nodes: &[Node], output: usize) -> BTreeMap<String, Result<f64, NoDifference>> {
    let reaches = reaching(nodes, output);
    inputs_of(nodes).map(|(name, input)| (name, difference(nodes, output, input, &reaches))).collect()
}

/// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)`. The floor of 10⁻⁴ keeps rounding in gradients near 0 from
/// counting as an error.
pub(super) fn max_relative_error(
    gradients: &BTreeMap<String, f64>,
    numerical: &BTreeMap<String, Option<f64>>,
) -> Option<f64> {
    let error = |(a, n): (&f64, &Option<f64>)| {
        let n = (*n)?;
        let scale = a.abs().max(n.abs()).max(1e-4);
        Some((a / scale - n / scale).abs())
    };
    gradients.values().zip(numerical.values()).filter_map(error).reduce(f64::max)
}

/// The slope at the largest step that agrees with the next smaller one. This is the idea of Ridders' method
/// (same section) without its extrapolation.
fn difference(nodes: &[Node], output: usize, input: &Node, reaches: &[bool]) -> Result<f64, NoDifference> {
    if !reaches[input.id] {
        return Ok(0.0);
    }
    let varies = made_from(nodes, |node| node.id == input.id);
    let moved: Vec<&Node> = nodes.iter().filter(|node| reaches[node.id] && varies[node.id]).collect();
    let mut wider: Option<Slope> = None;
    let (mut steepest, mut why) = (0f64, NoDifference::Unclear);
    for shrinks in 0..=SHRINKS {
        let step = STEP * input.value.abs().max(1.0) / 10f64.powi(shrinks);
        let narrower = match Slope::new(nodes, output, &moved, [input.value - step, input.value + step]) {
            Ok(slope) => slope,
            Err(reason) => {
                (wider, why) = (None, reason);
                continue;
            }
        };
        steepest = steepest.max(narrower.central.abs());
        if let Some(wider) = wider {
            if wider.agrees(&narrower, steepest) {
                return Ok(wider.central + 0.0);
            }
            why = NoDifference::Unclear;
        }
        wider = Some(narrower);
    }
    Err(why)
}

/// The derivative as estimated with one step size.
#[derive(Clone, Copy)]
struct Slope {
    /// `(f(x + h) − f(x − h)) / 2h`
    central: f64,
    /// `(f(x + h) − f(x)) / h − (f(x) − f(x − h)) / h`. It goes to 0 with `h` unless there is a kink.
    bend: f64,
    /// Estimated upper bound of the rounding error in `central`.
    rounding: f64,
}

impl Slope {
    /// The slope between two values of the input. The input is the first node in `moved`.
    fn new(
        nodes: &[Node],
        output: usize,
        moved: &[&Node],
        [low, high]: [f64; 2],
    ) -> Result<Self, NoDifference> {
        let at: Vec<f64> = nodes.iter().map(|node| node.value).collect();
        let (mut below, mut above) = (at.clone(), at.clone());
        let (mut x, mut rounding) = (Vec::new(), 0.0);
        for node in moved {
            if node.op == Op::Input {
                (below[node.id], above[node.id]) = (low, high);
                continue;
            }
            let branch_below = evaluate(node, &mut x, &mut below)?;
            let branch_above = evaluate(node, &mut x, &mut above)?;
            if branch_below != branch_above {
                return Err(NoDifference::Kink);
            }
            if node.inputs.iter().any(|&input| below[input] != at[input] || above[input] != at[input]) {
                rounding += f64::EPSILON * (node.value * node.gradient.unwrap_or(0.0)).abs();
            }
        }
        let [below, at, above] = [&below, &at, &above].map(|values| values[output]);
        let x = nodes[moved[0].id].value;
        let slope = Self {
            central: (above - below) / (high - low),
            bend: (above - at) / (high - x) - (at - below) / (x - low),
            rounding: rounding / (high - low),
        };
        let is_finite = [slope.central, slope.bend, slope.rounding].into_iter().all(f64::is_finite);
        if is_finite { Ok(slope) } else { Err(NoDifference::Undefined) }
    }

    /// Whether a smaller step gives the same slope, the difference of the one-sided slopes shrinks with the
    /// step, and rounding is small enough.
    fn agrees(&self, narrower: &Self, steepest: f64) -> bool {
        let [part, least] = ROUNDING_MAX;
        let rounding = self.rounding + narrower.rounding;
        let allowed = AGREEMENT * steepest + rounding;
        self.rounding <= (part * self.central.abs()).max(least)
            && (self.central - narrower.central).abs() <= allowed
            && narrower.bend.abs() <= self.bend.abs() / 2.0 + 4.0 * allowed
    }
}

/// Writes the value of `node` into `values`. Returns the branch it takes as its derivatives, which is empty
/// for a smooth operation.
fn evaluate(node: &Node, x: &mut Vec<f64>, values: &mut [f64]) -> Result<Vec<f64>, NoDifference> {
    x.clear();
    x.extend(node.inputs.iter().map(|&input| values[input]));
    let y = node.op.forward(x);
    values[node.id] = y;
    match y.is_finite() {
        true if node.op.has_kink() => Ok(node.op.derivative(x, y)),
        true => Ok(vec![]),
        false => Err(NoDifference::Undefined),
    }
}
