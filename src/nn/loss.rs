use ndarray::{ArrayView2, ArrayViewMut1, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use super::Float;

/// What is minimised. Both work on the softmax of the last layer's scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// `−Σ_c t_c ln p_c`.
    CrossEntropy,
    /// `1/C Σ_c (p_c − t_c)²`.
    MeanSquaredError,
}

impl LossKind {
    /// Every loss.
    pub const ALL: [Self; 2] = [Self::CrossEntropy, Self::MeanSquaredError];
}

/// A loss of scores z (n, classes) against labels, the mean over the batch, with
/// `p = softmax(z)` and the target `t = (1 − ε) onehot(label) + ε/C` (Szegedy et al.,
/// *Rethinking the Inception Architecture*, 2016; ε = 0 is the plain target).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The function.
    pub kind: LossKind,
    /// ε, in [0, 1).
    pub label_smoothing: f64,
}

impl Loss {
    /// A loss with plain targets.
    pub fn new(kind: LossKind) -> Self {
        Self { kind, label_smoothing: 0.0 }
    }

    /// The sum of the rows' losses, before the division by the size of the batch: finite for any
    /// finite scores.
    pub fn forward<T: Float>(&self, z: ArrayView2<T>, labels: &[u8]) -> f64 {
        let classes = z.ncols() as f64;
        z.rows()
            .into_iter()
            .zip(labels)
            .map(|(z, &label)| {
                let max = z.fold(T::neg_infinity(), |max, &z| max.max(z));
                let sum: f64 = z.iter().map(|&z| (z - max).exp().wide()).sum();
                let targets = z.iter().enumerate().map(|(class, &z)| (z, self.target(class, label, classes)));
                match self.kind {
                    LossKind::CrossEntropy => targets
                        .map(|(z, t)| if t == 0.0 { 0.0 } else { t * (sum.ln() - (z - max).wide()) })
                        .sum::<f64>(),
                    LossKind::MeanSquaredError => {
                        targets.map(|(z, t)| ((z - max).exp().wide() / sum - t).powi(2)).sum::<f64>()
                            / classes
                    }
                }
            })
            .sum()
    }

    /// `dz = ∂L/∂z` for rows of a batch of `batch_size`, through the softmax, whose Jacobian is
    /// `∂p_c/∂z_k = p_c (δ_ck − p_k)`:
    ///
    /// cross-entropy `(p − t) / n`; mean squared error `p ⊙ (q − q·p)` with `q = 2 (p − t) / (n C)`.
    pub fn backward<T: Float>(
        &self,
        z: ArrayView2<T>,
        labels: &[u8],
        batch_size: usize,
        mut dz: ArrayViewMut2<T>,
    ) {
        let classes = z.ncols() as f64;
        let n = T::of(batch_size as f64);
        for ((z, mut dz), &label) in z.rows().into_iter().zip(dz.rows_mut()).zip(labels) {
            dz.assign(&z);
            softmax_row(dz.view_mut());
            match self.kind {
                LossKind::CrossEntropy => {
                    for (class, dz) in dz.iter_mut().enumerate() {
                        *dz = (*dz - T::of(self.target(class, label, classes))) / n;
                    }
                }
                LossKind::MeanSquaredError => {
                    let scale = T::of(2.0 / classes) / n;
                    let q = |class: usize, p: T| scale * (p - T::of(self.target(class, label, classes)));
                    let mean =
                        dz.iter().enumerate().fold(T::zero(), |sum, (class, &p)| sum + q(class, p) * p);
                    for (class, dz) in dz.iter_mut().enumerate() {
                        *dz = *dz * (q(class, *dz) - mean);
                    }
                }
            }
        }
    }

    fn target(&self, class: usize, label: u8, classes: f64) -> f64 {
        let onehot = f64::from(u8::from(class == usize::from(label)));
        (1.0 - self.label_smoothing) * onehot + self.label_smoothing / classes
    }
}

/// `p = e^z / Σ e^z` in every row, in place; scores of ±10⁴ are no danger, since the row's largest
/// is subtracted first.
pub fn softmax<T: Float>(mut z: ArrayViewMut2<T>) {
    for row in z.rows_mut() {
        softmax_row(row);
    }
}

fn softmax_row<T: Float>(mut row: ArrayViewMut1<T>) {
    let max = row.fold(T::neg_infinity(), |max, &z| max.max(z));
    let mut sum = T::zero();
    for z in &mut row {
        *z = (*z - max).exp();
        sum += *z;
    }
    for p in &mut row {
        *p /= sum;
    }
}
