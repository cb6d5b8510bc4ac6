//! The meaning of an expression: operator precedence, and the nodes it creates.

use chainrule_engine::graph::Op;

use super::{graph, named, value};

#[test]
fn operators_bind_as_in_mathematics() {
    let table = [
        ("2 + 3*4", 14.0),
        ("2 - 3 - 4", -5.0),
        ("24/4/2", 3.0),
        ("24/4*2", 12.0),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("(-2)^2", 4.0),
        ("2^-1", 0.5),
        ("2^-1^2", 0.5),
        ("-a^2*b", -75.0),
        ("--a", 5.0),
        ("2 - -3", 5.0),
        ("2*-3", -6.0),
        ("a·b×2 − 1", 29.0),
        ("1e-3 + .5 + 2. + 2.5E1", 27.501),
        ("1e−3", 0.001),
        ("let x = a; let y = x + b; x*y;", 40.0),
        ("y = a", 5.0),
        ("가 = a; 가 * 2", 10.0),
        ("max(a, b, 7) - min(a, b, 7)", 4.0),
        (" a\n+\tb ", 8.0),
    ];
    for (expression, expected) in table {
        assert_eq!(value(expression), expected, "{expression}");
    }
}

#[test]
fn a_binding_names_its_node_and_a_second_name_is_an_identity() {
    let graph = graph("y = a*a; z = y; w = a; z + w", &[("a", 3.0)]);
    assert_eq!(named(&graph, "y").op, Op::Multiply);
    assert_eq!((named(&graph, "z").op, named(&graph, "w").op), (Op::Identity, Op::Identity));
    assert_eq!((graph.value, graph.gradients.get("a").copied()), (12.0, Some(7.0)));
}

#[test]
fn nodes_come_after_their_operands_and_inputs_come_first() {
    let graph = graph("b*a + 2^a", &[("b", 1.0), ("a", 2.0)]);
    let inputs: Vec<_> = graph.nodes[..2].iter().map(|node| node.name.as_deref()).collect();
    assert_eq!(inputs, [Some("a"), Some("b")]);
    for (id, node) in graph.nodes.iter().enumerate() {
        assert!(node.id == id && node.inputs.iter().all(|&input| input < id));
        assert_eq!(node.local.len(), node.inputs.len());
    }
}
