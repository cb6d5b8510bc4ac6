//! Names the tests of the other binary, so that `cargo test` shows that they exist.

use std::process::Command;

#[test]
#[ignore = "kills and stalls servers for two minutes: cargo test --test faults"]
fn the_promises_hold_under_faults() {
    let status = Command::new(env!("CARGO")).args(["test", "--locked", "--test", "faults"]).status();
    assert!(status.expect("cargo runs").success());
}
