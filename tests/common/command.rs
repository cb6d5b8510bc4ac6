//! The shipped binary as a command: for both binaries of tests.

use std::process::{Command, Output, Stdio};

/// Where it is.
pub const BINARY: &str = env!("CARGO_BIN_EXE_chainrule");

/// The binary, with an environment that sets nothing.
pub fn chainrule(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("CHAINRULE_") || name.starts_with("CLICOLOR") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary to its end.
pub fn output(arguments: &[&str]) -> Output {
    chainrule(arguments).output().expect("the binary runs")
}
