use ndarray::{ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use super::Float;
use super::kernel::vectorized;
use super::rows::{all, all_mut};

/// The kind of loss function. Both kinds are functions of the softmax of the last layer's scores.
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

    /// Every loss with its name in a request.
    pub const NAMED: [(&'static str, Self); 2] =
        [("cross_entropy", Self::CrossEntropy), ("mean_squared_error", Self::MeanSquaredError)];
}

/// The loss of a batch, for scores z (rows, classes) and labels, with `p = softmax(z)` and the target `t =
/// (1 − ε) onehot(label) + ε/C` (label smoothing: Szegedy et al., *Rethinking the Inception Architecture*,
/// 2016). L is the mean over the n rows of the batch. The functions return sums, because the rows of a batch may be
/// divided into groups. dz has the shape of z.
///
/// ```
/// use chainrule_engine::{ndarray::{Array2, array}, nn::{Loss, LossKind}};
///
/// let loss = Loss::new(LossKind::CrossEntropy);
/// let (z, mut dz) = (array![[0.0, 0.0]], Array2::zeros((1, 2)));
/// assert_eq!(loss.forward(z.view(), &[1]), 2_f64.ln());
/// loss.backward(z.view(), &[1], 1, dz.view_mut());
/// assert_eq!(dz, array![[0.5, -0.5]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The loss function.
    pub kind: LossKind,
    /// ε of label smoothing, in [0, 1).
    pub label_smoothing: f64,
}

impl Loss {
    /// A loss without label smoothing.
    pub fn new(kind: LossKind) -> Self {
        Self { kind, label_smoothing: 0.0 }
    }

    /// The sum of the losses of all rows, not yet divided by the batch size. It is finite for any finite
    /// scores.
    pub fn forward<T: Float>(&self, z: ArrayView2<T>, labels: &[u16]) -> f64 {
        rows(&z).zip(labels).map(|(z, &label)| vectorized!(self.row(z, label))).sum()
    }

    /// `dz = ∂L/∂z` for some rows of a batch of n = `batch_size`, through the softmax, whose Jacobian is `∂p_c/∂z_k =
    /// p_c (δ_ck − p_k)`:
    ///
    /// cross-entropy `(p − t) / n`; mean squared error `p ⊙ (q − q·p)` with `q = 2 (p − t) / (n C)`.
    ///
    /// Returns the same as [`Self::forward`].
    pub fn backward<T: Float>(
        &self,
        z: ArrayView2<T>,
        labels: &[u16],
        batch_size: usize,
        mut dz: ArrayViewMut2<T>,
    ) -> f64 {
        let n = T::of(batch_size as f64);
        let scores = rows(&z).zip(labels);
        let rows = rows_mut(&mut dz).zip(scores);
        rows.map(|(dz, (z, &label))| vectorized!(self.row_backward(z, dz, label, n))).sum()
    }

    #[inline(always)]
    fn row<T: Float>(&self, z: &[T], label: u16) -> f64 {
        let max = largest(z);
        let sum: f64 = z.iter().map(|&z| (z - max).e_to_the().wide()).sum();
        self.loss(z, label, max, sum)
    }

    /// The loss of one row, where `max` is its largest score and `sum` is Σ e^(z − max).
    #[inline(always)]
    fn loss<T: Float>(&self, z: &[T], label: u16, max: T, sum: f64) -> f64 {
        let classes = z.len() as f64;
        match self.kind {
            LossKind::CrossEntropy => {
                // −ln p of a class.
                let log_sum = libm::log(sum);
                let surprise = |z: T| log_sum - (z - max).wide();
                let of_label = (1.0 - self.label_smoothing) * surprise(z[usize::from(label)]);
                match self.label_smoothing {
                    0.0 => of_label,
                    share => of_label + share / classes * z.iter().map(|&z| surprise(z)).sum::<f64>(),
                }
            }
            LossKind::MeanSquaredError => {
                let difference = |(class, &z): (usize, &T)| {
                    (z - max).e_to_the().wide() / sum - self.target(class, label, classes)
                };
                z.iter().enumerate().map(difference).map(|difference| difference * difference).sum::<f64>()
                    / classes
            }
        }
    }

    /// Writes the gradient of one row of scores and returns its loss.
    #[inline(always)]
    fn row_backward<T: Float>(&self, z: &[T], dz: &mut [T], label: u16, n: T) -> f64 {
        let classes = dz.len() as f64;
        let [other, same] = [usize::from(label) + 1, usize::from(label)]
            .map(|class| T::of(self.target(class, label, classes)));
        let max = largest(z);
        dz.copy_from_slice(z);
        exponentials(dz, max);
        let loss = self.loss(z, label, max, dz.iter().map(|&e| e.wide()).sum());
        divide_by_sum(dz);
        match self.kind {
            LossKind::CrossEntropy => {
                let share = T::one() / n;
                let of_label = (dz[usize::from(label)] - same) * share;
                dz.iter_mut().for_each(|dz| *dz = (*dz - other) * share);
                dz[usize::from(label)] = of_label;
            }
            LossKind::MeanSquaredError => {
                let scale = T::of(2.0 / classes) / n;
                let target = |class: usize| if class == usize::from(label) { same } else { other };
                let q = |class: usize, p: T| scale * (p - target(class));
                let mean = dz.iter().enumerate().fold(T::zero(), |sum, (class, &p)| sum + q(class, p) * p);
                for (class, dz) in dz.iter_mut().enumerate() {
                    *dz = *dz * (q(class, *dz) - mean);
                }
            }
        }
        loss
    }

    fn target(&self, class: usize, label: u16, classes: f64) -> f64 {
        let onehot = f64::from(u8::from(class == usize::from(label)));
        (1.0 - self.label_smoothing) * onehot + self.label_smoothing / classes
    }
}

/// `p = e^z / Σ e^z` in every row, in place. The largest score of a row is subtracted first, so scores of
/// ±10⁴ don't overflow.
pub fn softmax<T: Float>(mut z: ArrayViewMut2<T>) {
    rows_mut(&mut z).for_each(|row| vectorized!(softmax_row(row)));
}

#[inline(always)]
fn softmax_row<T: Float>(row: &mut [T]) {
    let max = largest(row);
    exponentials(row, max);
    divide_by_sum(row);
}

/// Replaces each element by `e^(z − max)`. The remainder is padded to a full chunk, so that it is vectorised
/// too.
#[inline(always)]
fn exponentials<T: Float>(row: &mut [T], max: T) {
    let (whole, rest) = row.as_chunks_mut::<8>();
    for chunk in whole {
        chunk.iter_mut().for_each(|z| *z = (*z - max).e_to_the());
    }
    if !rest.is_empty() {
        let mut chunk = [max; 8];
        chunk[..rest.len()].copy_from_slice(rest);
        chunk.iter_mut().for_each(|z| *z = (*z - max).e_to_the());
        rest.copy_from_slice(&chunk[..rest.len()]);
    }
}

#[inline(always)]
fn divide_by_sum<T: Float>(row: &mut [T]) {
    let sum = row.iter().fold(T::zero(), |sum, &e| sum + e);
    row.iter_mut().for_each(|p| *p /= sum);
}

#[inline(always)]
fn largest<T: Float>(row: &[T]) -> T {
    row.iter().fold(T::neg_infinity(), |max, &z| if z > max { z } else { max })
}

fn rows<'a, T: Float>(z: &'a ArrayView2<T>) -> impl Iterator<Item = &'a [T]> {
    all(z).chunks_exact(z.ncols())
}

fn rows_mut<'a, T: Float>(z: &'a mut ArrayViewMut2<T>) -> impl Iterator<Item = &'a mut [T]> {
    let classes = z.ncols();
    all_mut(z).chunks_exact_mut(classes)
}
