//! The chain rule on scalars: the numbers of the lesson, and every derivative compared with central
//! differences.

mod drawings;
mod faults;
mod meaning;
mod numerical;
mod paths;
mod random;
mod text;

use std::collections::BTreeMap;

use chainrule_engine::graph::{Graph, Node, differentiate};

const LESSON: &str = "x = a + b; y = b + c; x * y";

fn inputs(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

fn graph(expression: &str, pairs: &[(&str, f64)]) -> Graph {
    differentiate(expression, &inputs(pairs)).unwrap_or_else(|faults| panic!("{expression}: {faults:?}"))
}

fn lesson() -> Graph {
    graph(LESSON, &[("a", -1.0), ("b", 3.0), ("c", 4.0)])
}

fn value(expression: &str) -> f64 {
    graph(expression, &[("a", 5.0), ("b", 3.0)]).value
}

fn named<'a>(graph: &'a Graph, name: &str) -> &'a Node {
    graph.nodes.iter().find(|node| node.name.as_deref() == Some(name)).expect("there is such a node")
}

// The numbers of the lesson.

#[test]
fn the_lessons_example_gives_the_lessons_numbers() {
    let graph = lesson();
    assert_eq!((named(&graph, "x").value, named(&graph, "y").value, graph.value), (2.0, 7.0, 14.0));
    assert_eq!((named(&graph, "x").gradient, named(&graph, "y").gradient), (Some(7.0), Some(2.0)));
    let gradients = ["a", "b", "c"].map(|input| graph.gradients.get(input).copied());
    assert_eq!(gradients, [Some(7.0), Some(9.0), Some(2.0)]);
    assert_eq!(graph.gradients.get("x").copied(), None);
    assert!(graph.max_relative_error.is_some_and(|error| error < 1e-8));
    assert!(graph.warnings.is_empty());
}

#[test]
fn the_lessons_two_paths_lead_into_b() {
    let graph = lesson();
    let paths: Vec<_> =
        graph.paths["b"].iter().map(|path| (&path.nodes[..], &path.factors[..], path.product)).collect();
    assert_eq!(paths[0], (&[1, 3, 5][..], &[1.0, 7.0][..], Some(7.0)));
    assert_eq!(paths[1], (&[1, 4, 5][..], &[1.0, 2.0][..], Some(2.0)));
    assert_eq!((paths.len(), graph.path_counts["b"], graph.path_counts["a"]), (2, 2.0, 1.0));
}

#[test]
fn the_lessons_example_is_written_as_on_the_blackboard() {
    let expected = "\
x = a + b, y = b + c, f = x·y

forward
  x = a + b = −1 + 3 = 2
  y = b + c = 3 + 4 = 7
  f = x·y = 2·7 = 14

backward
  ∂f/∂x = y = 7
  ∂f/∂y = x = 2
  ∂f/∂a = ∂f/∂x·∂x/∂a = 7·1 = 7
  ∂f/∂b = ∂f/∂x·∂x/∂b + ∂f/∂y·∂y/∂b = 7·1 + 2·1 = 9
  ∂f/∂c = ∂f/∂y·∂y/∂c = 2·1 = 2
";
    let text = lesson().text();
    assert_eq!(text.split("\ncentral differences: ").next(), Some(expected), "{text}");
    assert!(text.contains("\ncentral differences: ∂f/∂a ≈ 7, ∂f/∂b ≈ 9, ∂f/∂c ≈ 2; largest relative error "));
}

#[test]
fn the_answer_is_the_documented_json() {
    let json = serde_json::to_value(graph("a*2", &[("a", -1.0)])).expect("a graph is JSON");
    let node = serde_json::json!(
        {"id": 2, "op": "multiply", "name": null, "inputs": [0, 1], "value": -2.0, "gradient": 1.0, "local": [2.0, -1.0]}
    );
    assert_eq!(json["nodes"][2], node);
    assert_eq!(json["nodes"][0]["op"], "input");
    assert_eq!(json["nodes"][1]["op"], "constant");
    let step = serde_json::json!(
        {"node": 2, "upstream": 1.0, "input": 0, "local": 2.0, "product": 2.0, "before": 0.0, "after": 2.0}
    );
    assert_eq!(json["steps"][0], step);
    assert_eq!(json["paths"]["a"], serde_json::json!([{"nodes": [0, 2], "factors": [2.0], "product": 2.0}]));
    for key in ["value", "gradients", "output", "path_counts", "numerical", "max_relative_error", "warnings"]
    {
        assert!(!json[key].is_null(), "{key}");
    }
}

// Derivatives.

#[test]
fn every_derivative_agrees_with_central_differences() {
    let expressions = [
        "a + b",
        "a - b",
        "a*b",
        "a/b",
        "b/a",
        "a^b",
        "b^a",
        "a^3",
        "a^-2",
        "2^a",
        "-a",
        "exp(a)",
        "log(a)",
        "sqrt(a)",
        "sin(a)",
        "cos(a)",
        "tanh(a)",
        "sigmoid(a)",
        "relu(a)",
        "relu(-a)",
        "max(a, b)",
        "min(a, b)",
        "max(a, b, 9, a*b)",
        "y = a; y*b",
        "(-3)^2*a + (0 - 2)^3*b",
        "a*a*a",
        "exp(-(a - b)^2)/sqrt(a + b)",
    ];
    for expression in expressions {
        for (a, b) in [(0.7, 1.3), (2.1, 0.4), (1.6, 3.0)] {
            let graph = graph(expression, &[("a", a), ("b", b)]);
            assert!(graph.numerical.values().all(Option::is_some), "{expression}");
            assert!(graph.max_relative_error.is_some_and(|error| error < 1e-7), "{expression}: {graph:?}");
        }
    }
}

