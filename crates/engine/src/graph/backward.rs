use serde::Serialize;

use super::error::GraphError;
use super::node::{Node, Op};
use super::number::{finite, plain};
use super::{made_from, operands, reaching};

/// One product of the backward pass, added to the gradient of the operand it flows to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The node it comes from.
    pub node: usize,
    /// The derivative of the expression by that node.
    pub upstream: f64,
    /// The operand it flows to.
    pub input: usize,
    /// The derivative of the node by that operand.
    pub local: f64,
    /// `upstream · local`.
    pub product: f64,
    /// The gradient of the operand before it is added.
    pub before: f64,
    /// The gradient of the operand after.
    pub after: f64,
}

/// `∂f/∂x` for every node `x`, of the node `output` as `f`: 1 for `f` itself, and from last to first each
/// node hands to its operands its own gradient times its local derivative.
///
/// A derivative that does not exist is an error if an input needs it; else it is left out, and so is
/// the gradient of the constants behind it.
pub(super) fn backward(nodes: &mut [Node], output: usize) -> Result<Vec<Step>, GraphError> {
    let reaches = reaching(nodes, output);
    let varies = made_from(nodes, |node| node.op == Op::Input);
    nodes.iter_mut().for_each(|node| node.gradient = Some(0.0));
    nodes[output].gradient = Some(1.0);

    let mut steps = Vec::new();
    for id in (0..=output).rev().filter(|&id| reaches[id]) {
        let Node { op, inputs, local, gradient, column, .. } = nodes[id].clone();
        for (place, (input, local)) in inputs.into_iter().zip(local).enumerate() {
            if local.is_none() && varies[input] {
                let x = operands(nodes, &nodes[id]);
                return Err(GraphError::at(column, op.why_no_derivative(&x, place)));
            }
            let step = step(id, gradient, input, local, nodes[input].gradient);
            if step.is_none() && varies[input] {
                let upstream = gradient.map(plain).unwrap_or_default();
                let detail = format!(
                    "the gradient overflows here: what flows back is {upstream} times the local derivative"
                );
                return Err(GraphError::at(column, detail));
            }
            nodes[input].gradient = step.as_ref().map(|step| step.after);
            steps.extend(step);
        }
    }
    Ok(steps)
}

/// One product and its sum, if they are there and finite.
fn step(
    node: usize,
    upstream: Option<f64>,
    input: usize,
    local: Option<f64>,
    before: Option<f64>,
) -> Option<Step> {
    let (upstream, local, before) = (upstream?, local?, before?);
    let product = finite(upstream * local)?;
    let after = finite(before + product)?;
    Some(Step { node, upstream, input, local, product, before, after })
}
