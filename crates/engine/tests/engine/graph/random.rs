//! Any input gives either an error, or the value and derivatives of a direct evaluation. It never panics.

use chainrule_engine::graph::{Graph, differentiate};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::drawings::assert_well_formed;
use super::inputs;
use super::paths::product_sum;

/// An expression of the inputs `a`, `b` and `c`.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Number(f64),
    Input(usize),
    Unary(&'static str, Box<Tree>),
    Binary(&'static str, Box<Tree>, Box<Tree>),
}

impl Tree {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(number) => format!("{number:?}"),
            Self::Input(place) => ["a", "b", "c"][*place].to_owned(),
            Self::Unary("-", x) => format!("(-{})", x.text()),
            Self::Unary(name, x) => format!("{name}({})", x.text()),
            Self::Binary(name @ ("max" | "min"), x, y) => format!("{name}({}, {})", x.text(), y.text()),
            Self::Binary(symbol, x, y) => format!("({} {symbol} {})", x.text(), y.text()),
        }
    }

    fn value(&self, inputs: &[f64; 3]) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Input(place) => inputs[*place],
            Self::Unary(name, x) => {
                let x = x.value(inputs);
                match *name {
                    "-" => -x,
                    "exp" => x.exp(),
                    "log" => x.ln(),
                    "sqrt" => x.sqrt(),
                    "sin" => x.sin(),
                    "cos" => x.cos(),
                    "tanh" => x.tanh(),
                    "relu" => x.max(0.0),
                    _ => 1.0 / (1.0 + (-x).exp()),
                }
            }
            Self::Binary(name, x, y) => {
                let (x, y) = (x.value(inputs), y.value(inputs));
                match *name {
                    "+" => x + y,
                    "-" => x - y,
                    "*" => x * y,
                    "/" => x / y,
                    "^" => x.powf(y),
                    "max" => x.max(y),
                    _ => x.min(y),
                }
            }
        }
    }

    /// The central difference for an input, if two step sizes agree.
    fn slope(&self, inputs: &[f64; 3], place: usize) -> Option<f64> {
        let slope = |step: f64| {
            let at = |by: f64| {
                let mut moved = *inputs;
                moved[place] += by;
                self.value(&moved)
            };
            (at(step) - at(-step)) / (2.0 * step)
        };
        let (wide, narrow) = (slope(1e-5), slope(3e-6));
        (wide.is_finite() && near(wide, narrow, 1e-5)).then_some(narrow)
    }
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
}

pub(super) fn tree() -> impl Strategy<Value = Tree> {
    let unary = prop::sample::select(&["-", "exp", "log", "sqrt", "sin", "cos", "tanh", "relu", "sigmoid"]);
    let binary = prop::sample::select(&["+", "-", "*", "/", "^", "max", "min"]);
    let leaf = prop_oneof![
        1 => prop::sample::select(&[0.5, 1.0, 2.0, 3.0, 1.25e-1]).prop_map(Tree::Number),
        3 => (0..3usize).prop_map(Tree::Input),
    ];
    leaf.prop_recursive(6, 40, 2, move |inner| {
        prop_oneof![
            (unary.clone(), inner.clone()).prop_map(|(name, x)| Tree::Unary(name, Box::new(x))),
            (binary.clone(), inner.clone(), inner).prop_map(|(name, x, y)| Tree::Binary(
                name,
                Box::new(x),
                Box::new(y)
            )),
        ]
    })
}

pub(super) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

/// Asserts that every number of the answer is finite, and that no 0 is negative.
fn assert_finite(graph: &Graph) {
    let steps = graph
        .steps
        .iter()
        .flat_map(|step| [step.upstream, step.local, step.product, step.before, step.after]);
    let paths = graph.paths.values().flatten();
    let paths = paths.flat_map(|path| path.factors.iter().copied().chain(path.product));
    let nodes = graph.nodes.iter().flat_map(|node| node.local.iter().flatten().copied().chain(node.gradient));
    let numbers = steps.chain(paths).chain(nodes).chain(graph.nodes.iter().map(|node| node.value));
    let ours = graph.gradients.values().chain(graph.path_counts.values()).copied();
    let rest = graph.numerical.values().flatten().copied().chain(graph.max_relative_error);
    let is_number = |number: f64| number.is_finite() && (number != 0.0 || number.is_sign_positive());
    assert!(numbers.chain(ours).chain(rest).all(is_number), "{graph:?}");
}

