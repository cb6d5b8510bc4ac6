//! Wrong usage of the command line.

use serde_json::Value;

use crate::command_line::{json_lines, status};
use crate::process::{chainrule, output, text};

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["trian"][..],
        &["train", "--job", "7"],
        &["serve", "--workers", "0"],
        &["jobs", "lsit"],
        &["models", "alias", "digits", "champion"],
        &["predict", "-", "-"],
        &["serve", "--predictions-max", "0"],
        &["serve", "--connections-max", "18446744073709551615"],
        &["health", "--server", "ftp://x"],
    ] {
        let output = output(arguments);
        let error = text(&output.stderr);
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(error.starts_with("error: ") && error.lines().count() <= 3, "{error}");
    }
}

#[test]
fn a_wrong_value_is_reported_with_the_valid_ones() {
    for (arguments, expected) in [
        (
            &["train", "--follow", "--job", "nosuch"][..],
            "--job <ID>: \"nosuch\" is not a job id; it must be a UUID",
        ),
        (&["jobs", "show", "nosuch"], "\"nosuch\" is not a job id; it must be a UUID"),
        (&["jobs", "list", "--state", "runing"], "unknown state \"runing\", did you mean \"running\"?"),
        (&["jobs", "list", "--limit", "201"], "--limit <N> must be from 1 to 200, not 201"),
        (&["serve", "--workers", "x"], "--workers <N> must be a whole number, not \"x\""),
        (&["serve", "--workers", "-1"], "--workers <N> must be from 1 to 64, not -1"),
        (&["trace", "-1"], "<INDEX> must be a whole number, not \"-1\""),
        (
            &["trace", "0", "--learning-rate", "-1"],
            "--learning-rate <RATE> must be a number above 0, not \"-1\"",
        ),
        (&["serve", "--log", "inf"], "--log <FILTER> must be a level "),
        (&["serve", "--log", "a=b=c"], "or several with commas in between, not \"a=b=c\""),
        (&["datasets", "show", "A/b"], "not \"A/b\""),
        (&["health", "--server", "127.0.0.1:8080"], "it lacks http://"),
    ] {
        let output = output(arguments);
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_wrong_variable_of_the_environment_is_wrong_usage() {
    for (variable, value) in [
        ("CHAINRULE_LOG", "inf"),
        ("CHAINRULE_LOG", ""),
        ("CHAINRULE_WORKERS", ""),
        ("CHAINRULE_DATA_DIR", ""),
    ] {
        let output = chainrule(&["serve"]).env(variable, value).output().expect("the binary runs");
        let error = text(&output.stderr);
        assert_eq!(status(&output), Some(2), "{variable}={value}: {error}");
        let flag = variable.trim_start_matches("CHAINRULE_").to_lowercase().replace('_', "-");
        assert!(error.contains(&format!("--{flag} <")), "{error}");
    }
}

#[test]
fn an_error_names_the_help_of_its_command() {
    for (arguments, help) in [
        (&["serve", "--workers", "0"][..], "see chainrule serve --help"),
        (&["jobs", "show", "nosuch"], "see chainrule jobs show --help"),
        (&["--color", "always", "trace", "1e3"], "see chainrule trace --help"),
        (&["graph", "a", "b"], "see chainrule graph --help"),
        (&["summary", "cn"], "see chainrule summary --help"),
        (&["gradient-check", "digits"], "NETWORK is a preset or layers as JSON"),
    ] {
        let output = output(arguments);
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(help), "{}", text(&output.stderr));
    }
}

/// Returns the exit status of a command and its only error, in JSON.
pub fn json_error(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = output(arguments);
    let mut lines = json_lines(&output.stderr);
    assert_eq!((lines.len(), text(&output.stdout)), (1, ""), "{}", text(&output.stderr));
    (status(&output), lines.remove(0)["error"].take())
}

#[test]
fn with_json_an_error_is_one_object_on_standard_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = format!("http://{free}");
    for (arguments, expected, code) in [
        (&["--json"][..], 2, "usage"),
        (&["trian", "--json"], 2, "usage"),
        (&["serve", "--json", "--workers", "0"], 2, "usage"),
        (&["serve", "--json", "--log", "a=b=c"], 2, "usage"),
        (&["train", "--json", "{"], 2, "usage"),
        (&["graph", "a + (b", "a=1", "b=2", "--json"], 2, "usage"),
        (&["health", "--json", "--server", &server], 5, "no_server"),
        (&["predict", "--json", "/nowhere/digit.png"], 1, "failed"),
        (&["check", "--json", "--data-dir", "/nowhere"], 1, "failed"),
    ] {
        let (status, error) = json_error(arguments);
        assert_eq!((status, &error["code"]), (Some(expected), &Value::from(code)), "{arguments:?}: {error}");
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
    }
    let after = output(&["graph", "--", "a +", "--json"]);
    assert!(text(&after.stderr).starts_with("error: "), "an argument after -- is not a flag");
}

#[test]
fn check_and_gradient_check_are_two_commands() {
    for arguments in [
        &["check", "lesson"][..],
        &["check", "--data-dir", "x", "--samples", "2"],
        &["gradient-check", "lesson", "--data-dir", "x"],
        &["gradient-check", "--repair"],
    ] {
        let refused = output(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", text(&refused.stderr));
    }
    let mut beside = chainrule(&["gradient-check", "lesson", "--samples", "1", "--quiet"]);
    let beside = beside.env("CHAINRULE_DATA_DIR", "/nowhere").output().expect("the binary runs");
    assert!(beside.status.success(), "{}", text(&beside.stderr));
}
