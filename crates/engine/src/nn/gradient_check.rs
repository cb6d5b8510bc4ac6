use super::layer::values_mut;
use super::{Batch, Loss, Network, Plan, Pool, Tensor, Workspace};

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
    let check = |(parameter, _, values): Tensor<f64>| GradientCheck {
        parameter,
        analytic: vec![0.0; values.len()],
        numerical: vec![None; values.len()],
    };
    let mut checks: Vec<GradientCheck> = network.parameters().map(check).collect();
    let mut differences = Differences::new(network.clone(), loss, batch, pool, &|| true);
    let all = differences.backpropagate(|tensor, first, part| {
        checks[tensor].analytic[first..][..part.len()].copy_from_slice(part);
    });
    all.expect("nobody stops it");
    for (tensor, check) in checks.iter_mut().enumerate() {
        for (element, numerical) in check.numerical.iter_mut().enumerate() {
            *numerical = differences.derivative(tensor, element).expect("nobody stops it");
        }
    }
    checks
}

/// Work that was stopped before its end, as it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Numerical derivatives of a training step's loss, one parameter after the other.
///
/// Network and packed weights are all that it holds of a network's size: gradients are shown in parts, and a number
/// that is moved is moved in both.
pub struct Differences<'a> {
    network: Network<f64>,
    workspace: Workspace<f64>,
    /// The layer of each weight and its bias.
    layers: Vec<usize>,
    loss: &'a Loss,
    batch: Batch<'a, f64>,
    pool: &'a Pool,
    /// Asked before each pass.
    go_on: &'a dyn Fn() -> bool,
    is_stopped: bool,
    /// Of the network as it is.
    loss_here: f64,
    passes: usize,
}

impl<'a> Differences<'a> {
    /// Those of `network` on this batch, as long as `go_on`, asked before each pass, says yes.
    pub fn new(
        network: Network<f64>,
        loss: &'a Loss,
        batch: Batch<'a, f64>,
        pool: &'a Pool,
        go_on: &'a dyn Fn() -> bool,
    ) -> Self {
        let has_parameters = |index: &usize| network.layers()[*index].parameters().is_some();
        let layers = (0..network.layers().len()).filter(has_parameters).collect();
        let plan = Plan::new(&network.kinds(), network.shapes(), batch.rows.len(), 1.0);
        let mut workspace = Workspace::without_gradients(plan);
        workspace.pack(&network);
        Self {
            workspace,
            network,
            layers,
            loss,
            batch,
            pool,
            go_on,
            is_stopped: false,
            loss_here: f64::NAN,
            passes: 0,
        }
    }

    /// The network whose loss it is.
    pub fn network(&self) -> &Network<f64> {
        &self.network
    }

    /// Passes forward until now, those of backpropagation among them.
    pub fn passes(&self) -> usize {
        self.passes
    }

    /// The gradient of every parameter by backpropagation: calls `visit` with some numbers after the other, with their
    /// tensor, in the order of [`Network::parameters`], and where they begin in it.
    ///
    /// # Errors
    /// If it was stopped.
    pub fn backpropagate(&mut self, mut visit: impl FnMut(usize, usize, &[f64])) -> Result<(), Stopped> {
        self.loss_here = self.loss(true);
        if self.is_stopped {
            return Err(Stopped);
        }
        let Self { network, workspace, layers, .. } = self;
        workspace.visit_gradients(network, |layer, is_bias, first, part| {
            let tensor = 2 * layers.partition_point(|&before| before < layer) + usize::from(is_bias);
            visit(tensor, first, part);
        });
        Ok(())
    }

    /// The derivative by one number of the parameter tensor number `tensor`, see [`central_difference`]; once
    /// [`Self::backpropagate`] has been called.
    ///
    /// # Errors
    /// If it was stopped.
    pub fn derivative(&mut self, tensor: usize, element: usize) -> Result<Option<f64>, Stopped> {
        let value = *self.parameter(tensor, element);
        let slope = central_difference(self.loss_here, |step| {
            self.set(tensor, element, value + step);
            self.loss(false)
        });
        self.set(tensor, element, value);
        if self.is_stopped { Err(Stopped) } else { Ok(slope) }
    }

    /// The loss of the network as it is, ready for the gradients where it goes `backward`; NaN once it is stopped.
    fn loss(&mut self, backward: bool) -> f64 {
        self.is_stopped = self.is_stopped || !(self.go_on)();
        if self.is_stopped {
            return f64::NAN;
        }
        self.passes += 1;
        let Self { network, workspace, loss, batch, pool, .. } = self;
        let result = workspace.pass(network, loss, *batch, backward, pool);
        result.loss_sum / batch.rows.len() as f64
    }

    fn parameter(&mut self, tensor: usize, element: usize) -> &mut f64 {
        let layer = &mut self.network.layers_mut()[self.layers[tensor / 2]];
        let (weight, bias) = layer.parameters_mut().expect("a layer with parameters");
        if tensor.is_multiple_of(2) { &mut values_mut(weight)[element] } else { &mut bias[element] }
    }

    /// Replaces one number, and of a weight what the products read of it.
    fn set(&mut self, tensor: usize, element: usize, value: f64) {
        *self.parameter(tensor, element) = value;
        let Self { network, workspace, layers, .. } = self;
        let layer = layers[tensor / 2];
        if tensor.is_multiple_of(2)
            && let Some((weight, _)) = network.layers()[layer].parameters()
        {
            let columns = weight.ncols();
            workspace.pack_one(network, layer, element / columns, element % columns);
        }
    }
}
