use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, ShapeBuilder, s};

use super::kernel::{
    Aligned, Instructions, Offsets, Panels, Right, Start, Windows, matmul_windows, vectorized,
};
use super::layer::{values, values_mut};
use super::packed::{PackedConv2d, PanelsSize};
use super::rows::{filled, image, image_mut, matrix, matrix_mut};
use super::shape::{Shape, Window};
use super::{Float, Gradient};

/// A convolution. As usual in deep learning, it is the cross-correlation of an image (h, w, c) with `filters` filters
/// of k × k × c: `y[i, j, f] = b[f] + Σ_{u,v,c} x[i s + u, j s + v, c] w[u, v, c, f]`.
///
/// In the formula, x includes the border of zeros that padding adds. dx has no values for the border.
///
/// If the windows are the rows of a matrix X (outputs, k k c), the layer is the affine function `y = X W + b`. Its
/// gradients are therefore `dX = dy Wᵀ`, `dW = Xᵀ dy` and `db = Σ dy`. Each row of dX is added to dx at the position of
/// its window (LeCun et al., *Gradient-Based Learning Applied to Document Recognition*, 1998).
///
/// ```
/// use chainrule_engine::{ndarray::array, nn::{Conv2d, Padding, Shape, Window}};
///
/// let image = Shape { height: 2, width: 2, channels: 1 };
/// let window = Window::new(image, 2, 1, Padding::Valid).expect("a window that fits");
/// let layer = Conv2d::new(array![[1.0], [2.0], [3.0], [4.0]], array![0.5], window);
/// let (x, dy) = (array![[1.0, 0.0, 0.0, -1.0]], array![[2.0]]);
/// assert_eq!(layer.forward(x.view()), array![[-2.5]]);
/// let (dx, dweight, dbias) = layer.backward(x.view(), dy.view());
/// assert_eq!(dx, array![[2.0, 4.0, 6.0, 8.0]]);
/// assert_eq!((dweight, dbias), (array![[2.0], [0.0], [0.0], [-2.0]], array![2.0]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d<T> {
    /// w, shape (k · k · c, filters): row (u · k + v) · c + channel.
    pub weight: Array2<T>,
    /// b, shape (filters).
    pub bias: Array1<T>,
    window: Window,
    /// Offset of each window in the padded image.
    places: Offsets,
    /// Offset of each row of `weight` within a window.
    taps: Offsets,
    /// Offsets of the outputs in one row of windows.
    line: Offsets,
}

impl<T: Float> Conv2d<T> {
    /// A convolution with these filters, for images of the shape that `window` is for. The weight has shape (k · k · c,
    /// filters), and the bias (filters).
    ///
    /// # Panics
    /// If the shapes don't match.
    pub fn new(weight: Array2<T>, bias: Array1<T>, window: Window) -> Self {
        let channels = window.input.channels;
        let (rows, columns) = (window.kernel * window.kernel * channels, bias.len());
        assert_eq!(weight.dim(), (rows, columns), "the shape of the weight of a convolution");
        let taps = |u: usize| (0..window.kernel * channels).map(move |tap| window.at(u, 0) + tap);
        Self {
            line: (0..window.width).map(|place| place * columns).collect(),
            weight,
            bias,
            window,
            places: window.places().collect(),
            taps: (0..window.kernel).flat_map(taps).collect(),
        }
    }

    /// `y[i, j, f] = b[f] + Σ_{u,v,c} x[i s + u, j s + v, c] w[u, v, c, f]`, with x (n, h · w · c) and y (n, pixels ·
    /// filters).
    pub fn forward(&self, x: ArrayView2<T>) -> Array2<T> {
        assert_eq!(x.ncols(), self.input().len(), "the pixels of an image");
        let x = x.as_standard_layout();
        let packed = PackedConv2d::of(self, false);
        filled((x.nrows(), self.output().len()), |y| self.forward_into(x.view(), &packed, y))
    }

    /// `dx[i s + u, j s + v, c] = Σ dy[i, j, f] w[u, v, c, f]`, `dw[u, v, c, f] = Σ x[i s + u, j s + v, c] dy[i, j, f]` and
    /// `db[f] = Σ dy[i, j, f]`. The sum for dx is over f and all (i, j, u, v) that meet at
    /// this pixel. The sums for dw and db are over all images and outputs.
    pub fn backward(&self, x: ArrayView2<T>, dy: ArrayView2<T>) -> (Array2<T>, Array2<T>, Array1<T>) {
        assert_eq!(x.ncols(), self.input().len(), "the pixels of an image");
        assert_eq!(dy.dim(), (x.nrows(), self.output().len()), "the shape of dy");
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let packed = PackedConv2d::of(self, true);
        let dx = filled(x.dim(), |dx| self.backward_input_into(dy.view(), &packed, dx));
        let mut gradient = Gradient::zeros(0, &self.weight, &self.bias);
        self.add_gradient(x.view(), dy.view(), &mut gradient);
        (dx, gradient.weight, gradient.bias)
    }

