use serde::{Deserialize, Serialize};

use super::kernel::vectorized;
use super::layer::values;
use super::{Float, Gradient, Network, Pool};

/// Elements of a tensor that one task updates.
const CHUNK: usize = 8_192;

/// An update rule with its parameters, as PyTorch defines them. In all but `adamw` the weight decay λ
/// is coupled: `g ← g + λ w` comes first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// `w ← w − η g`.
    Sgd {
        /// η.
        learning_rate: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `v ← μ v + g`, `w ← w − η v` (Polyak, 1964, in PyTorch's form).
    Momentum {
        /// η.
        learning_rate: f64,
        /// μ.
        momentum: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `v ← μ v + g`, `w ← w − η (g + μ v)` (Sutskever et al., *On the importance of initialization and
    /// momentum in deep learning*, 2013).
    Nesterov {
        /// η.
        learning_rate: f64,
        /// μ.
        momentum: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `s ← s + g²`, `w ← w − η / (1 + (t − 1) δ) · g / (√s + ε)` (Duchi, Hazan, Singer, *Adaptive
    /// Subgradient Methods*, 2011).
    Adagrad {
        /// η.
        learning_rate: f64,
        /// δ.
        lr_decay: f64,
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
    /// `s ← α s + (1 − α) g²`, `u = g / (√s + ε)`, `v ← μ v + u`, `w ← w − η v` (Tieleman, Hinton, 2012);
    /// centred, `s − m²` stands for s with `m ← α m + (1 − α) g` (Graves, 2013).
    Rmsprop {
        /// η.
        learning_rate: f64,
        /// α.
        alpha: f64,
        /// ε.
        eps: f64,
        /// μ.
        momentum: f64,
        /// Whether the variance is taken instead of the mean square.
        centered: bool,
        /// λ.
        weight_decay: f64,
    },
    /// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `w ← w − η m̂ / (√v̂ + ε)` with
    /// `m̂ = m / (1 − β₁ᵗ)`, `v̂ = v / (1 − β₂ᵗ)` (Kingma, Ba, *Adam*, 2015).
    Adam {
        /// η.
        learning_rate: f64,
        /// β₁, β₂.
        betas: [f64; 2],
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
    /// Adam with the decay apart from the gradient: `w ← w − η λ w` comes first (Loshchilov, Hutter,
    /// *Decoupled Weight Decay Regularization*, 2019).
    Adamw {
        /// η.
        learning_rate: f64,
        /// β₁, β₂.
        betas: [f64; 2],
        /// ε.
        eps: f64,
        /// λ.
        weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// The words for the kinds of rules.
    pub const NAMES: [&'static str; 7] =
        ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"];

    /// The rule called `name`, with PyTorch's defaults; momentum, which is 0 there, is 0.9.
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

    /// η, which the schedule starts from.
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

    /// Tensors of state kept for each parameter.
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
    /// One list for each of [`OptimizerSpec::state_names`], of one tensor for each parameter.
    state: Vec<Vec<Vec<T>>>,
}

impl<T: Float> Optimizer<T> {
    /// The rule before its first step.
    pub fn new(spec: OptimizerSpec, network: &Network<T>) -> Self {
        let zeros = || network.parameters().map(|(_, _, values)| vec![T::zero(); values.len()]).collect();
        Self { spec, steps: 0, state: spec.state_names().iter().map(|_| zeros()).collect() }
    }

    /// The rule.
    pub fn spec(&self) -> OptimizerSpec {
        self.spec
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The state: for each of [`OptimizerSpec::state_names`] a tensor for each parameter.
    pub fn state(&self) -> &[Vec<Vec<T>>] {
        &self.state
    }

    /// Goes on from a state kept earlier.
    pub fn restore(&mut self, steps: u64, state: Vec<Vec<Vec<T>>>) {
        self.steps = steps;
        self.state = state;
    }

    /// Moves every parameter once, by gradients that are multiplied by `gradient_scale` first.
    pub fn step(
        &mut self,
        network: &mut Network<T>,
        gradients: &[Gradient<T>],
        learning_rate: f64,
        gradient_scale: f64,
        pool: &Pool,
    ) {
        self.steps += 1;
        let gradients =
            gradients.iter().flat_map(|gradient| [values(&gradient.weight), values(&gradient.bias)]);
        for (tensor, (w, g)) in network.parameters_mut().zip(gradients).enumerate() {
            self.update(tensor, w, g, learning_rate, gradient_scale, pool);
        }
    }

    fn update(&mut self, tensor: usize, w: &mut [T], g: &[T], rate: f64, gradient_scale: f64, pool: &Pool) {
        let scale = T::of(gradient_scale);
        let step = T::of(rate);
        match (self.spec, self.state.as_mut_slice()) {
            (OptimizerSpec::Sgd { weight_decay, .. }, []) => {
                let decay = T::of(weight_decay);
                each(pool, g, [w], |g, [w]| *w -= step * (g * scale + decay * *w));
            }
            (OptimizerSpec::Momentum { momentum, weight_decay, .. }, [velocity]) => {
                let (decay, momentum) = (T::of(weight_decay), T::of(momentum));
                each(pool, g, [w, &mut velocity[tensor]], |g, [w, v]| {
                    *v = momentum * *v + (g * scale + decay * *w);
                    *w -= step * *v;
                });
            }
            (OptimizerSpec::Nesterov { momentum, weight_decay, .. }, [velocity]) => {
                let (decay, momentum) = (T::of(weight_decay), T::of(momentum));
                each(pool, g, [w, &mut velocity[tensor]], |g, [w, v]| {
                    let g = g * scale + decay * *w;
                    *v = momentum * *v + g;
                    *w -= step * (g + momentum * *v);
                });
            }
            (OptimizerSpec::Adagrad { lr_decay, eps, weight_decay, .. }, [squares]) => {
                let step = T::of(rate / (1.0 + (self.steps - 1) as f64 * lr_decay));
                let (decay, eps) = (T::of(weight_decay), T::of(eps));
                each(pool, g, [w, &mut squares[tensor]], |g, [w, s]| {
                    let g = g * scale + decay * *w;
                    *s += g * g;
                    *w -= step * g / (s.sqrt() + eps);
                });
            }
            (
                OptimizerSpec::Rmsprop { alpha, eps, momentum, centered, weight_decay, .. },
                [squares, average, velocity],
            ) => {
                let (decay, eps, momentum) = (T::of(weight_decay), T::of(eps), T::of(momentum));
                let (alpha, rest) = (T::of(alpha), T::of(1.0 - alpha));
                let center = T::of(f64::from(u8::from(centered)));
                let slices = [w, &mut squares[tensor], &mut average[tensor], &mut velocity[tensor]];
                each(pool, g, slices, |g, [w, s, m, v]| {
                    let g = g * scale + decay * *w;
                    *s = alpha * *s + rest * g * g;
                    *m = alpha * *m + rest * g;
                    *v = momentum * *v + g / ((*s - center * *m * *m).max(T::zero()).sqrt() + eps);
                    *w -= step * *v;
                });
            }
            (
                OptimizerSpec::Adam { betas, eps, weight_decay, .. }
                | OptimizerSpec::Adamw { betas, eps, weight_decay, .. },
                [first, second],
            ) => {
                let is_decoupled = matches!(self.spec, OptimizerSpec::Adamw { .. });
                let corrections = betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
                let step = T::of(rate / corrections[0]);
                let root = T::of(corrections[1].sqrt());
                let [beta1, beta2] = betas.map(T::of);
                let [rest1, rest2] = betas.map(|beta| T::of(1.0 - beta));
                let eps = T::of(eps);
                let (decay, keep) = match is_decoupled {
                    true => (T::zero(), T::of(1.0 - rate * weight_decay)),
                    false => (T::of(weight_decay), T::one()),
                };
                each(pool, g, [w, &mut first[tensor], &mut second[tensor]], |g, [w, m, v]| {
                    let g = g * scale + decay * *w;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * g * g;
                    *w = *w * keep - step * *m / (v.sqrt() / root + eps);
                });
            }
            (spec, state) => unreachable!("{spec:?} keeps {} tensors", state.len()),
        }
    }
}

/// Calls `f` for each element of `g` with the elements of `tensors` beside it.
fn each<T: Float, const N: usize>(
    pool: &Pool,
    g: &[T],
    tensors: [&mut [T]; N],
    f: impl Fn(T, [&mut T; N]) + Sync,
) {
    pool.for_each_chunk(tensors, CHUNK, |chunk, tensors| {
        vectorized(|| {
            let length = tensors[0].len();
            let g = &g[chunk * CHUNK..][..length];
            let mut tensors = tensors.map(|tensor| &mut tensor[..length]);
            for (index, &g) in g.iter().enumerate() {
                f(g, tensors.each_mut().map(|tensor| &mut tensor[index]));
            }
        });
    });
}

/// What gradients are multiplied with so that the norm of all of them together is `max_norm` at most
/// (Pascanu, Mikolov, Bengio, *On the difficulty of training recurrent neural networks*, 2013; the
/// 10⁻⁶ is PyTorch's).
pub fn clip_scale<T: Float>(max_norm: Option<f64>, gradients: &[Gradient<T>]) -> f64 {
    max_norm.map_or(1.0, |max_norm| {
        let norm = gradients.iter().map(Gradient::square_sum).sum::<f64>().sqrt();
        (max_norm / (norm + 1e-6)).min(1.0)
    })
}

impl<T: Float> Gradient<T> {
    /// The sum of the squares of all its elements.
    pub fn square_sum(&self) -> f64 {
        square_sum(self.weight.iter()) + square_sum(self.bias.iter())
    }
}

/// The sum of squares, in `f64`.
pub fn square_sum<'a, T: Float>(values: impl Iterator<Item = &'a T>) -> f64 {
    values.map(|value| value.wide() * value.wide()).sum()
}
