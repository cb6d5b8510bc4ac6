//! The inner loops: the matrix product and the threads that share it.
//!
//! The only room with `unsafe`: raw pointers where a bounds check in the innermost loop would cost
//! more than the arithmetic, and a pool whose tasks borrow from the caller's stack.
#![expect(unsafe_code, reason = "the one room for it, see above")]

mod matmul;
mod panels;
mod pool;
mod simd;

pub use matmul::{Instructions, matmul, matmul_with, vectorized};
pub use panels::{PANEL, Panels, fill_panel};
pub use pool::Pool;