    /// [`Self::forward`] with w packed.
    pub(super) fn forward_into(&self, x: ArrayView2<T>, packed: &PackedConv2d<T>, mut y: ArrayViewMut2<T>) {
        let mut scratch = ConvScratch::new(self.window, self.filters());
        for row in 0..x.nrows() {
            let (x, y) = (image(&x, row), image_mut(&mut y, row));
            vectorized!(self.forward_image(x, &packed.weight, &mut scratch, y));
        }
    }

    /// dx of [`Self::backward`], with the transposes of w packed.
    pub(super) fn backward_input_into(
        &self,
        dy: ArrayView2<T>,
        packed: &PackedConv2d<T>,
        mut dx: ArrayViewMut2<T>,
    ) {
        let mut scratch = ConvScratch::new(self.window, self.filters());
        for row in 0..dy.nrows() {
            let (dy, dx) = (image(&dy, row), image_mut(&mut dx, row));
            self.backward_input(dy, packed.transposed(), &mut scratch, dx);
        }
    }

    /// Adds dw and db of [`Self::backward`] to `gradient`.
    pub(super) fn add_gradient(&self, x: ArrayView2<T>, dy: ArrayView2<T>, gradient: &mut Gradient<T>) {
        let mut scratch = ConvScratch::new(self.window, self.filters());
        for row in 0..x.nrows() {
            self.backward_parameters(image(&x, row), image(&dy, row), &mut scratch, gradient);
        }
    }

    /// Number of filters.
    pub fn filters(&self) -> usize {
        self.bias.len()
    }

    /// Side of a filter.
    pub fn kernel(&self) -> usize {
        self.window.kernel
    }

    /// Shape of the input.
    pub fn input(&self) -> Shape {
        self.window.input
    }

    /// Shape of the output.
    pub fn output(&self) -> Shape {
        Shape { height: self.window.height, width: self.window.width, channels: self.filters() }
    }

    /// The fastest instruction set of this processor for this many filters.
    pub(super) fn instructions(&self) -> Instructions {
        Instructions::best().for_columns::<T>(self.filters())
    }

    /// `y = x * w + b` for one image, with x (h · w · c) and y (outputs · filters). `weight` is w packed into
    /// panels.
    #[inline(always)]
    pub(super) fn forward_image(
        &self,
        x: &[T],
        weight: &Panels<T>,
        scratch: &mut ConvScratch<T>,
        y: &mut [T],
    ) {
        let start = Start::Row(values(&self.bias));
        let mut y = matrix_mut(y, self.filters());
        let values = self.pad(x, &mut scratch.padded);
        let windows = Windows { values, rows: &self.places, columns: Some(&self.taps) };
        matmul_windows(self.instructions(), windows, [(0, weight.right())], &mut y, start);
    }

    /// `dx[i s + u, j s + v, c] = Σ dy[i, j, f] w[u, v, c, f]` for one image, with dy (outputs · filters) and
    /// dx (h · w · c). `transposed` holds the weight of each (u, v), of shape (filters, c), packed into
    /// panels.
    pub(super) fn backward_input(
        &self,
        dy: &[T],
        transposed: &[Panels<T>],
        scratch: &mut ConvScratch<T>,
        dx: &mut [T],
    ) {
        let Window { input, padded, kernel, stride, height, width, .. } = self.window;
        let target: &mut [T] = if padded == input { dx } else { &mut scratch.dpadded };
        target.fill(T::zero());
        let channels = input.channels;
        let windows = Windows { values: dy, rows: &self.line, columns: None };
        let span = (width - 1) * stride * channels + channels;
        for y in 0..padded.height {
            for v in 0..kernel {
                // Row y of the image is row u of the windows in row i if y = i s + u.
                let parts =
                    (0..kernel.min(y + 1)).filter(|u| (y - u).is_multiple_of(stride)).filter_map(|u| {
                        let i = (y - u) / stride;
                        let start = i * width * self.filters();
                        (i < height).then(|| (start, transposed[u * kernel + v].right()))
                    });
                let target = &mut target[self.window.at(y, v)..][..span];
                let shape = (width, channels).strides((stride * channels, 1));
                let Ok(mut target) = ArrayViewMut2::from_shape(shape, target) else {
                    unreachable!("pixels that are a stride apart don't overlap");
                };
                matmul_windows(self.instructions(), windows, parts, &mut target, Start::Target);
            }
        }
        if padded != input {
            self.read_padded(&scratch.dpadded, dx);
        }
    }

    /// `dw += Xᵀ dy` and `db += Σ dy` for one image, with dy (outputs · filters).
    #[inline(always)]
    pub(super) fn backward_parameters(
        &self,
        x: &[T],
        dy: &[T],
        scratch: &mut ConvScratch<T>,
        gradient: &mut Gradient<T>,
    ) {
        let filters = self.filters();
        let dbias = values_mut(&mut gradient.bias);
        for dy in dy.chunks_exact(filters) {
            dbias.iter_mut().zip(dy).for_each(|(sum, &dy)| *sum += dy);
        }
        let dy = match &mut scratch.dy {
            Some(panels) => {
                panels.fill(matrix(dy, filters));
                panels.right()
            }
            None => Right::row_major(dy, filters).expect("without panels, dy fills whole registers"),
        };
        let mut dweight = gradient.weight.view_mut();
        let values = self.pad(x, &mut scratch.padded);
        let windows = Windows { values, rows: &self.taps, columns: Some(&self.places) };
        matmul_windows(self.instructions(), windows, [(0, dy)], &mut dweight, Start::Target);
    }

