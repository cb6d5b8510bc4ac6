//! Every error is reported with its column or the name of its input.

use std::collections::BTreeMap;

use chainrule_engine::graph::{EXPRESSION_CHARS_MAX, GraphError, INPUTS_MAX, Location, differentiate};

use super::{graph, inputs};

fn fault(expression: &str, pairs: &[(&str, f64)]) -> GraphError {
    match differentiate(expression, &inputs(pairs)) {
        Err(faults) => <[GraphError; 1]>::try_from(faults).expect("one fault")[0].clone(),
        Ok(graph) => panic!("{expression} is taken, with the value {}", graph.value),
    }
}

/// Asserts that `expression`, with `a` = −2 and `zero`, is refused at this column with this message.
fn assert_fault(expression: &str, column: usize, words: &str) {
    let error = fault(expression, &[("a", -2.0), ("zero", 0.0)]);
    assert_eq!(error.location, Location::Column(column), "{expression}: {error}");
    assert!(error.detail.contains(words), "{expression}: {error}");
    assert!(error.to_string().starts_with(&format!("column {column}: ")), "{error}");
}

#[test]
fn every_syntax_error_is_reported_at_its_column() {
    assert_fault("", 1, "empty");
    assert_fault("  ", 3, "empty");
    assert_fault("(a + 2", 7, "expected ) for the ( opened at column 1, found the end");
    assert_fault("2*(a; 3", 5, "( opened at column 3");
    assert_fault("a + 2)", 6, "closes nothing");
    assert_fault("a + ()", 6, "expected a number");
    assert_fault("a +", 4, "found the end");
    assert_fault("a + * 2", 5, "found *");
    assert_fault("2a", 2, "expected an operator between 2 and a: write 2*a");
    assert_fault("(a)(a)", 4, "write (…)*(…)");
    assert_fault("a exp(2)", 3, "write a*exp(…)");
    assert_fault("a(2)", 2, "write a*(…)");
    assert_fault("(a 2)", 4, "write a*2");
    assert_fault("a $ 2", 3, "found $");
    assert_fault("a + $", 5, "unexpected '$'");
    assert_fault("1e999", 1, "1e999 is larger than any f64");
    assert_fault("a*1e-999", 3, "nearer to 0");
    assert_fault("가 = a; 나", 8, "unknown name 나, there are: a, zero, 가");
    assert_fault("foo(a)", 1, "unknown function foo, there are: exp, log");
    assert_fault("x = y; y = a; x", 5, "used before it is bound at column 8");
    assert_fault("x = x + 1; x", 5, "cycle");
    assert_fault("a = 2; a", 1, "is an input");
    assert_fault("x = 1; x = 2; x", 8, "bound twice, first at column 1");
    assert_fault("exp = 2; exp", 1, "meaning of their own");
    assert_fault("let = 2", 5, "needs a name");
    assert_fault("let x; 2", 5, "needs = and a value");
    assert_fault("2 + let", 5, "start of a part");
    assert_fault("a = = 2", 1, "is an input");
    assert_fault("2 = a", 3, "= may only follow a name");
    assert_fault("a + 1; 2", 1, "only the last part");
    assert_fault("x = 1;; 2", 7, "found ;");
    assert_fault("a, 2", 2, "comma");
    assert_fault("log(a, 2)", 1, "log takes 1 argument, not 2");
    assert_fault("2 + max(a)", 5, "max takes 2 or more arguments, not 1");
    assert_fault("exp()", 1, "exp takes 1 argument, not 0");
    assert_fault("2*exp", 3, "write exp(…)");
}

#[test]
fn every_undefined_value_is_reported_at_its_operator() {
    assert_fault("3/0", 2, "divides 3 by 0");
    assert_fault("1 + a/zero", 6, "divides -2 by 0");
    assert_fault("log(a + 1)", 1, "log of -1: only numbers above 0 have one");
    assert_fault("sqrt(a)", 1, "sqrt of -2");
    assert_fault("2*exp(1000)", 3, "exp(1000) is larger than any f64");
    assert_fault("a^0.5", 2, "(-2)^0.5 is no real number");
    assert_fault("zero^-1", 5, "0^-1 divides 1 by 0");
    assert_fault("1e200*1e200", 6, "1e200 * 1e200 is larger than any f64");
    assert_fault("-1e308 - 1e308", 8, "is below any f64");
    assert_fault("10^400", 3, "larger than any f64");
    assert_fault("x = 1/zero; a", 6, "divides 1 by 0");
}

#[test]
fn a_missing_derivative_is_an_error_if_an_input_needs_it() {
    assert_fault("sqrt(zero)", 1, "no finite derivative at 0");
    assert_fault("(0 - 2)^(zero + 2)", 8, "with respect to its exponent");
    assert_fault("zero^0.5", 5, "no finite derivative with respect to its base");
    assert_fault("0^zero", 2, "with respect to its exponent");
    assert_fault("log(zero + 1e-310)", 1, "is larger than any f64");
    assert_fault("zero*1e200*1e200", 5, "overflows");
    assert_eq!(graph("sqrt(0) + a", &[("a", 2.0)]).gradients.get("a").copied(), Some(1.0));
}

