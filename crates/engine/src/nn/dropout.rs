use ndarray::{ArrayView2, ArrayViewMut2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Float;

/// During training, sets each value to 0 with probability `rate` and multiplies the others by `1 / (1 −
/// rate)` (Srivastava et al., *Dropout*, 2014). At inference, a [`Layer`](super::Layer) copies x to y and dy to dx.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of setting a value to 0, in [0, 1).
    pub rate: f64,
}

/// Seeds the random numbers of a step, together with the index of the layer and of the example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// The seed of the job.
    pub seed: u64,
    /// The epoch, starting at 0.
    pub epoch: u32,
}

impl Dropout {
    /// `y = x ⊙ mask` during training, with x and y (n, values). `layer` is the index of the layer, and row i belongs
    /// to `examples[i]`.
    pub(super) fn forward_training<T: Float>(
        self,
        draw: Draw,
        layer: usize,
        examples: &[u32],
        x: ArrayView2<T>,
        mut y: ArrayViewMut2<T>,
    ) {
        let mut mask = vec![T::zero(); x.ncols()];
        for ((mut y, x), &example) in y.rows_mut().into_iter().zip(x.rows()).zip(examples) {
            self.mask(draw, layer, example, &mut mask);
            y.iter_mut().zip(x).zip(&mask).for_each(|((y, &x), &mask)| *y = x * mask);
        }
    }

    /// `dx = dy ⊙ mask` during training.
    pub(super) fn backward_training<T: Float>(
        self,
        draw: Draw,
        layer: usize,
        examples: &[u32],
        dy: ArrayView2<T>,
        dx: ArrayViewMut2<T>,
    ) {
        self.forward_training(draw, layer, examples, dy, dx);
    }

    /// Draws the factor for each value of one example: 0 or `1 / (1 − rate)`.
    pub(super) fn mask<T: Float>(self, draw: Draw, layer: usize, example: u32, mask: &mut [T]) {
        let mut rng = ChaCha8Rng::seed_from_u64(draw.seed ^ (layer as u64 + 1).wrapping_mul(SPREAD));
        rng.set_stream(u64::from(draw.epoch) << 32 | u64::from(example));
        let dropped = (self.rate * 2_f64.powi(32)) as u32;
        let kept = T::of(1.0 / (1.0 - self.rate));
        for factor in mask {
            *factor = if rng.next_u32() < dropped { T::zero() } else { kept };
        }
    }
}

/// 2⁶⁴ divided by the golden ratio, rounded to an odd number. Multiples of it are far apart.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
