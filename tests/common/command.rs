//! Runs the built `chainrule` binary, for both test binaries.

use std::process::{Command, Output, Stdio};

/// The path of the binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_chainrule");

/// A command for the binary, without any `CHAINRULE_*` variable of the environment.
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

/// Runs the binary and waits for its end.
pub fn output(arguments: &[&str]) -> Output {
    chainrule(arguments).output().expect("the binary runs")
}
