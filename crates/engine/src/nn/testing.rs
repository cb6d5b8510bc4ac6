//! What only the tests, benchmarks and examples of this crate use. It is not part of the interface.

use ndarray::Array2;

pub use super::kernel::{
    Aligned, AliveLists, Instructions, NonzeroBits, PANEL, Panels, PooledWindows, Routed, SPAN,
    SparseColumns, SparseRows, Squares, Start, Windows, add_input_gradient, affine_relu_pool, collect_alive,
    conv_relu_pool, matmul_windows, matmul_with, multiply_adds, pixel, routed_backward, routed_sums,
    run_vectorized, sparse_matmul, sparse_outer,
};
use super::layer::values;
use super::optimizer::with_states;
use super::{Batch, Draw, Float, Gradient, Loss, Network, Optimizer, StepLoss, Tape, ThreadPool, Workspace};

/// The loss of a batch as in a training step, without gradients.
pub fn training_loss<T: Float>(
    workspace: &mut Workspace<T>,
    network: &Network<T>,
    loss: &Loss,
    batch: Batch<T>,
    pool: &ThreadPool,
) -> StepLoss {
    workspace.pack(network);
    workspace.pass(network, loss, batch, false, pool)
}

/// The forward pass of a training step, layer by layer, with x (rows, inputs). `batch_norm` uses the moments of these
/// rows, and `dropout` draws a mask for each of `examples`. The fused operations of a [`Plan`](super::Plan) give the
/// same values except for rounding.
pub fn tape_of_step<T: Float>(network: &Network<T>, x: Array2<T>, examples: &[u32], draw: Draw) -> Tape<T> {
    Tape::of_step(network, x, examples, draw)
}

/// Elements of a tensor updated by one task of [`update`].
const CHUNK: usize = 8_192;

/// Updates every parameter once, apart from the products. Gradients are multiplied by `gradient_scale` first.
pub fn update<T: Float>(
    optimizer: &mut Optimizer<T>,
    network: &mut Network<T>,
    gradients: &[Gradient<T>],
    learning_rate: f64,
    gradient_scale: f64,
    pool: &ThreadPool,
) {
    let (rule, states) = optimizer.next(learning_rate, gradient_scale);
    let gradients = gradients.iter().flat_map(|gradient| [values(&gradient.weight), values(&gradient.bias)]);
    for ((w, g), states) in network.parameters_mut().zip(gradients).zip(states) {
        let chunks = w.chunks_mut(CHUNK).zip(g.chunks(CHUNK));
        pool.for_each(with_states(chunks, states, CHUNK), |((w, g), states)| rule.apply(w, g, states));
    }
}
