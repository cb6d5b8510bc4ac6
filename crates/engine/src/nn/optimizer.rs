use serde::{Deserialize, Serialize};

use super::kernel::{Aligned, vectorized};
use super::{Float, Gradient, Network};

/// An update rule with its parameters, as defined by PyTorch. In all rules except `adamw` the weight decay λ
/// is coupled: `g ← g + λ w` comes first.
///
/// In the formulas, η is `learning_rate`, λ `weight_decay`, μ `momentum`, δ `lr_decay`, α `alpha` and ε `eps`. β₁ and β₂
/// are `betas`, and t is the number of the step, starting at 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each field is a letter of the formulas")]
pub enum OptimizerSpec {
    /// `w ← w − η g`.
    Sgd { learning_rate: f64, weight_decay: f64 },
    /// `v ← μ v + g`, `w ← w − η v` (Polyak, 1964, in PyTorch's form).
    Momentum { learning_rate: f64, momentum: f64, weight_decay: f64 },
    /// `v ← μ v + g`, `w ← w − η (g + μ v)` (Sutskever et al., *On the importance of initialization and
    /// momentum in deep learning*, 2013).
    Nesterov { learning_rate: f64, momentum: f64, weight_decay: f64 },
    /// `s ← s + g²`, `w ← w − η / (1 + (t − 1) δ) · g / (√s + ε)` (Duchi, Hazan, Singer, *Adaptive
    /// Subgradient Methods*, 2011).
    Adagrad { learning_rate: f64, lr_decay: f64, eps: f64, weight_decay: f64 },
    /// `s ← α s + (1 − α) g²`, `u = g / (√s + ε)`, `v ← μ v + u`, `w ← w − η v` (Tieleman, Hinton, 2012). If
    /// centred, s is replaced by `s − m²` with `m ← α m + (1 − α) g` (Graves, 2013).
    Rmsprop {
        learning_rate: f64,
        alpha: f64,
        eps: f64,
        momentum: f64,
        /// Whether the variance is used instead of the mean square.
        centered: bool,
        weight_decay: f64,
    },
    /// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `w ← w − η m̂ / (√v̂ + ε)` with
    /// `m̂ = m / (1 − β₁ᵗ)`, `v̂ = v / (1 − β₂ᵗ)` (Kingma, Ba, *Adam*, 2015).
    Adam { learning_rate: f64, betas: [f64; 2], eps: f64, weight_decay: f64 },
    /// Adam with decay decoupled from the gradient: `w ← w − η λ w` comes first (Loshchilov, Hutter,
    /// *Decoupled Weight Decay Regularization*, 2019).
    Adamw { learning_rate: f64, betas: [f64; 2], eps: f64, weight_decay: f64 },
}

impl OptimizerSpec {
    /// The names of all rules in a request.
    pub const NAMES: [&'static str; 7] =
        ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"];

    /// The rule with this name and PyTorch's defaults, except that `momentum` and `nesterov` have a momentum of 0.9.
    pub fn named(name: &str) -> Option<Self> {
        let (learning_rate, weight_decay) = (1e-3, 0.0);
        let (momentum, betas) = (0.9, [0.9, 0.999]);
        Some(match name {
            "sgd" => Self::Sgd { learning_rate, weight_decay },
            "momentum" => Self::Momentum { learning_rate, momentum, weight_decay },
            "nesterov" => Self::Nesterov { learning_rate, momentum, weight_decay },
            "adagrad" => Self::Adagrad { learning_rate: 1e-2, lr_decay: 0.0, eps: 1e-10, weight_decay },
            "rmsprop" => Self::Rmsprop {
                learning_rate: 1e-2,
                alpha: 0.99,
                eps: 1e-8,
                momentum: 0.0,
                centered: false,
                weight_decay,
            },
            "adam" => Self::Adam { learning_rate, betas, eps: 1e-8, weight_decay },
            "adamw" => Self::Adamw { learning_rate, betas, eps: 1e-8, weight_decay: 1e-2 },
            _ => return None,
        })
    }

    /// η, the base rate of the schedule.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { learning_rate, .. }
            | Self::Momentum { learning_rate, .. }
            | Self::Nesterov { learning_rate, .. }
            | Self::Adagrad { learning_rate, .. }
            | Self::Rmsprop { learning_rate, .. }
            | Self::Adam { learning_rate, .. }
            | Self::Adamw { learning_rate, .. } => learning_rate,
        }
    }

    /// The names of the state tensors kept per parameter.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &[],
            Self::Momentum { .. } | Self::Nesterov { .. } => &["velocity"],
            Self::Adagrad { .. } => &["square_sum"],
            Self::Rmsprop { .. } => &["square_average", "average", "velocity"],
            Self::Adam { .. } | Self::Adamw { .. } => &["first_moment", "second_moment"],
        }
    }
}

