//! The operations of a pass. Each is the fast path of one layer, or of several fused layers.
//!
//! An operation holds its packed weight and, in [`Parts`], its buffers for each group of rows. The groups hold its
//! input and output. Its file contains the forward pass, the backward pass, the terms of the gradient, and `numbers_of`,
//! which counts the elements of its buffers before they are allocated. `tests/engine/allocation.rs` compares the counts
//! with what is allocated. The few numbers that a `batch_norm` keeps for each channel are not counted.
//!
//! [`Parts`]: super::kernel::Parts

mod batch_norm;
mod conv2d;
mod conv_pool;
mod dense;
mod dropout;
mod gradients;
mod moments;
mod relu;
mod single;
mod sparse_dense;

use ndarray::{ArrayView2, ArrayViewMut2};

use self::batch_norm::NormOperation;
use self::conv_pool::ConvPool;
use self::conv2d::ConvOperation;
use self::dense::DenseOperation;
use self::dropout::DropoutOperation;
pub(super) use self::gradients::{GradientSum, Trained, trained};
pub(super) use self::moments::{Moments, affine};
use self::relu::Relu;
use self::single::SingleLayer;
pub(super) use self::sparse_dense::BlockStep;
use self::sparse_dense::SparseDense;
use super::group::{Pass, Rows};
use super::plan::{OpKind, Plan};
use super::{Batch, BatchNorm, Conv2d, Dense, Float, Gradient, Layer, Network, Optimizer, ThreadPool};

/// An operation of a [`Plan`].
pub(super) enum Operation<T> {
    Dense(DenseOperation<T>),
    SparseDense(SparseDense<T>),
    Conv2d(ConvOperation<T>),
    ConvPool(ConvPool<T>),
    /// Alone, with a relu, or with a relu and a max-pool.
    BatchNorm(NormOperation<T>),
    Dropout(DropoutOperation<T>),
    Relu(Relu<T>),
    /// Any layer without an operation of its own.
    Single(SingleLayer<T>),
}

/// Number of elements that the operation holds. `states` is the number of optimiser tensors per weight. Only a sparse
/// layer keeps them itself.
pub(super) fn numbers_of<T: Float>(plan: &Plan, number: usize, states: usize) -> f64 {
    let op = &plan.ops[number];
    match op.kind {
        OpKind::Dense => dense::numbers_of(plan, op),
        OpKind::SparseDense => sparse_dense::numbers_of::<T>(plan, op, states),
        OpKind::Conv2d(window) => conv2d::numbers_of(plan, op, window),
        OpKind::ConvPool(window) => conv_pool::numbers_of(plan, number, window),
        OpKind::BatchNorm | OpKind::NormRelu(_) => batch_norm::numbers_of(plan, op),
        OpKind::Dropout(_) => dropout::numbers_of(plan, number),
        OpKind::Relu => relu::numbers_of(plan, op.output),
        OpKind::Single(kind) => single::numbers_of(plan, kind),
    }
}

impl<T: Float> Operation<T> {
    /// The operation `number` of `plan`.
    pub fn new(plan: &Plan, number: usize) -> Self {
        let op = &plan.ops[number];
        match op.kind {
            OpKind::Dense => Self::Dense(DenseOperation::new(plan, op)),
            OpKind::SparseDense => Self::SparseDense(SparseDense::new(plan, op)),
            OpKind::Conv2d(window) => Self::Conv2d(ConvOperation::new(plan, op, window)),
            OpKind::ConvPool(window) => Self::ConvPool(ConvPool::new(plan, number, window)),
            OpKind::BatchNorm | OpKind::NormRelu(_) => Self::BatchNorm(NormOperation::new(plan, op)),
            OpKind::Dropout(dropout) => Self::Dropout(DropoutOperation::new(plan, number, dropout)),
            OpKind::Relu => Self::Relu(Relu::new(plan, op.layers.start, op.output)),
            OpKind::Single(kind) => Self::Single(SingleLayer::new(plan, op, kind)),
        }
    }

    /// Packs the weight for the products.
    pub fn pack(&mut self, network: &Network<T>) {
        match self {
            Self::Dense(dense) => dense.pack(network),
            Self::SparseDense(sparse) => sparse.pack(network),
            Self::Conv2d(conv) => conv.pack(network),
            Self::ConvPool(conv_pool) => conv_pool.pack(network),
            Self::BatchNorm(_) | Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => {}
        }
    }

    /// [`Self::pack`] for a single element of the weight, at `row` and `column`.
    pub fn pack_one(&mut self, network: &Network<T>, row: usize, column: usize) {
        match self {
            Self::Dense(dense) => dense.pack_one(network, row, column),
            Self::SparseDense(sparse) => sparse.pack_one(network, row, column),
            Self::Conv2d(conv) => conv.pack_one(network, row, column),
            Self::ConvPool(conv_pool) => conv_pool.pack_one(network, row, column),
            Self::BatchNorm(_) | Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => {}
        }
    }

