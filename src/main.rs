//! The binary: the command line of the library.

use std::process::ExitCode;

/// glibc's allocator keeps arenas per thread, so with many threads the process grows although nothing leaks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chainrule::cli::main()
}
