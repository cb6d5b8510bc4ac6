//! What the engine promises, tested through its public surface.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "not part of the engine"
)]

mod aligned;
mod allocation;
mod artifact;
mod classes;
mod counting;
mod evaluation;
mod graph;
mod inlined;
mod kernels;
mod layers;
mod network;
mod onnx;
mod pytorch;
mod reference;
mod tape;
mod upload;
