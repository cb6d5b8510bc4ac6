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
    let mut workspace = Workspace::new(network, batch.rows.len());
    workspace.backpropagate(network, loss, batch, pool);
    let analytic: Vec<Vec<f64>> = workspace
        .gradients()
        .iter()
        .flat_map(|gradient| [gradient.weight.iter().copied().collect(), gradient.bias.to_vec()])
        .collect();

    let mut moved = network.clone();
    let mut loss_at = |tensor: usize, element: usize, value: f64| {
        if let Some(values) = moved.parameters_mut().nth(tensor) {
            values[element] = value;
        }
        workspace.training_loss(&moved, loss, batch, pool).loss_sum / batch.rows.len() as f64
    };
    network
        .parameters()
        .zip(analytic)
        .enumerate()
        .map(|(tensor, ((parameter, _, values), analytic))| {
            let difference = |(element, &value): (usize, &f64)| {
                let above = loss_at(tensor, element, value + STEP);
                let below = loss_at(tensor, element, value - STEP);
                loss_at(tensor, element, value);
                (above - below) / (2.0 * STEP)
            };
            let numerical = values.iter().enumerate().map(difference).collect();
            GradientCheck { parameter, analytic, numerical }
        })
        .collect()
}
