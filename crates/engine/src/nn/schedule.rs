use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The learning rate as a function of the step. With `warmup_epochs`, it first rises linearly to the first rate of the
/// schedule. The schedule then covers the remaining steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the descriptions of the variants contain their fields")]
pub enum Schedule {
    /// The optimiser's learning rate in every step.
    Constant { warmup_epochs: f64 },
    /// The rate times `gamma` after every `step_size` epochs (PyTorch's `StepLR`).
    Step { warmup_epochs: f64, step_size: u32, gamma: f64 },
    /// Half a cosine from the learning rate to 0 (Loshchilov, Hutter, *SGDR*, 2017, without restarts).
    Cosine { warmup_epochs: f64 },
    /// Half a cosine up from `rate / div_factor` to the learning rate during the first `pct_start` of the
    /// steps, then one down to `rate / (div_factor · final_div_factor)` (Smith, Topin, *Super-Convergence*,
    /// 2018; PyTorch's `OneCycleLR` without its momentum).
    OneCycle { warmup_epochs: f64, pct_start: f64, div_factor: f64, final_div_factor: f64 },
}

impl Schedule {
    /// One cycle with PyTorch's defaults.
    pub const ONE_CYCLE: Self =
        Self::OneCycle { warmup_epochs: 0.0, pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };

    /// The learning rate of step `step` of `steps`. The first step is 0.
    pub fn rate(&self, base: f64, step: u64, steps: u64, steps_per_epoch: u64) -> f64 {
        let warmup = (self.warmup_epochs() * steps_per_epoch as f64).round().min(steps as f64);
        let step = step as f64;
        if step < warmup {
            return self.shape(base, 0.0, steps as f64, steps_per_epoch) * (step + 1.0) / warmup;
        }
        self.shape(base, step - warmup, steps as f64 - warmup, steps_per_epoch)
    }

    fn warmup_epochs(&self) -> f64 {
        match *self {
            Self::Constant { warmup_epochs }
            | Self::Step { warmup_epochs, .. }
            | Self::Cosine { warmup_epochs }
            | Self::OneCycle { warmup_epochs, .. } => warmup_epochs,
        }
    }

    fn shape(&self, base: f64, step: f64, steps: f64, steps_per_epoch: u64) -> f64 {
        match *self {
            Self::Constant { .. } => base,
            Self::Step { step_size, gamma, .. } => {
                let epochs = (step / steps_per_epoch as f64).floor();
                base * libm::pow(gamma, (epochs / f64::from(step_size)).floor())
            }
            Self::Cosine { .. } => half_cosine(base, 0.0, step / steps),
            Self::OneCycle { pct_start, div_factor, final_div_factor, .. } => {
                let first = base / div_factor;
                let last = first / final_div_factor;
                let top = (pct_start * steps - 1.0).max(0.0);
                let bottom = steps - 1.0;
                if step <= top && top > 0.0 {
                    half_cosine(first, base, step / top)
                } else if bottom > top {
                    half_cosine(base, last, (step - top) / (bottom - top))
                } else {
                    base
                }
            }
        }
    }
}

/// Half a cosine from `start` to `end`, as `fraction` goes from 0 to 1.
fn half_cosine(start: f64, end: f64, fraction: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + libm::cos(PI * fraction))
}
