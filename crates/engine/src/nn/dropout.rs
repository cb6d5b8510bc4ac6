use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Float;
use super::rows::filled;

/// During training, sets each value to 0 with probability `rate` and multiplies the others by `1 / (1 − rate)`, so that
/// the mean stays the same (Srivastava et al., *Dropout*, 2014). At inference, it copies. x, y and the mask have shape
/// (n, values):
///
/// ```text
/// training   y = x ⊙ mask      dx = dy ⊙ mask      mask = 0 or 1 / (1 − rate)
/// inference  y = x             dx = dy
/// ```
///
/// ```
/// use chainrule_engine::{ndarray::{Array2, array}, nn::{Draw, Dropout}};
///
/// let layer = Dropout { rate: 0.5 };
/// assert_eq!(layer.forward(array![[3.0, 4.0]].view()), array![[3.0, 4.0]]);
/// let y = layer.forward_training(Draw::default(), 0, &[0], Array2::<f32>::ones((1, 100)).view());
/// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0) && y.sum() > 0.0);
/// ```
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
    /// `y = x`, at inference.
    pub fn forward<T: Float>(self, x: ArrayView2<T>) -> Array2<T> {
        x.to_owned()
    }

    /// `dx = dy`, at inference.
    pub fn backward<T: Float>(self, dy: ArrayView2<T>) -> Array2<T> {
        dy.to_owned()
    }

    /// `y = x ⊙ mask` during training. `layer` is the index of the layer, and row i belongs to `examples[i]`. These and
    /// `draw` determine the mask.
    ///
    /// # Panics
    /// If there is not one example for each row.
    pub fn forward_training<T: Float>(
        self,
        draw: Draw,
        layer: usize,
        examples: &[u32],
        x: ArrayView2<T>,
    ) -> Array2<T> {
        assert_eq!(x.nrows(), examples.len(), "an example for each row");
        filled(x.dim(), |y| self.multiply(draw, layer, examples, x, y))
    }

    /// `dx = dy ⊙ mask` during training.
    ///
    /// # Panics
    /// If there is not one example for each row.
    pub fn backward_training<T: Float>(
        self,
        draw: Draw,
        layer: usize,
        examples: &[u32],
        dy: ArrayView2<T>,
    ) -> Array2<T> {
        assert_eq!(dy.nrows(), examples.len(), "an example for each row");
        filled(dy.dim(), |dx| self.multiply(draw, layer, examples, dy, dx))
    }

    /// `to = from ⊙ mask`, which is the forward pass of x and the backward pass of dy.
    pub(super) fn multiply<T: Float>(
        self,
        draw: Draw,
        layer: usize,
        examples: &[u32],
        from: ArrayView2<T>,
        mut to: ArrayViewMut2<T>,
    ) {
        let mut mask = vec![T::zero(); from.ncols()];
        for ((mut to, from), &example) in to.rows_mut().into_iter().zip(from.rows()).zip(examples) {
            self.mask(draw, layer, example, &mut mask);
            to.iter_mut().zip(from).zip(&mask).for_each(|((to, &from), &mask)| *to = from * mask);
        }
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