#[test]
fn a_negative_base_has_a_derivative_if_the_exponent_is_an_integer() {
    let graph = graph("a^3", &[("a", -2.0)]);
    assert_eq!((graph.value, graph.gradients.get("a").copied()), (-8.0, Some(12.0)));
    let power = &graph.nodes[graph.output];
    assert_eq!(power.local, [Some(12.0), None]);
    assert_eq!(graph.nodes[1].gradient, None);
}

#[test]
fn powers_of_0_have_the_derivatives_they_have() {
    assert_eq!(graph("0^b", &[("b", 2.0)]).gradients.get("b").copied(), Some(0.0));
    assert_eq!(graph("a^2", &[("a", 0.0)]).gradients.get("a").copied(), Some(0.0));
    assert_eq!(graph("a^1", &[("a", 0.0)]).gradients.get("a").copied(), Some(1.0));
    assert_eq!(graph("a^0", &[("a", 0.0)]).gradients.get("a").copied(), Some(0.0));
}

#[test]
fn sigmoid_and_tanh_are_stable_far_from_0() {
    for far in [-1000.0, 1000.0] {
        let graph = graph("sigmoid(a) + tanh(a)", &[("a", far)]);
        assert_eq!(graph.value, if far > 0.0 { 2.0 } else { -1.0 });
        assert_eq!(graph.gradients.get("a").copied(), Some(0.0));
    }
}

#[test]
fn sigmoid_and_tanh_have_slopes_where_they_are_almost_flat() {
    for (expression, far, slope) in [
        ("sigmoid(a)", 40.0, (-40f64).exp()),
        ("sigmoid(a)", -40.0, (-40f64).exp()),
        ("tanh(a)", 20.0, 4.0 * (-40f64).exp()),
        ("tanh(a)", -20.0, 4.0 * (-40f64).exp()),
    ] {
        let gradient = graph(expression, &[("a", far)]).gradients["a"];
        assert!((gradient / slope - 1.0).abs() < 1e-14, "{expression} at {far}: {gradient}");
    }
    let at_0 = graph("sigmoid(a) + tanh(a)", &[("a", 0.0)]);
    assert_eq!(at_0.gradients.get("a").copied(), Some(1.25));
}

#[test]
fn no_0_is_negative() {
    let graph = graph("-a*0 + b*0 - a*b*0", &[("a", -0.0), ("b", -2.0)]);
    let json = serde_json::to_string(&graph).expect("a graph is JSON");
    let shown = [json, graph.text(), graph.svg(), graph.dot()].concat();
    assert!(!shown.contains("-0.0") && !shown.contains("−0 ") && !shown.contains("−0\n"), "{shown}");
}

#[test]
fn derivatives_at_kinks_are_those_of_the_frameworks_with_a_warning() {
    let relu = graph("relu(a)", &[("a", 0.0)]);
    assert_eq!(
        (relu.gradients.get("a").copied(), relu.numerical["a"], relu.max_relative_error),
        (Some(0.0), None, None)
    );
    assert!(
        relu.warnings[0]
            .contains("the derivative of relu at 0 is taken as 0, as frameworks do; some texts take 1")
    );
    assert_eq!(relu.warnings.len(), 2);
    let max = graph("max(a, b)", &[("a", 1.0), ("b", 1.0)]);
    assert_eq!((max.gradients.get("a").copied(), max.gradients.get("b").copied()), (Some(0.5), Some(0.5)));
    assert!(max.warnings[0].contains("share"), "{:?}", max.warnings);
    assert_eq!(graph("min(a, a, 2)", &[("a", 1.0)]).gradients.get("a").copied(), Some(1.0));
    let near = graph("relu(a - 1)", &[("a", 1.0 + 1e-7)]);
    assert!(
        near.warnings.is_empty() && near.max_relative_error.is_some_and(|error| error < 1e-6),
        "{near:?}"
    );
}

#[test]
fn unused_inputs_get_a_warning_and_gradient_0() {
    let graph = graph("x = b*2; log(a)", &[("a", 1.0), ("b", 3.0), ("c", 4.0)]);
    assert_eq!(
        (graph.gradients.get("b").copied(), graph.gradients.get("c").copied()),
        (Some(0.0), Some(0.0))
    );
    let expected = [
        "the input b is not used: its gradient is 0",
        "the input c is not used: its gradient is 0",
        "x is bound but not used",
    ];
    assert_eq!(graph.warnings, expected);
    assert!(graph.paths["b"].is_empty() && graph.path_counts["b"] == 0.0);
    let never_differentiated = differentiate("x = sqrt(a); b", &inputs(&[("a", 0.0), ("b", 1.0)]));
    assert_eq!(never_differentiated.map(|graph| graph.gradients.get("a").copied()), Ok(Some(0.0)));
}

#[test]
fn the_steps_add_up_to_the_gradients() {
    let graph = graph("x = a*b; y = x + sin(a); z = x*y; z*z + y", &[("a", 0.7), ("b", -1.2)]);
    let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
    for step in &graph.steps {
        let sum = sums.entry(step.input).or_default();
        assert_eq!((step.before, step.product), (*sum, step.upstream * step.local));
        *sum += step.product;
        assert_eq!(step.after, *sum);
        assert_eq!(Some(step.upstream), graph.nodes[step.node].gradient);
    }
    for (id, sum) in sums {
        assert_eq!(graph.nodes[id].gradient, Some(sum));
    }
}
