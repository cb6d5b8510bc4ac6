use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::Float;
use super::kernel::vectorized;
use super::rows::{filled, image, image_mut};
use super::shape::{Padding, Shape, Window};

/// Reduces each square of size × size pixels of an image to one value, channel by channel, with x (n, h · w · c) and y (n,
/// ⌊h / size⌋ · ⌊w / size⌋ · c):
///
/// ```text
/// max      y = max x                  dx = dy at the largest x of the square, else 0
/// average  y = Σ x / size²            dx = dy / size²
/// ```
///
/// Of several largest values, the first one gets dy, as in PyTorch. Rows and columns at the bottom and right that don't
/// fill a square are ignored, and their dx is 0.
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::{Pooling, PoolingKind, Shape}};
///
/// let image = Shape { height: 2, width: 2, channels: 1 };
/// let max = Pooling::new(PoolingKind::Max, image, 2).expect("a square that fits");
/// let x = array![[1.0, 4.0, 2.0, 3.0]];
/// assert_eq!(max.forward(x.view()), array![[4.0]]);
/// assert_eq!(max.backward(x.view(), array![[5.0]].view()), array![[0.0, 5.0, 0.0, 0.0]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pooling {
    /// The function that reduces a square to one value.
    pub kind: PoolingKind,
    pub(super) window: Window,
}

/// The function that reduces a square to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingKind {
    /// The largest value. NaN if a value is NaN.
    Max,
    /// The arithmetic mean.
    Average,
}

impl Pooling {
    /// A pooling of images of shape `input`, with squares of `size` pixels. `None` if a square is larger than the image.
    pub fn new(kind: PoolingKind, input: Shape, size: usize) -> Option<Self> {
        Some(Self { kind, window: Window::new(input, size, size, Padding::Valid)? })
    }

    /// The largest value or the mean of each square, for a batch of images.
    pub fn forward<T: Float>(&self, x: ArrayView2<T>) -> Array2<T> {
        assert_eq!(x.ncols(), self.window.input.len(), "the pixels of an image");
        let x = x.as_standard_layout();
        filled((x.nrows(), self.output().len()), |y| self.forward_into(x.view(), y))
    }

    /// dx for a batch of images.
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn backward<T: Float>(&self, x: ArrayView2<T>, dy: ArrayView2<T>) -> Array2<T> {
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let y = self.forward(x.view());
        assert_eq!(y.dim(), dy.dim(), "y and dy");
        filled(x.dim(), |dx| self.backward_into([x.view(), y.view(), dy.view()], dx))
    }

    /// Writes [`Self::forward`] to y.
    pub(super) fn forward_into<T: Float>(&self, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        for row in 0..x.nrows() {
            vectorized!(self.forward_image(image(&x, row), image_mut(&mut y, row)));
        }
    }

    /// Writes [`Self::backward`] to dx. y is the output of the forward pass.
    pub(super) fn backward_into<T: Float>(&self, [x, y, dy]: [ArrayView2<T>; 3], mut dx: ArrayViewMut2<T>) {
        for row in 0..dy.nrows() {
            let (x, y, dy) = (image(&x, row), image(&y, row), image(&dy, row));
            vectorized!(self.backward_image(x, y, dy, image_mut(&mut dx, row)));
        }
    }

    /// Shape of the output.
    pub fn output(&self) -> Shape {
        Shape { height: self.window.height, width: self.window.width, ..self.window.input }
    }

    /// Side of a square.
    pub fn size(&self) -> usize {
        self.window.kernel
    }

    /// `y = max x`, or the mean, over each square of one image.
    #[inline(always)]
    pub(super) fn forward_image<T: Float>(&self, x: &[T], y: &mut [T]) {
        let channels = self.window.input.channels;
        let share = T::one() / T::of((self.size() * self.size()) as f64);
        for (y, start) in y.chunks_exact_mut(channels).zip(self.window.places()) {
            y.copy_from_slice(&x[start..start + channels]);
            for tap in self.window.taps().skip(1) {
                let x = &x[start + tap..][..channels];
                match self.kind {
                    PoolingKind::Max => {
                        y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > *y || x.is_nan() { x } else { *y })
                    }
                    PoolingKind::Average => y.iter_mut().zip(x).for_each(|(y, &x)| *y += x),
                }
            }
            if self.kind == PoolingKind::Average {
                y.iter_mut().for_each(|y| *y *= share);
            }
        }
    }

    /// dx of one image.
    #[inline(always)]
    pub(super) fn backward_image<T: Float>(&self, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let channels = self.window.input.channels;
        let share = T::one() / T::of((self.size() * self.size()) as f64);
        if self.window.height * self.size() < self.window.input.height
            || self.window.width * self.size() < self.window.input.width
        {
            dx.fill(T::zero());
        }
        let outputs = y.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for ((y, dy), start) in outputs.zip(self.window.places()) {
            match self.kind {
                PoolingKind::Max => {
                    for first in (0..channels).step_by(CHANNELS) {
                        let width = CHANNELS.min(channels - first);
                        // dy, until the first largest value of the square has received it. Then 0.
                        let mut rest = [T::zero(); CHANNELS];
                        rest[..width].copy_from_slice(&dy[first..first + width]);
                        let y = &y[first..first + width];
                        for tap in self.window.taps() {
                            let at = start + tap + first;
                            let places = x[at..at + width].iter().zip(&mut dx[at..at + width]);
                            for (((&x, dx), &y), rest) in places.zip(y).zip(&mut rest) {
                                let is_first = x == y;
                                *dx = if is_first { *rest } else { T::zero() };
                                *rest = if is_first { T::zero() } else { *rest };
                            }
                        }
                    }
                }
                PoolingKind::Average => {
                    for tap in self.window.taps() {
                        let dx = &mut dx[start + tap..][..channels];
                        dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = dy * share);
                    }
                }
            }
        }
    }
}

impl Pooling {
    /// Calls `work` with each input and the output of its square.
    pub(super) fn for_each_pair(&self, mut work: impl FnMut(usize, usize)) {
        let channels = self.window.input.channels;
        for (square, start) in self.window.places().enumerate() {
            for tap in self.window.taps() {
                (0..channels).for_each(|channel| work(start + tap + channel, square * channels + channel));
            }
        }
    }
}

/// Number of channels processed together.
const CHANNELS: usize = 16;
