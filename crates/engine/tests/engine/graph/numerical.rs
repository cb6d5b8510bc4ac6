//! A central difference is correct, or there is none and a reason is given.

use chainrule_engine::graph::differentiate;

use super::{graph, inputs};

#[test]
fn a_central_difference_stays_inside_the_domain() {
    let graph = graph("log(a)", &[("a", 1e-7)]);
    assert!(graph.max_relative_error.is_some_and(|error| error < 1e-2), "{graph:?}");
    let edge = differentiate("log(a)", &inputs(&[("a", 1e-300)])).expect("has a value and a derivative");
    assert_eq!((edge.numerical["a"], edge.warnings.len()), (None, 1));
}

/// Asserts that there is no central difference for `a`, for this reason.
fn assert_none(expression: &str, a: f64, reason: &str) {
    let graph = graph(expression, &[("a", a), ("b", 1.0)]);
    assert_eq!(graph.numerical["a"], None, "{expression}");
    let warning = format!("no numerical derivative with respect to a: {reason}");
    assert!(graph.warnings.contains(&warning), "{expression}: {:?}", graph.warnings);
}

#[test]
fn a_difference_lost_to_steepness_or_rounding_is_none_with_a_warning() {
    let unclear = "the expression is too steep or too flat for a difference";
    assert_none("1e-7*a + 123456789*b", 1.0, unclear);
    assert_none("(a + 1e12*b) - 1e12*b", 1.0, unclear);
    assert_none("sin(1e13*a)", 1.0, unclear);
    assert_none("relu(a)", 0.0, "a relu, max or min has a kink there or close by");
    assert_none("log(a)", 1e-300, "close by, the expression has no finite value");
}

#[test]
fn a_steep_expression_has_a_difference_at_a_narrow_step() {
    for (expression, a) in [
        ("sin(1000000*a)", 1.0),
        ("exp(-(a/1e-6)^2)", 1e-6),
        ("tanh(1e7*(a - 1))", 1.0),
        ("1/(a - 1)", 1.00001),
        ("sqrt(a^2 + 1e-16)", 1e-8),
        ("a^3", 1e80),
    ] {
        let graph = graph(expression, &[("a", a)]);
        assert!(graph.max_relative_error.is_some_and(|error| error < 1e-5), "{expression}: {graph:?}");
    }
}

#[test]
fn a_kink_without_relu_shows_in_the_one_sided_slopes() {
    // The square root of a square that is nowhere exactly 0: |a| except within 10⁻²⁰⁰ of 0.
    assert_none("sqrt(a^2 + 1e-200)", 0.0, "the expression is too steep or too flat for a difference");
}

#[test]
fn a_slope_of_0_has_a_difference_of_about_0() {
    for (expression, a) in [
        ("cos(a)", 0.0),
        ("sin(a)", std::f64::consts::FRAC_PI_2),
        ("a^2", 0.0),
        ("1000*a^3", 0.0),
        ("(a - 3)^2 + 1", 3.0),
        ("relu(a) + 1e12*b", -1.0),
        ("max(a, 5)", 1.0),
        ("a*0 + b", 7.0),
        ("sigmoid(a)", 40.0),
    ] {
        let graph = graph(expression, &[("a", a), ("b", 1.0)]);
        assert!(graph.numerical["a"].is_some_and(|slope| slope.abs() < 1e-9), "{expression}: {graph:?}");
    }
}
