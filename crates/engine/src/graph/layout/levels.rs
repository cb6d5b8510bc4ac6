use super::super::node::Node;

/// The level of each node, counted from the left. A node is to the right of all its operands. A tree moves
/// right, next to the first use of its root. The edges inside it keep their lengths, and those out of it get shorter.
pub(super) fn levels(nodes: &[Node]) -> Vec<usize> {
    let mut uses = vec![0usize; nodes.len()];
    nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| uses[input] += 1);
    let mut levels = vec![0; nodes.len()];
    let mut is_tree = vec![false; nodes.len()];
    for node in nodes {
        levels[node.id] = node.inputs.iter().map(|&input| levels[input] + 1).max().unwrap_or(0);
        is_tree[node.id] = node.inputs.iter().all(|&input| is_tree[input] && uses[input] == 1);
    }
    let mut first_use = vec![usize::MAX; nodes.len()];
    for node in nodes.iter().rev() {
        if is_tree[node.id] && uses[node.id] > 0 {
            levels[node.id] = first_use[node.id] - 1;
        }
        for &input in &node.inputs {
            first_use[input] = first_use[input].min(levels[node.id]);
        }
    }
    levels
}
