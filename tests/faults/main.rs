//! Tests of the promises that hold under faults: crashes at each step, power cuts, full and failing disks,
//! stalls, damaged bytes, wrong clocks.
//!
//! The short ones take two minutes and run with `cargo test --test faults`. The long ones take hours and run with
//! `cargo test --test faults -- --ignored --nocapture --test-threads 1`, which also prints their figures.

mod backups;
mod bit_rot;
mod checker;
mod clock;
#[path = "../common/command.rs"]
mod command;
mod crash_points;
mod disk;
mod estimates;
#[path = "../common/folders.rs"]
mod folders;
mod jobs;
mod log;
mod power_cut;
mod process;
mod random;
mod scenario;
mod script;
mod shim;
mod soak;
mod stall;
mod storm;
mod syscalls;
mod workload;
