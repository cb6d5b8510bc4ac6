use super::{Batch, Loss, Network, Pool, Workspace};

/// Half the distance of a central difference at first: near the cube root of the `f64` rounding unit, where
/// truncation and rounding are about equal (Press et al., *Numerical Recipes*, section 5.7).
const STEP: f64 = 1e-5;

/// How often a step is cut to a tenth where slopes disagree.
const CUTS: u32 = 4;

/// How far slopes may be apart, relative to the slope, to be those of a smooth place.
const APART_MAX: f64 = 1e-6;

/// A slope below counts as one of this size, see [`relative_error`].
const SLOPE_MIN: f64 = 1e-4;

/// Units in the last place by which two losses may differ through rounding alone, and how much of a slope that may be.
const ROUNDINGS: f64 = 64.0;
const ROUNDED_MAX: f64 = 2e-5;

/// How far their mean may move at a tenth of the step, relative to how far they were apart: over a kink that the smaller step
/// does not reach it moves by a half.
const MOVED_MAX: f64 = 0.05;

/// `|a − n| / max(|a|, |n|, 10⁻⁴)`; the floor keeps rounding in gradients that are nearly 0 from counting as error.
pub fn relative_error(a: f64, n: f64) -> f64 {
    (a - n).abs() / a.abs().max(n.abs()).max(SLOPE_MIN)
}

/// The derivative of a loss at 0, `(f(h) − f(−h)) / 2h` with `f(0) = at`; `None` on a kink, where a relu is at 0 or two
/// places of a pooled square are equal, and so near one that rounding hides the slope beside it.
///
/// Where the slopes to the right and to the left are the same, the place is smooth. Else a tenth of the step tells: on a smooth
/// place the difference of the two is less then, and their mean the same; where the step only reaches over a kink nearby,
/// a smaller one does not; on a kink the difference stays.
pub fn central_difference(at: f64, mut f: impl FnMut(f64) -> f64) -> Option<f64> {
    let mut wider: Option<Slopes> = None;
    for cut in 0..=CUTS {
        let step = STEP / 10f64.powi(cut as i32);
        let (right, left) = ((f(step) - at) / step, (at - f(-step)) / step);
        let slopes = Slopes { mean: (right + left) / 2.0, apart: (right - left).abs() };
        let size = slopes.mean.abs().max(SLOPE_MIN);
        let rounding = ROUNDINGS * f64::EPSILON * at.abs().max(1.0) / step;
        if cut > 0 && rounding > ROUNDED_MAX * size {
            return None;
        }
        if slopes.apart <= APART_MAX * size + rounding {
            return Some(slopes.mean);
        }
        if let Some(wider) = wider
            && (slopes.mean - wider.mean).abs() <= MOVED_MAX * wider.apart + rounding
            && slopes.apart <= wider.apart / 2.0 + rounding
        {
            return Some(wider.mean);
        }
        wider = Some(slopes);
    }
    None
}

/// The slopes to the right and to the left of a place.
struct Slopes {
    mean: f64,
    apart: f64,
}

/// The gradients of one parameter tensor, both ways.
#[derive(Clone, Debug)]
pub struct GradientCheck {
    /// Name of the parameter, as `0.weight`.
    pub parameter: String,
    /// By backpropagation.
    pub analytic: Vec<f64>,
    /// By central differences; none on a kink.
    pub numerical: Vec<Option<f64>>,
}

impl GradientCheck {
    /// The largest [`relative_error`] where there is no kink.
    pub fn max_relative_error(&self) -> f64 {
        let error = |(&a, n): (&f64, &Option<f64>)| n.map(|n| relative_error(a, n));
        self.analytic.iter().zip(&self.numerical).filter_map(error).fold(0.0, f64::max)
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
    /// Of the network as it is.
    loss_here: f64,
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
            loss_here: f64::NAN,
        }
    }

    /// The gradient of every parameter tensor by backpropagation, in the order of [`Network::parameters`].
    pub fn backpropagate(&mut self) -> Vec<Vec<f64>> {
        let result = self.workspace.backpropagate(&self.network, self.loss, self.batch, self.pool);
        self.loss_here = result.loss_sum / self.batch.rows.len() as f64;
        let gradients = self.workspace.gradients().iter();
        gradients
            .flat_map(|gradient| [gradient.weight.iter().copied().collect(), gradient.bias.to_vec()])
            .collect()
    }

    /// The derivative by one number of the parameter tensor number `tensor`, see [`central_difference`]; once
    /// [`Self::backpropagate`] has been called.
    pub fn derivative(&mut self, tensor: usize, element: usize) -> Option<f64> {
        let value = self.network.parameters_mut().nth(tensor)?[element];
        let slope = central_difference(self.loss_here, |step| self.loss_at(tensor, element, value + step));
        self.set(tensor, element, value);
        slope
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
