use std::collections::BTreeSet;

use super::Graph;
use super::node::Op;
use super::number::short;

/// Names for an output without a name. The first one that is not taken is used.
const OUTPUT_NAMES: [&str; 3] = ["f", "g", "h"];

/// The displayed name of each node. A node without a name is shown as its value if it is a constant, as `f`
/// if it is the output, and otherwise as `v1`, `v2`, ….
pub(super) fn names(graph: &Graph) -> Vec<String> {
    let taken: BTreeSet<&str> = graph.nodes.iter().filter_map(|node| node.name.as_deref()).collect();
    let mut numbered = (1..).map(|number| format!("v{number}")).filter(|name| !taken.contains(name.as_str()));
    let mut next = || numbered.next().unwrap_or_default();
    let free = OUTPUT_NAMES.into_iter().find(|name| !taken.contains(name));
    let name = |node: &super::Node| match &node.name {
        Some(name) => name.clone(),
        None if node.id == graph.output => free.map_or_else(&mut next, str::to_owned),
        None if node.op == Op::Constant => short(node.value),
        None => next(),
    };
    graph.nodes.iter().map(name).collect()
}
