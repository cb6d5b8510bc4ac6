use super::Graph;
use super::names::names;
use super::node::Op;
use super::number::short;

/// The graph as Graphviz DOT. A node shows its value and gradient; an edge shows the value that flows forward
/// and the gradient that flows back.
pub(super) fn dot(graph: &Graph) -> String {
    let names = names(graph);
    let mut dot =
        "digraph chainrule {\n  rankdir=LR;\n  node [shape=ellipse];\n  edge [fontsize=10];\n".to_owned();
    for node in &graph.nodes {
        let shape = match node.op {
            Op::Input => ", shape=box",
            Op::Constant => ", shape=plaintext",
            _ => "",
        };
        let gradient = node.gradient.map_or("none".to_owned(), short);
        let name = quoted(&names[node.id]);
        let made = if node.inputs.is_empty() { String::new() } else { format!("{}\\n", node.op.name()) };
        let (id, value) = (node.id, short(node.value));
        dot += &format!("  n{id} [label=\"{name}\\n{made}{value}\\n∂ {gradient}\"{shape}];\n");
    }
    for node in &graph.nodes {
        for (place, &input) in node.inputs.iter().enumerate() {
            let value = short(graph.nodes[input].value);
            let flow = node.flow(place).map(|flow| format!("\\n∂ {}", short(flow))).unwrap_or_default();
            dot += &format!("  n{input} -> n{} [label=\"{value}{flow}\"];\n", node.id);
        }
    }
    let (output, name) = (graph.output, quoted(&names[graph.output]));
    dot += &format!("  out [label=\"{name}\", shape=plaintext];\n");
    dot + &format!("  n{output} -> out [label=\"{}\\n∂ 1\"];\n}}\n", short(graph.value))
}

/// Escapes `text` for a quoted string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
