use std::collections::BTreeMap;

use serde::Serialize;

use super::node::Node;
use super::number::finite;
use super::{PATH_NODES_MAX, PATHS_MAX, inputs_of, reaching};

/// A path from an input to the output, and its share of the gradient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphPath {
    /// Ids of the nodes on the path, from the input to the output.
    pub nodes: Vec<usize>,
    /// The derivative of each node with respect to the one before it. One fewer than `nodes`.
    pub factors: Vec<f64>,
    /// The product of the factors, multiplied from the output backward. `None` if it overflows, which only
    /// happens on paths that cancel each other.
    pub product: Option<f64>,
}

/// A use of a node as an operand: the id of the node made with it, and its derivative with respect to the
/// operand.
type Use = (usize, f64);

/// The number of paths from each input to the node `output`. An expression has at most 4⁴⁰⁰ (`b=a*a*a*a;…`),
/// which fits an `f64`.
pub(super) fn counts(nodes: &[Node], output: usize) -> BTreeMap<String, f64> {
    let (counts, _) = counts_and_lengths(nodes, output);
    inputs_of(nodes).map(|(name, node)| (name, counts[node.id])).collect()
}

/// The paths from each input to the node `output`, within the limits.
pub(super) fn paths(
    nodes: &[Node],
    output: usize,
    counts: &BTreeMap<String, f64>,
) -> BTreeMap<String, Vec<GraphPath>> {
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

/// For each node, the number of paths to the node `output`, and the number of nodes on all of them together.
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

/// For each node, its uses that lead to the node `output`.
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

/// Adds every path to the node `output` that starts with `prefix` to `paths`.
fn extend(
    prefix: &mut Vec<usize>,
    factors: &mut Vec<f64>,
    output: usize,
    uses: &[Vec<Use>],
    paths: &mut Vec<GraphPath>,
) {
    let Some(&end) = prefix.last() else { return };
    if end == output {
        let product = finite(factors.iter().rev().product());
        paths.push(GraphPath { nodes: prefix.clone(), factors: factors.clone(), product });
        return;
    }
    for &(next, local) in &uses[end] {
        prefix.push(next);
        factors.push(local);
        extend(prefix, factors, output, uses, paths);
        prefix.pop();
        factors.pop();
    }
}
