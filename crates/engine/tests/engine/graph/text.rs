//! The worked text is correct: formulas parse back to themselves, and both sides of every equation are equal.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::random::{config, tree};
use super::{graph, inputs};
use chainrule_engine::graph::differentiate;

/// The formula of an expression of `a`, `b` and `c` as it is printed.
fn printed(expression: &str) -> String {
    let text = graph(expression, &[("a", 2.0), ("b", 3.0), ("c", 4.0)]).text();
    text.lines().next().and_then(|line| line.strip_prefix("f = ")).expect("a formula").to_owned()
}

#[test]
fn formulas_have_the_parentheses_that_they_need() {
    for (expression, expected) in [
        ("a / b * c", "(a / b)·c"),
        ("a / (b * c)", "a / (b·c)"),
        ("a * b / c", "a·b / c"),
        ("a * (b / c)", "a·(b / c)"),
        ("a / b / c", "a / b / c"),
        ("a / (b / c)", "a / (b / c)"),
        ("a - b + c", "a − b + c"),
        ("a - (b + c)", "a − (b + c)"),
        ("a - b / c", "a − b / c"),
        ("a^b^c", "a^(b^c)"),
        ("(a^b)^c", "(a^b)^c"),
        ("-a^2", "−a^2"),
        ("(-a)^2", "(−a)^2"),
        ("a^-2", "a^(−2)"),
        ("-a * b", "(−a)·b"),
        ("-(a * b)", "−(a·b)"),
        ("-(a / b)", "−(a / b)"),
        ("a - -b", "a − (−b)"),
        ("1e-7 * a^2", "1e−7·a^2"),
    ] {
        assert_eq!(printed(expression), expected, "{expression}");
    }
}

#[test]
fn a_printed_formula_reads_back_as_the_same_value() {
    let at = || -2.0..3.0f64;
    TestRunner::new(config(4_000))
        .run(&(tree(), at(), at(), at()), |(tree, a, b, c)| {
            let inputs = inputs(&[("a", a), ("b", b), ("c", c)]);
            let Ok(graph) = differentiate(&tree.text(), &inputs) else { return Ok(()) };
            let text = graph.text();
            let formula = text.lines().next().unwrap_or_default();
            let read = differentiate(formula, &inputs).map(|again| again.value);
            prop_assert_eq!(read, Ok(graph.value), "{}", formula);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_printed_derivative_reads_back_as_the_gradient() {
    for expression in [
        "a + b",
        "a - b",
        "a*b",
        "a/b",
        "a^b",
        "a^2",
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
        "a/a",
        "a^a",
        "a*a",
    ] {
        let graph = graph(expression, &[("a", 0.75), ("b", 1.5)]);
        for (name, gradient) in &graph.gradients {
            let text = graph.text();
            let start = format!("  ∂f/∂{name} = ");
            let Some(line) = text.lines().find_map(|line| line.strip_prefix(&start)) else { continue };
            let formula = line.split(" = ").next().unwrap_or_default();
            let inputs = inputs(&[("a", 0.75), ("b", 1.5), ("f", graph.value), ("v1", -2.0)]);
            let read = differentiate(formula, &inputs).map_or(f64::NAN, |read| read.value);
            assert!((read - gradient).abs() < 1e-12, "{expression}: {line}");
        }
    }
}

#[test]
fn tied_operands_are_shown_with_their_shares() {
    let text = graph("max(a, b, a)*b", &[("a", 2.0), ("b", 2.0)]).text();
    assert!(text.contains("  ∂v1/∂a = 1/3 + 1/3 = 0.666667\n"), "{text}");
    assert!(text.contains("  ∂v1/∂b = 1/3 = 0.333333\n"), "{text}");
    let text = graph("min(a, b, 3)", &[("a", 2.0), ("b", 2.0)]).text();
    assert!(text.contains("  ∂f/∂a = 1/2 = 0.5\n"), "{text}");
    let text = graph("max(a, b)", &[("a", 2.0), ("b", 1.0)]).text();
    assert!(
        text.contains("  ∂f/∂a = (1 if a is the largest, else 0) = (1 if 2 is the largest, else 0) = 1\n"),
        "{text}"
    );
}

#[test]
fn a_slope_that_six_digits_would_hide_stands_as_a_number() {
    let text = graph("sigmoid(a)", &[("a", 40.0)]).text();
    assert!(text.contains("  ∂f/∂a = f·(1 − f) = 4.24835e−18\n"), "{text}");
    let text = graph("tanh(a)", &[("a", -20.0)]).text();
    assert!(text.contains("  ∂f/∂a = 1 − f^2 = 1.69934e−17\n"), "{text}");
}

#[test]
fn inner_nodes_get_unused_names() {
    let text = graph("(f + v1)*2", &[("f", -1.0), ("v1", 4.0)]).text();
    assert!(text.starts_with("g = (f + v1)·2\n"), "{text}");
    assert!(text.contains("  v2 = f + v1 = −1 + 4 = 3\n"), "{text}");
    let text = graph("s = sigmoid(z); s*s - 3", &[("z", 0.0)]).text();
    assert!(text.contains("  ∂s/∂z = s·(1 − s) = 0.5·(1 − 0.5) = 0.25\n"), "{text}");
    assert!(text.contains("  ∂v1/∂s = s + s = 0.5 + 0.5 = 1\n"), "{text}");
}
