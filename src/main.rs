//! The binary: the command line of the library.

use std::process::ExitCode;

/// glibc's allocator keeps an arena for each thread and grows without a leak under many of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chainrule::cli::main()
}
