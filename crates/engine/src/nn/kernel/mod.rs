//! The inner loops (full and sparse products, pooled convolution, normalisation), and the threads that share
//! them.
//!
//! This is the only module with `unsafe`. It uses raw pointers in innermost loops in which a bounds check would cost
//! more than the arithmetic. The tasks of its thread pool borrow from the caller's stack.
#![expect(unsafe_code, reason = "the only module with unsafe code, see above")]

mod aligned;
mod alive;
mod instructions;
mod matmul;
mod normed;
mod panels;
mod parts;
mod peak;
mod pooled;
mod simd;
mod sparse;
mod sparse_product;
mod threads;
mod tile;

pub use aligned::Aligned;
pub use alive::{AliveLists, add_input_gradient, collect_alive};
pub(crate) use instructions::vectorized;
pub use instructions::{Instructions, instruction_set, prefetch, run_vectorized};
pub use matmul::{Offsets, Start, Windows, matmul, matmul_windows, matmul_with};
pub use normed::{Squares, affine_relu_pool, routed_backward, routed_sums};
pub use panels::{PANEL, Panels, Right, fill_panels};
pub use parts::{AllParts, Parts};
pub use peak::multiply_adds;
pub use pooled::{POOL_SIDE, PooledWindows, Routed, conv_relu_pool};
pub use simd::Vectors;
pub use sparse::{NonzeroBits, SPAN, SparseColumns, SparseRows, SparseSpan, SparseView, pixel};
pub use sparse_product::{sparse_matmul, sparse_outer};
pub use threads::ThreadPool;
