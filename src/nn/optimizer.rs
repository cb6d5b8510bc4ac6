use serde::{Deserialize, Serialize};

use super::kernel::vectorized;
use super::network::values;
use super::{Float, Gradient, Network, Pool};

/// Elements of a tensor that one task updates.
const CHUNK: usize = 8_192;

/// An update rule with its parameters, as PyTorch defines them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// `w ← w − η g`.
    Sgd {
        /// η.
        learning_rate: f64,
        /// λ in `g ← g + λ w`.
        weight_decay: f64,
    },
    /// `v ← μ v + g`, `w ← w − η v` (Polyak, 1964, in PyTorch's form).
    Momentum {
        /// η.
        learning_rate: f64,
        /// μ.
        momentum: f64,
        /// λ in `g ← g + λ w`.
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
        /// λ in `g ← g + λ w`.
        weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// η, which the schedule starts from.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { learning_rate, .. }
            | Self::Momentum { learning_rate, .. }
            | Self::Adam { learning_rate, .. } => learning_rate,
        }
    }

    /// Tensors of state kept for each parameter.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &[],
            Self::Momentum { .. } => &["velocity"],
            Self::Adam { .. } => &["first_moment", "second_moment"],
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
        let scale = T::of(gradient_scale);
        let rate = T::of(learning_rate);
        for (tensor, (w, g)) in network.tensors_mut().zip(gradients).enumerate() {
            let part = |chunk: usize, length: usize| &g[chunk * CHUNK..][..length];
            match (self.spec, self.state.as_mut_slice()) {
                (OptimizerSpec::Sgd { weight_decay, .. }, []) => {
                    let decay = T::of(weight_decay);
                    pool.for_each_chunk([w], CHUNK, |chunk, [w]| {
                        vectorized(|| {
                            let g = part(chunk, w.len());
                            for (w, &g) in w.iter_mut().zip(g) {
                                *w -= rate * (g * scale + decay * *w);
                            }
                        });
                    });
                }
                (OptimizerSpec::Momentum { momentum, weight_decay, .. }, [velocity]) => {
                    let (decay, momentum) = (T::of(weight_decay), T::of(momentum));
                    pool.for_each_chunk([w, &mut velocity[tensor]], CHUNK, |chunk, [w, v]| {
                        vectorized(|| {
                            let g = part(chunk, w.len());
                            for ((w, v), &g) in w.iter_mut().zip(v.iter_mut()).zip(g) {
                                *v = momentum * *v + (g * scale + decay * *w);
                                *w -= rate * *v;
                            }
                        });
                    });
                }
                (OptimizerSpec::Adam { betas, eps, weight_decay, .. }, [first, second]) => {
                    let corrections = betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
                    let rate = T::of(learning_rate / corrections[0]);
                    let root = T::of(corrections[1].sqrt());
                    let [beta1, beta2] = betas.map(T::of);
                    let [rest1, rest2] = betas.map(|beta| T::of(1.0 - beta));
                    let (decay, eps) = (T::of(weight_decay), T::of(eps));
                    let slices = [w, &mut first[tensor], &mut second[tensor]];
                    pool.for_each_chunk(slices, CHUNK, |chunk, [w, m, v]| {
                        vectorized(|| {
                            let g = part(chunk, w.len());
                            for (((w, m), v), &g) in w.iter_mut().zip(m.iter_mut()).zip(v.iter_mut()).zip(g) {
                                let g = g * scale + decay * *w;
                                *m = beta1 * *m + rest1 * g;
                                *v = beta2 * *v + rest2 * g * g;
                                *w -= rate * *m / (v.sqrt() / root + eps);
                            }
                        });
                    });
                }
                (spec, state) => unreachable!("{spec:?} keeps {} tensors", state.len()),
            }
        }
    }
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