/// An update rule with its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer<T> {
    spec: OptimizerSpec,
    steps: u64,
    /// For each of [`OptimizerSpec::state_names`], one tensor per parameter.
    state: Vec<Vec<Aligned<T>>>,
}

impl<T: Float> Optimizer<T> {
    /// An optimiser before its first step.
    pub fn new(spec: OptimizerSpec, network: &Network<T>) -> Self {
        let zeros = || network.parameters().map(|(_, _, values)| Aligned::zeros(values.len())).collect();
        Self { spec, steps: 0, state: spec.state_names().iter().map(|_| zeros()).collect() }
    }

    /// The update rule.
    pub fn spec(&self) -> OptimizerSpec {
        self.spec
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The state: for each of [`OptimizerSpec::state_names`], one tensor per parameter.
    pub fn state(&self) -> &[Vec<Aligned<T>>] {
        &self.state
    }

    /// Restores a saved state.
    pub fn restore(&mut self, steps: u64, state: Vec<Vec<Vec<T>>>) {
        self.steps = steps;
        let aligned = |tensors: Vec<Vec<T>>| tensors.iter().map(|tensor| tensor.as_slice().into()).collect();
        self.state = state.into_iter().map(aligned).collect();
    }

    /// The state tensors of the first parameter, mutable.
    pub(super) fn first_state_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.state.iter_mut().filter_map(|tensors| tensors.first_mut().map(|tensor| &mut **tensor))
    }

    /// Begins a step. Returns its rule, and the states of each parameter in order.
    pub(super) fn next(
        &mut self,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> (Rule<T>, impl Iterator<Item = States<'_, T>> + Send) {
        self.steps += 1;
        let rule = Rule::new(self.spec, self.steps, learning_rate, gradient_scale);
        let lengths = self.state.iter().map(Vec::len);
        debug_assert!(
            lengths.clone().all(|length| length == self.state[0].len()),
            "states of every parameter"
        );
        let mut kinds = self.state.iter_mut().map(|tensors| tensors.iter_mut());
        let mut kinds = std::array::from_fn::<_, STATES_MAX, _>(|_| kinds.next().unwrap_or_default());
        let states = std::iter::repeat_with(move || {
            kinds.each_mut().map(|tensors| tensors.next().map_or(&mut [][..], |tensor| &mut **tensor))
        });
        (rule, states)
    }
}

/// Largest number of state tensors per parameter.
const STATES_MAX: usize = 3;

/// A part of each state tensor. The last ones are empty if the rule has fewer tensors.
pub(super) type States<'a, T> = [&'a mut [T]; STATES_MAX];

/// Pairs each of `chunks`, which have `length` elements, with its states.
pub(super) fn with_states<'a, T: Float, C: Send>(
    chunks: impl Iterator<Item = C> + Send,
    states: States<'a, T>,
    length: usize,
) -> impl Iterator<Item = (C, States<'a, T>)> + Send {
    let mut states = states.map(|state| state.chunks_mut(length));
    chunks.map(move |chunk| (chunk, states.each_mut().map(|state| state.next().unwrap_or_default())))
}

/// The update rule of one step, with precomputed coefficients.
#[derive(Clone, Copy)]
pub(super) struct Rule<T> {
    kind: RuleKind<T>,
    scale: T,
    decay: T,
    step: T,
}

#[derive(Clone, Copy)]
enum RuleKind<T> {
    Sgd,
    Momentum { momentum: T },
    Nesterov { momentum: T },
    Adagrad { eps: T },
    Rmsprop { alpha: T, rest: T, eps: T, momentum: T, center: T },
    Adam { betas: [T; 2], rests: [T; 2], eps: T, keep: T },
}

/// Calls [`each`] with a closure that is always inlined, see [`vectorized!`].
macro_rules! update_each {
    ($g:expr, $tensors:expr, |$element:ident, $values:pat_param| $update:expr) => {
        each(
            $g,
            $tensors,
            #[inline(always)]
            |$element, $values| $update,
        )
    };
}

