use super::error::GraphError;
use super::node::Node;
use super::number::finite;
use super::operands;

/// Computes the value of each node, `y = f(x)`, and its local derivatives, `∂y/∂x`.
pub(super) fn forward(nodes: &mut [Node]) -> Result<(), GraphError> {
    for id in 0..nodes.len() {
        let Node { op, value, column, .. } = nodes[id];
        let x = operands(nodes, &nodes[id]);
        let y = if x.is_empty() { value } else { op.forward(&x) };
        nodes[id].value = finite(y).ok_or_else(|| GraphError::at(column, op.why_no_value(&x)))?;
        nodes[id].local = op.derivative(&x, y).into_iter().map(finite).collect();
    }
    Ok(())
}
