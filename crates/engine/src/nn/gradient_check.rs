use super::layer::values_mut;
use super::{Batch, Loss, NamedTensor, Network, Plan, ThreadPool, Workspace};

/// First step of a central difference: close to the cube root of the `f64` rounding unit, where truncation
/// and rounding errors are about equal (Press et al., *Numerical Recipes*, section 5.7).
const STEP: f64 = 1e-5;

/// How many times the step is divided by ten if the slopes disagree.
const CUTS: u32 = 4;

/// Largest difference between the one-sided slopes of a smooth function, relative to the slope.
const APART_MAX: f64 = 1e-6;

/// Lower bound of the magnitude by which an error is divided. See [`relative_error`].
const SLOPE_MIN: f64 = 1e-4;

/// Rounding error of the difference of two losses, in units in the last place.
const ROUNDINGS: f64 = 64.0;

/// Largest rounding error of a slope, relative to the slope.
const ROUNDED_MAX: f64 = 2e-5;

/// Largest change of the mean slope at a tenth of the step, relative to the difference of the one-sided
/// slopes. If only the larger step reaches across a kink, the mean changes by half of that difference.
const MOVED_MAX: f64 = 0.05;

/// `|a − n| / max(|a|, |n|, 10⁻⁴)`. The floor keeps rounding in gradients near 0 from counting as an error.
pub fn relative_error(a: f64, n: f64) -> f64 {
    (a - n).abs() / a.abs().max(n.abs()).max(SLOPE_MIN)
}

/// The derivative of a loss at 0, `(f(h) − f(−h)) / 2h`, where `at` is `f(0)`. It is `None` at a kink, for example if
/// the input of a relu is 0 or two values of a pooled square are equal. It is also `None` so close to a kink that
/// rounding hides the slope.
///
/// If the slopes on both sides agree, the result is their mean. Otherwise the step is divided by ten, up to four times.
/// For a smooth function, the slopes then differ less, and their mean stays the same. If only the larger step reached
/// across a nearby kink, the new slopes agree. At a kink, they differ as before.
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

/// The slopes on both sides of a point.
struct Slopes {
    mean: f64,
    apart: f64,
}

/// Both gradients of one parameter tensor.
#[derive(Clone, Debug)]
pub struct GradientCheck {
    /// Name of the parameter, such as `0.weight`.
    pub parameter: String,
    /// The gradient by backpropagation.
    pub analytic: Vec<f64>,
    /// The gradient by central differences. `None` at a kink.
    pub numerical: Vec<Option<f64>>,
}

impl GradientCheck {
    /// The largest [`relative_error`], not counting kinks.
    pub fn max_relative_error(&self) -> f64 {
        let error = |(&a, n): (&f64, &Option<f64>)| n.map(|n| relative_error(a, n));
        self.analytic.iter().zip(&self.numerical).filter_map(error).fold(0.0, f64::max)
    }
}

/// Compares backpropagation with numerical differentiation for every parameter of `network`.
pub fn gradient_check(
    network: &Network<f64>,
    loss: &Loss,
    batch: Batch<f64>,
    pool: &ThreadPool,
) -> Vec<GradientCheck> {
    let check = |(parameter, _, values): NamedTensor<f64>| GradientCheck {
        parameter,
        analytic: vec![0.0; values.len()],
        numerical: vec![None; values.len()],
    };
    let mut checks: Vec<GradientCheck> = network.parameters().map(check).collect();
    let mut differences = Differences::new(network.clone(), loss, batch, pool, &|| true);
    let all = differences.backpropagate(|tensor, first, part| {
        checks[tensor].analytic[first..][..part.len()].copy_from_slice(part);
    });
    all.expect("never stopped");
    for (tensor, check) in checks.iter_mut().enumerate() {
        for (element, numerical) in check.numerical.iter_mut().enumerate() {
            *numerical = differences.derivative(tensor, element).expect("never stopped");
        }
    }
    checks
}

/// The work was stopped on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Numerical derivatives of the loss of a training step, one parameter at a time.
///
/// To save memory, it holds only the network and its packed weights, and computes the gradients in parts. A perturbed
/// parameter is changed in the network and in the packed weights.
pub struct Differences<'a> {
    network: Network<f64>,
    workspace: Workspace<f64>,
    /// The layer of each weight and its bias.
    layers: Vec<usize>,
    loss: &'a Loss,
    batch: Batch<'a, f64>,
    pool: &'a ThreadPool,
    /// Called before each pass. The work stops if it returns false.
    go_on: &'a dyn Fn() -> bool,
    is_stopped: bool,
    /// The loss of the unchanged network.
    loss_here: f64,
    passes: usize,
}

impl<'a> Differences<'a> {
    /// Derivatives of the loss of `network` on this batch. `go_on` is called before each pass, and the work stops if it
    /// returns false.
    pub fn new(
        network: Network<f64>,
        loss: &'a Loss,
        batch: Batch<'a, f64>,
        pool: &'a ThreadPool,
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

    /// The network whose loss is differentiated.
    pub fn network(&self) -> &Network<f64> {
        &self.network
    }

    /// Number of forward passes so far, including the passes of backpropagation.
    pub fn passes(&self) -> usize {
        self.passes
    }

    /// Computes the gradient of every parameter by backpropagation. Calls `visit` with parts of it: the index
    /// of the tensor in the order of [`Network::parameters`], the offset in the tensor, and the elements.
    ///
    /// # Errors
    /// If `go_on` returned false.
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

    /// The derivative with respect to one element of the parameter tensor at index `tensor`. See
    /// [`central_difference`]. [`Self::backpropagate`] must have been called before.
    ///
    /// # Errors
    /// If `go_on` returned false.
    pub fn derivative(&mut self, tensor: usize, element: usize) -> Result<Option<f64>, Stopped> {
        let value = *self.parameter(tensor, element);
        let slope = central_difference(self.loss_here, |step| {
            self.set(tensor, element, value + step);
            self.loss(false)
        });
        self.set(tensor, element, value);
        if self.is_stopped { Err(Stopped) } else { Ok(slope) }
    }

    /// The loss of the network. If `backward`, also prepares the gradients. NaN if the work was stopped.
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

    /// Replaces one parameter. A weight is also replaced in the packed weights.
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