    /// [`Self::pack`] after an update. The update itself packs the weights of dense layers.
    pub fn pack_after_update(&mut self, network: &Network<T>) {
        if let Self::Conv2d(_) | Self::ConvPool(_) = self {
            self.pack(network);
        }
    }

    /// Begins a pass. Resets the sums over the rows to 0. A sparse layer computes its output for all rows of the batch.
    pub fn begin(&mut self, network: &Network<T>, batch: &Batch<T>, backward: bool, pool: &ThreadPool) {
        match self {
            Self::SparseDense(sparse) => sparse.begin(network, batch, backward, pool),
            Self::Conv2d(conv) => conv.begin(),
            Self::ConvPool(conv_pool) => conv_pool.begin(),
            Self::BatchNorm(norm) => norm.begin(),
            Self::Single(single) => single.begin(),
            Self::Dense(_) | Self::Dropout(_) | Self::Relu(_) => {}
        }
    }

    /// The forward pass for some rows of a group, with x (rows, inputs) and y (rows, outputs).
    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        match self {
            Self::Dense(dense) => dense.forward(pass.network, x, y),
            Self::SparseDense(sparse) => sparse.write_y(rows.first, &mut y),
            Self::Conv2d(conv) => conv.forward(pass.network, rows, x, y),
            Self::ConvPool(conv_pool) => conv_pool.forward(pass, rows, x, y),
            Self::BatchNorm(norm) => norm.forward(pass, rows, x, y),
            Self::Dropout(dropout) => dropout.forward(pass, rows, x, y),
            Self::Relu(relu) => relu.forward(pass, rows, x, y),
            Self::Single(single) => single.forward(pass, rows, x, y),
        }
    }

    /// The backward pass for some rows of a group. Writes dx if it is given, and adds the rows to the gradient of the
    /// parameters. x and dx have shape (rows, inputs), y and dy have shape (rows, outputs).
    pub fn backward(
        &self,
        pass: &Pass<T>,
        rows: Rows,
        [x, y, dy]: [ArrayView2<T>; 3],
        dx: Option<ArrayViewMut2<T>>,
    ) {
        match (self, dx) {
            (Self::Conv2d(conv), dx) => conv.backward(pass.network, rows, [x, dy], dx),
            (Self::ConvPool(conv_pool), dx) => conv_pool.backward(pass.network, rows, [x, y, dy], dx),
            (Self::Single(single), dx) => single.backward(pass, rows, [x, y, dy], dx),
            (
                Self::Dense(_) | Self::SparseDense(_) | Self::BatchNorm(_) | Self::Dropout(_) | Self::Relu(_),
                None,
            ) => {}
            (Self::Dense(dense), Some(dx)) => dense.backward(dy, dx),
            (Self::SparseDense(_), Some(_)) => {
                unreachable!("no layer before a sparse layer needs a gradient")
            }
            (Self::BatchNorm(norm), Some(dx)) => norm.backward(rows, [x, y, dy], dx),
            (Self::Dropout(dropout), Some(dx)) => dropout.backward(rows, dy, dx),
            (Self::Relu(_), Some(dx)) => Relu::backward([x, y, dy], dx),
        }
    }

    /// What the gradient sum and the update need. `None` if the operation has no parameters.
    pub fn trained(&mut self) -> Option<Trained<'_, T>> {
        let sum = match self {
            Self::Dense(dense) => return Some(dense.trained()),
            Self::SparseDense(sparse) => return Some(sparse.trained()),
            Self::Conv2d(conv) => conv.gradient(),
            Self::ConvPool(conv_pool) => conv_pool.gradient(),
            Self::BatchNorm(norm) => norm.gradient(),
            Self::Single(single) => single.gradient()?,
            Self::Dropout(_) | Self::Relu(_) => return None,
        };
        Some(Trained { packed: None, blocks: None, sum })
    }

    /// Ends the backward pass of a group, after all of its rows. dy has shape (rows, outputs).
    pub fn end_backward<'a>(&self, group: usize, dy: impl FnOnce() -> ArrayView2<'a, T>)
    where
        T: 'a,
    {
        match self {
            Self::Dense(dense) => dense.keep_dy(group, dy()),
            Self::SparseDense(_) | Self::Conv2d(_) | Self::ConvPool(_) | Self::BatchNorm(_) => {}
            Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => {}
        }
    }

    /// The relu that the operation is or contains.
    pub fn relu(&self) -> Option<&Relu<T>> {
        match self {
            Self::ConvPool(conv_pool) => Some(conv_pool.relu()),
            Self::BatchNorm(norm) => norm.relu(),
            Self::Relu(relu) => Some(relu),
            Self::Dense(_) | Self::SparseDense(_) | Self::Conv2d(_) => None,
            Self::Dropout(_) | Self::Single(_) => None,
        }
    }

    /// Forgets which outputs of its relu were above 0.
    pub fn forget_units(&mut self) {
        match self {
            Self::ConvPool(conv_pool) => conv_pool.relu_mut().forget_units(),
            Self::BatchNorm(norm) => norm.forget_units(),
            Self::Relu(relu) => relu.forget_units(),
            Self::Dense(_) | Self::SparseDense(_) | Self::Conv2d(_) => {}
            Self::Dropout(_) | Self::Single(_) => {}
        }
    }
}