#[test]
fn random_expressions_have_the_value_and_the_slopes_of_a_direct_evaluation() {
    let compared = std::cell::Cell::new(0);
    let point = || -2.0..3.0f64;
    let cases = (tree(), [point(), point(), point()]);
    TestRunner::new(config(4_000))
        .run(&cases, |(tree, at)| {
            let inputs = inputs(&[("a", at[0]), ("b", at[1]), ("c", at[2])]);
            let Ok(graph) = differentiate(&tree.text(), &inputs) else { return Ok(()) };
            assert_finite(&graph);
            prop_assert!(near(graph.value, tree.value(&at), 1e-12), "{} {}", graph.value, tree.value(&at));
            for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
                let (Some(slope), Some(gradient)) =
                    (tree.slope(&at, place), graph.gradients.get(name).copied())
                else {
                    continue;
                };
                let is_at_kink = graph.numerical[name].is_none();
                prop_assert!(
                    is_at_kink || near(slope, gradient, 1e-3),
                    "{} by {name}: {slope} {gradient}",
                    tree.text()
                );
                compared.set(compared.get() + usize::from(!is_at_kink && gradient != 0.0));
            }
            let paths =
                graph.paths.iter().filter(|(name, paths)| paths.len() as f64 == graph.path_counts[*name]);
            for (name, paths) in paths {
                let sum = product_sum(paths.iter());
                let size: f64 = paths.iter().filter_map(|path| path.product).map(f64::abs).sum();
                prop_assert!((sum - graph.gradients[name]).abs() <= 1e-9 * size.max(1e-9), "{}", tree.text());
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(compared.get() > 3_000, "{compared:?}");
}

#[test]
fn no_soup_of_words_panics_or_gives_nan() {
    const WORDS: [&str; 40] = [
        "a", "b", "x", "y", "0", "1", "2", "1e300", "1e-300", ".5", "+", "-", "*", "/", "^", "^", "(", ")",
        "(", ")", ",", ";", "=", "let ", "exp(", "log(", "sqrt(", "sin(", "tanh(", "sigmoid(", "relu(",
        "max(", "min(", "x=", ";y=", "−", "·", " ", "가", "\u{0}",
    ];
    // A linear congruential generator (Knuth, MMIX), since a proptest strategy is too slow for a million
    // cases.
    let mut state = 5u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut taken, mut expression) = (0, String::new());
    let inputs = [inputs(&[("a", 0.0), ("b", -1.5)]), inputs(&[("a", 1e200), ("b", 1e-200)])];
    for case in 0..1_000_000 {
        expression.clear();
        for _ in 0..draw(12) {
            if draw(40) == 0 {
                expression.extend(char::from_u32(draw(0x3000) as u32));
            } else {
                expression += WORDS[draw(WORDS.len() as u64) as usize];
            }
        }
        if let Ok(graph) = differentiate(&expression, &inputs[case % 2]) {
            assert_finite(&graph);
            taken += 1;
            if taken % 100 == 0 {
                assert_well_formed(&graph.svg());
                assert!(!(graph.text() + &graph.dot()).contains("NaN"), "{expression}");
            }
        }
    }
    assert!(taken > 10_000, "{taken}");
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn no_soup_of_characters_panics(expression in "\\PC{0,80}", a in prop::num::f64::ANY) {
        if let Ok(graph) = differentiate(&expression, &inputs(&[("a", a)])) {
            assert_finite(&graph);
        }
    }
}
