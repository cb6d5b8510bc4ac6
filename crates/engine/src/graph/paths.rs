use std::collections::BTreeMap;

use serde::Serialize;

use super::node::Node;
use super::number::finite;
use super::{PATH_NODES_MAX, PATHS_MAX, inputs_of, reaching};

/// One way from an input to the output, and its share of the gradient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Path {
    /// The nodes on the way, the input first, the output last.
    pub nodes: Vec<usize>,
    /// The derivative of each node but the first by the one before it.
    pub factors: Vec<f64>,
    /// The product of the factors, multiplied from the output backward; none where it overflows, which
    /// only paths that cancel out can do.
    pub product: Option<f64>,
}

/// One use of a node as an operand: the node made with it, and the derivative of that by it.
type Use = (usize, f64);

/// How many paths lead from each input to the node `output`. At most 4⁴⁰⁰ fit into an expression
/// (`b=a*a*a*a;…`), so an f64 holds them.
pub(super) fn counts(nodes: &[Node], output: usize) -> BTreeMap<String, f64> {
    let (counts, _) = counts_and_lengths(nodes, output);
    inputs_of(nodes).map(|(name, node)| (name, counts[node.id])).collect()
}

/// The paths from each input to the node `output`, within the limits.
pub(super) fn paths(
    nodes: &[Node],
    output: usize,
    counts: &BTreeMap<String, f64>,
) -> BTreeMap<String, Vec<Path>> {
    let (_, lengths) = counts_and_lengths(nodes, output);
    let uses = uses(nodes, output);
    let mut left = PATH_NODES_MAX as f64;
    let mut listed = |(name, node): (String, &Node)| {
        let mut paths = Vec::new();
        if counts[&name] <= PATHS_MAX as f64 && lengths[node.id] <= left {
            left -= lengths[node.id];
            extend(&mut vec![node.id], &mut Vec::new(), output, &uses, &mut paths);
        }
        (name, paths)
    };
    inputs_of(nodes).map(&mut listed).collect()
}

/// From each node to the node `output`: the number of paths, and of nodes on them together.
fn counts_and_lengths(nodes: &[Node], output: usize) -> (Vec<f64>, Vec<f64>) {
    let mut counts = vec![0.0; nodes.len()];
    let mut lengths = vec![0.0; nodes.len()];
    (counts[output], lengths[output]) = (1.0, 1.0);
    for node in nodes[..=output].iter().rev() {
        for &input in &node.inputs {
            counts[input] += counts[node.id];
            lengths[input] += lengths[node.id] + counts[node.id];
        }
    }
    (counts, lengths)
}

/// The uses of each node that lead to the node `output`.
fn uses(nodes: &[Node], output: usize) -> Vec<Vec<Use>> {
    let reaches = reaching(nodes, output);
    let mut uses = vec![Vec::new(); nodes.len()];
    for node in nodes.iter().filter(|node| reaches[node.id]) {
        for (&input, local) in node.inputs.iter().zip(&node.local) {
            uses[input].extend(local.map(|local| (node.id, local)));
        }
    }
    uses
}

/// Every path to the node `output` that begins with `way`.
fn extend(
    way: &mut Vec<usize>,
    factors: &mut Vec<f64>,
    output: usize,
    uses: &[Vec<Use>],
    paths: &mut Vec<Path>,
) {
    let Some(&end) = way.last() else { return };
    if end == output {
        let product = finite(factors.iter().rev().product());
        paths.push(Path { nodes: way.clone(), factors: factors.clone(), product });
        return;
    }
    for &(next, local) in &uses[end] {
        way.push(next);
        factors.push(local);
        extend(way, factors, output, uses, paths);
        way.pop();
        factors.pop();
    }
}
