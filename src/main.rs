//! The binary: the command line of the library.

use std::process::ExitCode;

/// Replaces glibc's allocator, which keeps arenas per thread. With many threads the process would grow
/// although nothing leaks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chainrule::cli::main()
}