    /// Packs the weight of each tap, transposed for [`Self::backward_input`].
    pub(super) fn transpose_into(&self, transposed: &mut [Panels<T>]) {
        let channels = self.window.input.channels;
        for (tap, panels) in transposed.iter_mut().enumerate() {
            panels.fill(self.weight.slice(s![tap * channels..(tap + 1) * channels, ..]).reversed_axes());
        }
    }

    /// Copies the image into the padded buffer, if there is padding. The zeros of the border are never overwritten.
    fn pad<'a>(&self, x: &'a [T], padded: &'a mut [T]) -> &'a [T] {
        if padded.is_empty() {
            return x;
        }
        self.write_padded(x, padded);
        padded
    }

    /// Copies an image into a padded buffer.
    pub(super) fn write_padded(&self, x: &[T], padded: &mut [T]) {
        let row = self.window.input.width * self.window.input.channels;
        for (y, x) in x.chunks_exact(row).enumerate() {
            let start = self.window.origin + self.window.at(y, 0);
            padded[start..start + row].copy_from_slice(x);
        }
    }

    /// Copies an image out of a padded buffer.
    pub(super) fn read_padded(&self, padded: &[T], x: &mut [T]) {
        let row = self.window.input.width * self.window.input.channels;
        for (y, x) in x.chunks_exact_mut(row).enumerate() {
            let start = self.window.origin + self.window.at(y, 0);
            x.copy_from_slice(&padded[start..start + row]);
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Calls `work(input, output)` for each output pixel whose window multiplies the weights of `row` with a pixel of
    /// the image.
    pub(super) fn for_each_window(&self, row: usize, mut work: impl FnMut(usize, usize)) {
        let window = self.window();
        let channels = window.input.channels;
        let (tap, channel) = (row / channels, row % channels);
        let (u, v) = (tap / window.kernel, tap % window.kernel);
        for place in 0..window.height * window.width {
            let (i, j) = (place / window.width, place % window.width);
            if let Some(input) = input_at(window, i * window.stride + u, j * window.stride + v) {
                work(input + channel, place);
            }
        }
    }

    /// Calls `work(input, output, row, filter)` for each product of the convolution with a pixel of the
    /// image.
    pub(super) fn for_each_weight(&self, mut work: impl FnMut(usize, usize, usize, usize)) {
        let filters = self.filters();
        for row in 0..self.weight.nrows() {
            self.for_each_window(row, |input, place| {
                (0..filters).for_each(|filter| work(input, place * filters + filter, row, filter));
            });
        }
    }
}

/// Offset in the image of the pixel (y, x) of the padded image. `None` if it is in the border.
fn input_at(window: Window, y: usize, x: usize) -> Option<usize> {
    let border = window.origin / window.padded.channels;
    let (top, left) = (border / window.padded.width, border % window.padded.width);
    let (y, x) = (y.checked_sub(top)?, x.checked_sub(left)?);
    let is_inside = y < window.input.height && x < window.input.width;
    is_inside.then(|| (y * window.input.width + x) * window.input.channels)
}

/// Scratch buffers of a [`Conv2d`] for one image.
#[derive(Clone, Debug)]
pub(super) struct ConvScratch<T> {
    /// The padded image. Empty without padding.
    padded: Aligned<T>,
    dpadded: Aligned<T>,
    /// dy packed into panels, if it can't be used as a right-hand side directly.
    dy: Option<Panels<T>>,
}

/// The sizes of the buffers of a [`ConvScratch`].
struct ScratchSizes {
    padded: usize,
    dpadded: usize,
    dy: Option<PanelsSize>,
}

impl ScratchSizes {
    fn of(window: Window, filters: usize) -> Self {
        let padded = if window.padded == window.input { 0 } else { window.padded.len() };
        let is_right = Right::row_major(&[0.0_f32], filters).is_some();
        Self {
            padded,
            dpadded: padded,
            dy: (!is_right).then_some(PanelsSize(window.height * window.width, filters)),
        }
    }
}

/// Number of elements of a [`ConvScratch`].
pub(super) fn numbers_of_scratch(window: Window, filters: usize) -> f64 {
    let ScratchSizes { padded, dpadded, dy } = ScratchSizes::of(window, filters);
    (padded + dpadded) as f64 + dy.map_or(0.0, PanelsSize::numbers)
}

impl<T: Float> ConvScratch<T> {
    /// Scratch buffers for `filters` filters with these windows.
    pub fn new(window: Window, filters: usize) -> Self {
        let ScratchSizes { padded, dpadded, dy } = ScratchSizes::of(window, filters);
        Self {
            padded: Aligned::zeros(padded),
            dpadded: Aligned::zeros(dpadded),
            dy: dy.map(PanelsSize::zeros),
        }
    }
}