#[test]
fn an_invalid_input_is_reported_by_name() {
    for (name, value, words) in [
        ("2a", 1.0, "is not a name"),
        ("", 1.0, "is not a name"),
        ("a b", 1.0, "is not a name"),
        ("exp", 1.0, "is reserved"),
        ("let", 1.0, "is reserved"),
        ("a", f64::NAN, "must be a finite number"),
        ("a", f64::INFINITY, "must be a finite number"),
    ] {
        let error = fault("1", &[(name, value)]);
        assert_eq!(error.location, Location::Input(name.to_owned()));
        assert!(
            error.to_string().starts_with(&format!("input {name}: ")) && error.detail.contains(words),
            "{error}"
        );
    }
    let many: BTreeMap<String, f64> = (0..=INPUTS_MAX).map(|place| (format!("a{place:03}"), 1.0)).collect();
    let faults = differentiate("1", &many).expect_err("too many");
    let told: Vec<String> = faults.iter().map(GraphError::to_string).collect();
    assert_eq!(told, ["input a100: is input number 101, at most 100 are taken"]);
}

#[test]
fn all_errors_of_the_inputs_are_reported_with_the_first_of_the_expression() {
    let wrong = inputs(&[("2a", 1.0), ("a", f64::NAN), ("b", 1.0), ("exp", 1.0)]);
    let places = |expression: &str| -> Vec<Location> {
        let faults = differentiate(expression, &wrong).expect_err("faults");
        faults.into_iter().map(|fault| fault.location).collect()
    };
    let inputs = ["2a", "a", "exp"].map(|name| Location::Input(name.to_owned()));
    assert_eq!(places("a + exp(b)"), inputs);
    assert_eq!(places("a + c + d"), [&inputs[..], &[Location::Column(5)]].concat());
    assert_eq!(places("log(a - a)"), inputs);
    let long = places(&"1+".repeat(EXPRESSION_CHARS_MAX));
    assert_eq!(long, [&inputs[..], &[Location::Column(EXPRESSION_CHARS_MAX + 1)]].concat());
}

#[test]
fn a_word_similar_to_a_known_one_is_answered_with_that() {
    assert_fault("sigmod(a)", 1, "unknown function sigmod, did you mean sigmoid?");
    assert_fault("2*mxa(a, 2)", 3, "did you mean max?");
    assert_fault("tahnn(a)", 1, "did you mean tanh?");
    assert_fault("softplus(a)", 1, "there are: exp, log");
    assert_fault("zeor + 1", 1, "unknown name zeor, did you mean zero?");
    assert_fault("weight = a; wieght*2", 13, "did you mean weight?");
    assert_fault("b + 1", 1, "unknown name b, there are: a, zero");
    assert_fault(&"z".repeat(1000), 1, "there are: a, zero");
}

#[test]
fn an_expression_that_is_too_long_or_too_deep_is_refused() {
    let long = "1+".repeat(500_000) + "1";
    let error = fault(&long, &[]);
    assert!(error.detail.contains("1000001 characters, at most 4000"), "{error}");
    for repeated in ["(", "-", "exp(", "2^", "max(1,"] {
        let error = fault(&repeated.repeat(100_000), &[]);
        assert!(error.detail.contains("at most 4000"), "{error}");
        let error = fault(&repeated.repeat(EXPRESSION_CHARS_MAX / repeated.len()), &[]);
        assert!(error.detail.contains("nested deeper than 200"), "{repeated}: {error}");
        let error = fault(&(repeated.repeat(201) + "1"), &[]);
        assert!(error.detail.contains("nested deeper than 200"), "{repeated}: {error}");
    }
    assert_fault(&("(".repeat(201) + "1"), 201, "nested deeper");
    let deepest = "(".repeat(200) + "a" + &")".repeat(200);
    assert_eq!(graph(&deepest, &[("a", 2.0)]).value, 2.0);
    assert_eq!(graph(&("-".repeat(200) + "a"), &[("a", 2.0)]).gradients.get("a").copied(), Some(1.0));
    let widest = vec!["a"; EXPRESSION_CHARS_MAX / 2].join("+");
    assert_eq!(graph(&widest, &[("a", 1.0)]).gradients.get("a").copied(), Some(2000.0));
}

#[test]
fn the_documented_errors_are_those_reported() {
    let page = include_str!("../../../../../docs/graph.md");
    let rows =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `"));
    let rows: Vec<(&str, &str)> = rows.filter(|(_, told)| told.starts_with("column ")).collect();
    assert_eq!(rows.len(), 6);
    for (expression, told) in rows {
        assert_eq!(fault(expression, &[("a", -2.0)]).to_string(), told);
    }
}

#[test]
fn the_documented_grammar_is_that_of_the_code() {
    let grammar = |text: &str| -> String {
        let block =
            text.split("```text").nth(1).and_then(|rest| rest.split("```").next()).expect("a grammar");
        block.replace("//! ", "").replace("//!", "")
    };
    let [page, code] =
        [include_str!("../../../../../docs/graph.md"), include_str!("../../../src/graph/mod.rs")];
    assert_eq!(grammar(page), grammar(code));
}
