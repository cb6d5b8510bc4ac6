use super::{Batch, Float, Loss, Network, Optimizer, Pool, StepLoss, Workspace, clip_scale};

/// A network that is trained step by step.
///
/// It holds the network for itself meanwhile: the weights in the order of the products, which the
/// [`Workspace`] keeps from step to step, are then always those of the network.
pub struct Trainer<'a, T> {
    workspace: &'a mut Workspace<T>,
    network: &'a mut Network<T>,
    optimizer: &'a mut Optimizer<T>,
}

impl<'a, T: Float> Trainer<'a, T> {
    /// Goes on with `network` and `optimizer`, in a workspace made for them.
    pub fn new(
        workspace: &'a mut Workspace<T>,
        network: &'a mut Network<T>,
        optimizer: &'a mut Optimizer<T>,
    ) -> Self {
        workspace.pack(network);
        Self { workspace, network, optimizer }
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network<T> {
        self.network
    }

    /// Where the last step's gradients are.
    pub fn workspace(&mut self) -> &mut Workspace<T> {
        self.workspace
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
        let Self { workspace, network, optimizer } = self;
        let result = workspace.pass(network, loss, batch, true, pool);
        let is_summed = gradient_clip_norm.is_some();
        if is_summed {
            workspace.sum_gradients(pool);
        }
        let scale = clip_scale(gradient_clip_norm, workspace.gradients());
        let (rule, states) = optimizer.next(learning_rate, scale);
        workspace.update(network, rule, states, is_summed, pool);
        workspace.track_statistics(network);
        result
    }
}
