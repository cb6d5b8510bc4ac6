//! What the engine promises, tested through its public surface.

mod aligned;
mod allocation;
mod classes;
mod counting;
mod graph;
mod inlined;
mod kernels;
mod layers;
mod network;
mod pytorch;
mod reference;
mod tape;
