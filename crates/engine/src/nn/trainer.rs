use super::{Batch, Float, Loss, Network, Optimizer, StepLoss, ThreadPool, Workspace, clip_scale};

/// A network in training.
///
/// A trainer borrows the network and the optimiser exclusively. While it exists, the newest weights of a sparse first
/// layer are only in the [`Workspace`], packed for products. All other layers are updated in the network. Dropping the
/// trainer writes the weights of the sparse layer back to the network, and their state back to the optimiser.
pub struct Trainer<'a, T: Float> {
    workspace: &'a mut Workspace<T>,
    network: &'a mut Network<T>,
    optimizer: &'a mut Optimizer<T>,
    /// Whether a step was taken since the weights were last unpacked.
    is_ahead: bool,
    is_watching: bool,
}

impl<'a, T: Float> Trainer<'a, T> {
    /// Continues with `network` and `optimizer`, in a workspace created for them.
    pub fn new(
        workspace: &'a mut Workspace<T>,
        network: &'a mut Network<T>,
        optimizer: &'a mut Optimizer<T>,
    ) -> Self {
        workspace.pack(network);
        workspace.pack_states(optimizer);
        Self { workspace, network, optimizer, is_ahead: false, is_watching: false }
    }

    /// The network with its newest weights. The weights of a sparse first layer are unpacked first.
    pub fn network(&mut self) -> &Network<T> {
        if std::mem::take(&mut self.is_ahead) {
            self.workspace.unpack(self.network);
        }
        self.network
    }

    /// [`Self::network`], and the workspace after the last step.
    pub fn parts(&mut self) -> (&Network<T>, &Workspace<T>) {
        self.network();
        (self.network, self.workspace)
    }

    /// Starts or stops keeping the gradients of each step in the workspace, and recording which outputs of a
    /// relu are ever above 0.
    pub fn watch(&mut self, watch: bool) {
        self.is_watching = watch;
        self.workspace.watch_units(watch);
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// Takes a step of gradient descent on `batch`: forward, loss, backward, update. The joint norm of all gradients is
    /// clipped to `gradient_clip_norm`. Returns the loss and accuracy before the update.
    pub fn step(
        &mut self,
        loss: &Loss,
        batch: Batch<T>,
        learning_rate: f64,
        gradient_clip_norm: Option<f64>,
        pool: &ThreadPool,
    ) -> StepLoss {
        let Self { workspace, network, optimizer, .. } = self;
        let result = workspace.pass(network, loss, batch, true, pool);
        let is_summed = self.is_watching || gradient_clip_norm.is_some();
        if is_summed {
            workspace.sum_gradients(pool);
        }
        let scale = clip_scale(gradient_clip_norm, workspace.gradients());
        let (rule, states) = optimizer.next(learning_rate, scale);
        workspace.update(network, rule, states, is_summed, pool);
        workspace.track_statistics(network);
        self.is_ahead = true;
        result
    }
}

impl<T: Float> Drop for Trainer<'_, T> {
    fn drop(&mut self) {
        self.workspace.unpack(self.network);
        self.workspace.unpack_states(self.optimizer);
    }
}
