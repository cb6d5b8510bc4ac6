use super::{Batch, Float, Loss, Network, Optimizer, Pool, StepLoss, Workspace, clip_scale};

/// A network that is trained step by step.
///
/// It holds network and optimiser for itself meanwhile: the weights in the order of the products, which the
/// [`Workspace`] keeps from step to step, are then always the newest. The network and the optimiser have them
/// again when the trainer goes.
pub struct Trainer<'a, T: Float> {
    workspace: &'a mut Workspace<T>,
    network: &'a mut Network<T>,
    optimizer: &'a mut Optimizer<T>,
    /// Whether the workspace is ahead of the network.
    is_ahead: bool,
    is_watching: bool,
}

impl<'a, T: Float> Trainer<'a, T> {
    /// Goes on with `network` and `optimizer`, in a workspace made for them.
    pub fn new(
        workspace: &'a mut Workspace<T>,
        network: &'a mut Network<T>,
        optimizer: &'a mut Optimizer<T>,
    ) -> Self {
        workspace.pack(network);
        workspace.pack_states(optimizer);
        Self { workspace, network, optimizer, is_ahead: false, is_watching: false }
    }

    /// The network as it is now; the weights of a sparse first layer are copied for it.
    pub fn network(&mut self) -> &Network<T> {
        if std::mem::take(&mut self.is_ahead) {
            self.workspace.unpack(self.network);
        }
        self.network
    }

    /// [`Self::network`], and the workspace with what the last step left in it.
    pub fn parts(&mut self) -> (&Network<T>, &Workspace<T>) {
        self.network();
        (self.network, self.workspace)
    }

    /// Lets the following steps keep their gradients, and note which outputs of a relu are ever above 0, in
    /// the workspace, or no more.
    pub fn watch(&mut self, watch: bool) {
        self.is_watching = watch;
        self.workspace.watch_units(watch);
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// One step of gradient descent on `batch`: forward, loss, backward, update. The norm of all gradients
    /// together is cut to `gradient_clip_norm`. What it returns was measured before the update.
    pub fn step(
        &mut self,
        loss: &Loss,
        batch: Batch<T>,
        learning_rate: f64,
        gradient_clip_norm: Option<f64>,
        pool: &Pool,
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