/// What a sparse layer keeps itself. All other operations leave it in the network, the optimiser and the gradients.
impl<T: Float> Operation<T> {
    /// Writes the weight back to `network`.
    pub fn unpack(&self, network: &mut Network<T>) {
        self.sparse().into_iter().for_each(|sparse| sparse.unpack(network));
    }

    /// Packs the state of `optimizer` for the weight.
    pub fn pack_states(&mut self, optimizer: &mut Optimizer<T>) {
        if let Self::SparseDense(sparse) = self {
            sparse.pack_states(optimizer.first_state_mut());
        }
    }

    /// Writes the state for the weight back to `optimizer`.
    pub fn unpack_states(&self, optimizer: &mut Optimizer<T>) {
        self.sparse().into_iter().for_each(|sparse| sparse.unpack_states(optimizer.first_state_mut()));
    }

    /// Writes the gradient of the weight to `gradients`.
    pub fn write_gradient(&self, gradients: &mut [Gradient<T>]) {
        self.sparse().into_iter().for_each(|sparse| sparse.write_gradient(&mut gradients[0]));
    }

    fn sparse(&self) -> Option<&SparseDense<T>> {
        match self {
            Self::SparseDense(sparse) => Some(sparse),
            Self::Dense(_) | Self::Conv2d(_) | Self::ConvPool(_) | Self::BatchNorm(_) => None,
            Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => None,
        }
    }
}

const BEGINS: &str = "the groups synchronise only at a batch_norm";

/// What an operation does with the whole batch, where the groups synchronise.
impl<T: Float> Operation<T> {
    fn norm(&self) -> Option<&NormOperation<T>> {
        match self {
            Self::BatchNorm(norm) => Some(norm),
            Self::Dense(_) | Self::SparseDense(_) | Self::Conv2d(_) | Self::ConvPool(_) => None,
            Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => None,
        }
    }

    fn norm_mut(&mut self) -> Option<&mut NormOperation<T>> {
        match self {
            Self::BatchNorm(norm) => Some(norm),
            Self::Dense(_) | Self::SparseDense(_) | Self::Conv2d(_) | Self::ConvPool(_) => None,
            Self::Dropout(_) | Self::Relu(_) | Self::Single(_) => None,
        }
    }

    /// See [`NormOperation::measure`].
    pub fn measure(&self, rows: Rows, x: ArrayView2<T>) {
        self.norm().expect(BEGINS).measure(rows, x);
    }

    /// See [`NormOperation::settle`].
    pub fn settle(&mut self, network: &Network<T>) {
        self.norm_mut().expect(BEGINS).settle(network);
    }

    /// See [`NormOperation::settle_running`].
    pub fn settle_running(&mut self, network: &Network<T>) {
        self.norm_mut().into_iter().for_each(|norm| norm.settle_running(network));
    }

    /// See [`NormOperation::measure_gradient`].
    pub fn measure_gradient(&self, rows: Rows, values: [ArrayView2<T>; 3]) {
        self.norm().expect(BEGINS).measure_gradient(rows, values);
    }

    /// See [`NormOperation::settle_gradient`].
    pub fn settle_gradient(&mut self, network: &Network<T>) {
        self.norm_mut().expect(BEGINS).settle_gradient(network);
    }

    /// See [`NormOperation::track`].
    pub fn track(&self, network: &mut Network<T>) {
        self.norm().into_iter().for_each(|norm| norm.track(network));
    }
}

/// The dense layer at `index` of the network that the workspace was created for.
///
/// # Panics
/// If the layer is of another kind.
fn dense<T: Float>(network: &Network<T>, index: usize) -> &Dense<T> {
    match &network.layers()[index] {
        Layer::Dense(dense) => dense,
        other => panic!("layer {index} is {}, but the workspace was created for dense", other.name()),
    }
}

/// The convolution at `index`, under the conditions of [`dense()`].
fn conv2d<T: Float>(network: &Network<T>, index: usize) -> &Conv2d<T> {
    match &network.layers()[index] {
        Layer::Conv2d(conv) => conv,
        other => panic!("layer {index} is {}, but the workspace was created for conv2d", other.name()),
    }
}

/// The `batch_norm` at `index`, under the conditions of [`dense()`].
fn batch_norm<T: Float>(network: &Network<T>, index: usize) -> &BatchNorm<T> {
    match &network.layers()[index] {
        Layer::BatchNorm(norm) => norm,
        other => panic!("layer {index} is {}, but the workspace was created for batch_norm", other.name()),
    }
}
