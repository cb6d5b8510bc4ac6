use super::{Batch, Loss, Network, Pool, Workspace};

/// Half the distance of a central difference: near the cube root of the `f64` rounding unit, where
/// truncation and rounding are about equal (Press et al., *Numerical Recipes*, section 5.7).
const STEP: f64 = 1e-5;

/// The gradients of one parameter tensor, both ways.
#[derive(Clone, Debug)]
pub struct GradientCheck {
    /// Name of the parameter, as `0.weight`.
    pub parameter: String,
    /// By backpropagation.
    pub analytic: Vec<f64>,
    /// By central differences, `(L(w + h) − L(w − h)) / 2h`.
    pub numerical: Vec<f64>,
}

impl GradientCheck {
    /// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)`; the floor keeps rounding in gradients that are
    /// nearly 0 from counting as error.
    pub fn max_relative_error(&self) -> f64 {
        let error = |(a, n): (&f64, &f64)| (a - n).abs() / a.abs().max(n.abs()).max(1e-4);
        self.analytic.iter().zip(&self.numerical).map(error).fold(0.0, f64::max)
    }
}

/// Compares backpropagation with numerical differentiation, for every parameter of `network`.
pub fn gradient_check(
    network: &Network<f64>,
    loss: &Loss,
    batch: Batch<f64>,
    pool: &Pool,
) -> Vec<GradientCheck> {
    let mut differences = Differences::new(network, loss, batch, pool);
    let analytic = differences.backpropagate();
    network
        .parameters()
        .zip(analytic)
        .enumerate()
        .map(|(tensor, ((parameter, _, values), analytic))| {
            let numerical =
                (0..values.len()).map(|element| differences.derivative(tensor, element)).collect();
            GradientCheck { parameter, analytic, numerical }
        })
        .collect()
}

/// Numerical derivatives of a training step's loss, one parameter after the other.
pub struct Differences<'a> {
    network: Network<f64>,
    workspace: Workspace<f64>,
    /// The layer of each parameter tensor.
    layers: Vec<usize>,
    loss: &'a Loss,
    batch: Batch<'a, f64>,
    pool: &'a Pool,
}

impl<'a> Differences<'a> {
    /// Those of `network` on this batch.
    pub fn new(network: &Network<f64>, loss: &'a Loss, batch: Batch<'a, f64>, pool: &'a Pool) -> Self {
        let has_parameters = |index: &usize| network.layers()[*index].parameters().is_some();
        let layers = (0..network.layers().len()).filter(has_parameters).flat_map(|index| [index; 2]);
        Self {
            workspace: Workspace::new(network, batch.rows.len()),
            network: network.clone(),
            layers: layers.collect(),
            loss,
            batch,
            pool,
        }
    }

    /// The gradient of every parameter tensor by backpropagation, in the order of [`Network::parameters`].
    pub fn backpropagate(&mut self) -> Vec<Vec<f64>> {
        self.workspace.backpropagate(&self.network, self.loss, self.batch, self.pool);
        let gradients = self.workspace.gradients().iter();
        gradients
            .flat_map(|gradient| [gradient.weight.iter().copied().collect(), gradient.bias.to_vec()])
            .collect()
    }

    /// The derivative after one number of the parameter tensor number `tensor`, by a central difference; once
    /// [`Self::backpropagate`] has been called.
    pub fn derivative(&mut self, tensor: usize, element: usize) -> f64 {
        let Some(value) = self.network.parameters_mut().nth(tensor).map(|values| values[element]) else {
            return 0.0;
        };
        let above = self.loss_at(tensor, element, value + STEP);
        let below = self.loss_at(tensor, element, value - STEP);
        self.set(tensor, element, value);
        (above - below) / (2.0 * STEP)
    }

    fn loss_at(&mut self, tensor: usize, element: usize, value: f64) -> f64 {
        self.set(tensor, element, value);
        let Self { network, workspace, loss, batch, pool, .. } = self;
        let result = workspace.pass(network, loss, *batch, false, pool);
        result.loss_sum / batch.rows.len() as f64
    }

    fn set(&mut self, tensor: usize, element: usize, value: f64) {
        if let Some(values) = self.network.parameters_mut().nth(tensor) {
            values[element] = value;
        }
        self.workspace.pack_layer(&self.network, self.layers[tensor]);
    }
}
