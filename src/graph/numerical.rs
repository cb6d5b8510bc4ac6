use std::collections::BTreeMap;

use super::node::{Node, Op};
use super::{inputs_of, made_from, reaching};

/// Half the distance of a central difference at magnitude 1: the cube root of the `f64` rounding unit,
/// where truncation and rounding are about equal (Press et al., *Numerical Recipes*, section 5.7).
const STEP: f64 = 6e-6;

/// How often the step is made ten times smaller, to stay on this side of an edge or kink.
const SHRINKS: i32 = 4;

/// Why there is no difference to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoDifference {
    /// The expression has no finite value on one side.
    Edge,
    /// A relu, max or min takes another branch on either side.
    Kink,
}

/// `(f(x + h) − f(x − h)) / 2h` of the node `output`, for each input.
pub(super) fn differences(nodes: &[Node], output: usize) -> BTreeMap<String, Result<f64, NoDifference>> {
    let reaches = reaching(nodes, output);
    inputs_of(nodes).map(|(name, input)| (name, difference(nodes, output, input, &reaches))).collect()
}

/// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)`; the floor keeps rounding in gradients that are nearly 0
/// from counting as error.
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

fn difference(nodes: &[Node], output: usize, input: &Node, reaches: &[bool]) -> Result<f64, NoDifference> {
    if !reaches[input.id] {
        return Ok(0.0);
    }
    let varies = made_from(nodes, |node| node.id == input.id);
    let moved: Vec<&Node> = nodes.iter().filter(|node| reaches[node.id] && varies[node.id]).collect();
    let slope = |step: f64| difference_of(nodes, output, &moved, input.value - step, input.value + step);
    let step = STEP * input.value.abs().max(1.0);
    let mut result = slope(step);
    for shrinks in 1..=SHRINKS {
        let Err(why) = result else { break };
        let step = step / 10f64.powi(shrinks);
        result = slope(step);
        if result.is_ok() && why == NoDifference::Edge {
            // Near an edge functions bend much.
            result = slope(step / 100.0).or(result);
        }
    }
    result
}

/// The slope between the inputs `low` and `high`, the first of the nodes that are `moved`.
fn difference_of(
    nodes: &[Node],
    output: usize,
    moved: &[&Node],
    low: f64,
    high: f64,
) -> Result<f64, NoDifference> {
    let mut below: Vec<f64> = nodes.iter().map(|node| node.value).collect();
    let mut above = below.clone();
    let mut x = Vec::new();
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
    }
    let slope = (above[output] - below[output]) / (high - low);
    if slope.is_finite() { Ok(slope) } else { Err(NoDifference::Edge) }
}

/// The value of `node` into `values`, and the branch that it takes.
fn evaluate(node: &Node, x: &mut Vec<f64>, values: &mut [f64]) -> Result<Vec<f64>, NoDifference> {
    x.clear();
    x.extend(node.inputs.iter().map(|&input| values[input]));
    let y = node.op.forward(x);
    values[node.id] = y;
    match y.is_finite() {
        true if node.op.has_kink() => Ok(node.op.derivative(x, y)),
        true => Ok(vec![]),
        false => Err(NoDifference::Edge),
    }
}
