//! What the engine promises, tested through its public surface.

mod classes;
mod graph;
mod inlined;
mod kernels;
mod network;
mod pytorch;
mod tape;
