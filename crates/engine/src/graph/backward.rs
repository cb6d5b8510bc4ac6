use serde::Serialize;

use super::error::GraphError;
use super::node::{Node, Op};
use super::number::{finite, plain};
use super::{made_from, operands, reaching};

/// One product of the backward pass, and the gradient that it is added to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackwardStep {
    /// Id of the node that the gradient comes from.
    pub node: usize,
    /// The derivative of the expression with respect to that node.
    pub upstream: f64,
    /// Id of the operand that the gradient flows to.
    pub input: usize,
    /// The derivative of the node with respect to that operand.
    pub local: f64,
    /// `upstream · local`.
    pub product: f64,
    /// The operand's gradient before this product is added.
    pub before: f64,
    /// The operand's gradient after this product is added.
    pub after: f64,
}

/// `∂f/∂x` for every node `x`, with the node `output` as `f`. It is 1 for `f` itself. From last to first,
/// each node passes its gradient times its local derivatives on to its operands.
///
/// A derivative that doesn't exist is an error if an input needs it. Otherwise it is left out, and the constants
/// that it would reach have no gradient.
pub(super) fn backward(nodes: &mut [Node], output: usize) -> Result<Vec<BackwardStep>, GraphError> {
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

/// The step, or `None` if a part of it is missing or overflows.
fn step(
    node: usize,
    upstream: Option<f64>,
    input: usize,
    local: Option<f64>,
    before: Option<f64>,
) -> Option<BackwardStep> {
    let (upstream, local, before) = (upstream?, local?, before?);
    let product = finite(upstream * local)?;
    let after = finite(before + product)?;
    Some(BackwardStep { node, upstream, input, local, product, before, after })
}