impl<T: Float> Rule<T> {
    fn new(spec: OptimizerSpec, steps: u64, rate: f64, gradient_scale: f64) -> Self {
        let rule = |kind, step: f64, decay: f64| Self {
            kind,
            scale: T::of(gradient_scale),
            decay: T::of(decay),
            step: T::of(step),
        };
        match spec {
            OptimizerSpec::Sgd { weight_decay, .. } => rule(RuleKind::Sgd, rate, weight_decay),
            OptimizerSpec::Momentum { momentum, weight_decay, .. } => {
                rule(RuleKind::Momentum { momentum: T::of(momentum) }, rate, weight_decay)
            }
            OptimizerSpec::Nesterov { momentum, weight_decay, .. } => {
                rule(RuleKind::Nesterov { momentum: T::of(momentum) }, rate, weight_decay)
            }
            OptimizerSpec::Adagrad { lr_decay, eps, weight_decay, .. } => {
                let rate = rate / (1.0 + (steps - 1) as f64 * lr_decay);
                rule(RuleKind::Adagrad { eps: T::of(eps) }, rate, weight_decay)
            }
            OptimizerSpec::Rmsprop { alpha, eps, momentum, centered, weight_decay, .. } => {
                let kind = RuleKind::Rmsprop {
                    alpha: T::of(alpha),
                    rest: T::of(1.0 - alpha),
                    eps: T::of(eps),
                    momentum: T::of(momentum),
                    center: T::of(f64::from(u8::from(centered))),
                };
                rule(kind, rate, weight_decay)
            }
            OptimizerSpec::Adam { betas, eps, weight_decay, .. }
            | OptimizerSpec::Adamw { betas, eps, weight_decay, .. } => {
                let corrections = betas.map(|beta| 1.0 - libm::pow(beta, steps as f64));
                let (coupled, keep) = match spec {
                    OptimizerSpec::Adamw { .. } => (0.0, 1.0 - rate * weight_decay),
                    _ => (weight_decay, 1.0),
                };
                let kind = RuleKind::Adam {
                    betas: betas.map(T::of),
                    rests: betas.map(|beta| T::of(1.0 - beta)),
                    // Never 0, so that a weight without any gradient doesn't become NaN.
                    eps: T::of(eps * corrections[1].sqrt()).max(T::min_positive_value()),
                    keep: T::of(keep),
                };
                rule(kind, rate / corrections[0] * corrections[1].sqrt(), coupled)
            }
        }
    }

    /// Updates the elements `w` with their gradients `g`.
    pub fn apply(&self, w: &mut [T], g: &[T], states: States<T>) {
        let Self { kind, scale, decay, step } = *self;
        let [s0, s1, s2] = states;
        match kind {
            RuleKind::Sgd => update_each!(g, [w], |g, [w]| *w -= step * (g * scale + decay * *w)),
            RuleKind::Momentum { momentum } => update_each!(g, [w, s0], |g, [w, v]| {
                *v = momentum * *v + (g * scale + decay * *w);
                *w -= step * *v;
            }),
            RuleKind::Nesterov { momentum } => update_each!(g, [w, s0], |g, [w, v]| {
                let g = g * scale + decay * *w;
                *v = momentum * *v + g;
                *w -= step * (g + momentum * *v);
            }),
            RuleKind::Adagrad { eps } => update_each!(g, [w, s0], |g, [w, s]| {
                let g = g * scale + decay * *w;
                *s += g * g;
                *w -= step * g / (s.sqrt() + eps);
            }),
            RuleKind::Rmsprop { alpha, rest, eps, momentum, center } => {
                update_each!(g, [w, s0, s1, s2], |g, [w, s, m, v]| {
                    let g = g * scale + decay * *w;
                    *s = alpha * *s + rest * g * g;
                    *m = alpha * *m + rest * g;
                    *v = momentum * *v + g / ((*s - center * *m * *m).max(T::zero()).sqrt() + eps);
                    *w -= step * *v;
                });
            }
            RuleKind::Adam { betas: [beta1, beta2], rests: [rest1, rest2], eps, keep } => {
                update_each!(g, [w, s0, s1], |g, [w, m, v]| {
                    let g = g * scale + decay * *w;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * g * g;
                    // Numerator and denominator are multiplied by √(1 − β₂ᵗ), which cancels the same factor in v̂.
                    *w = *w * keep - step * *m / (v.sqrt() + eps);
                });
            }
        }
    }
}

/// Calls `f` for each element of `g` and the elements of `tensors` at the same index.
#[inline(always)]
fn each<T: Float, const N: usize>(g: &[T], tensors: [&mut [T]; N], f: impl Fn(T, [&mut T; N])) {
    vectorized!({
        let mut tensors = tensors.map(|tensor| &mut tensor[..g.len()]);
        for (index, &g) in g.iter().enumerate() {
            f(g, tensors.each_mut().map(|tensor| &mut tensor[index]));
        }
    });
}

/// The factor by which to multiply all gradients, so that their joint norm is at most `max_norm` (Pascanu, Mikolov,
/// Bengio, *On the difficulty of training recurrent neural networks*, 2013; the 10⁻⁶ is PyTorch's).
pub fn clip_scale<T: Float>(max_norm: Option<f64>, gradients: &[Gradient<T>]) -> f64 {
    max_norm.map_or(1.0, |max_norm| {
        let norm = gradients.iter().map(Gradient::square_sum).sum::<f64>().sqrt();
        (max_norm / (norm + 1e-6)).min(1.0)
    })
}

impl<T: Float> Gradient<T> {
    /// The sum of the squares of all elements.
    pub fn square_sum(&self) -> f64 {
        square_sum(self.weight.iter()) + square_sum(self.bias.iter())
    }
}

/// The sum of squares, in `f64`.
pub fn square_sum<'a, T: Float>(values: impl Iterator<Item = &'a T>) -> f64 {
    values.map(|value| value.wide() * value.wide()).sum()
}
