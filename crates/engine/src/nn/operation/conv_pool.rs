use ndarray::{ArrayView2, ArrayViewMut2};

use super::relu::{self, Relu};
use super::{GradientSum, conv2d};
use crate::nn::group::{BufferSize, Pass, Rows, Values};
use crate::nn::kernel::{
    Aligned, AliveLists, POOL_SIDE, Panels, Parts, PooledWindows, Routed, add_input_gradient, collect_alive,
    conv_relu_pool,
};
use crate::nn::layer::values;
use crate::nn::packed::PanelsSize;
use crate::nn::plan::Plan;
use crate::nn::rows::{all, all_mut};
use crate::nn::shape::Window;
use crate::nn::{Float, Network};

/// A `conv2d`, `relu` and max-pool of 2×2, fused. Only the largest of the four outputs of a square is used, and only if
/// it is above 0. The others are never written. Their gradient is 0, and the backward pass skips it. This takes
/// about an eighth of its operations and has the same result.
pub(in crate::nn) struct ConvPool<T> {
    layer: usize,
    windows: PooledWindows,
    /// w.
    pub(in crate::nn) weight: Panels<T>,
    /// w, filter by filter. Each row of a window is padded to whole registers. `None` if no earlier layer needs `dx`.
    pub(in crate::nn) by_filter: Option<Aligned<T>>,
    relu: Relu<T>,
    parts: Parts<PoolPart<T>>,
}

/// The buffers of a group.
pub(in crate::nn) struct PoolPart<T> {
    /// The padded images of a chunk.
    x: Aligned<T>,
    dx: Aligned<T>,
    lists: AliveLists<T>,
    /// dw summed so far, filter by filter.
    dweight: Aligned<T>,
    /// db summed so far.
    pub dbias: Aligned<T>,
    /// The corner of each square that holds the largest value.
    route: Values<T>,
}

/// The sizes of the buffers.
struct PoolSizes {
    weight: PanelsSize,
    /// Elements of all filters. Each row of a window is padded to whole registers.
    filters: usize,
    x: usize,
    dx: usize,
    /// Largest number of nonzero gradients of a filter.
    alive: usize,
    dbias: usize,
    route: BufferSize,
}

impl PoolSizes {
    fn of(plan: &Plan, number: usize, windows: &PooledWindows) -> Self {
        let op = &plan.ops[number];
        let filters = op.output.channels;
        Self {
            weight: PanelsSize(windows.kernel * windows.span, filters),
            filters: filters * windows.padded_filter(),
            x: plan.chunk_rows * windows.padded_length(),
            dx: windows.padded_length(),
            alive: plan.chunk_rows * windows.squares.len(),
            dbias: filters,
            route: plan.buffer_size(op.output.len(), plan.is_kept(number + 1)),
        }
    }
}

pub(super) fn numbers_of(plan: &Plan, number: usize, window: Window) -> f64 {
    let PoolSizes { weight, filters, x, dx, alive, dbias, route } =
        PoolSizes::of(plan, number, &pooled_windows(window));
    let op = &plan.ops[number];
    let by_filter = if op.has_dx { filters } else { 0 };
    let part =
        (x + dx + filters + dbias + AliveLists::<f32>::numbers_of(dbias, alive)) as f64 + route.numbers();
    weight.numbers() + by_filter as f64 + relu::numbers_of(plan, op.output) + plan.groups as f64 * part
}

impl<T: Float> ConvPool<T> {
    pub fn new(plan: &Plan, number: usize, window: Window) -> Self {
        let (op, windows) = (&plan.ops[number], pooled_windows(window));
        let sizes = PoolSizes::of(plan, number, &windows);
        let part = || PoolPart {
            x: Aligned::zeros(sizes.x),
            dx: Aligned::zeros(sizes.dx),
            lists: AliveLists::with_capacity(sizes.dbias, sizes.alive),
            dweight: Aligned::zeros(sizes.filters),
            dbias: Aligned::zeros(sizes.dbias),
            route: Values::zeros(sizes.route),
        };
        Self {
            layer: op.layers.start,
            weight: sizes.weight.zeros(),
            by_filter: op.has_dx.then(|| Aligned::zeros(sizes.filters)),
            relu: Relu::new(plan, op.layers.start + 1, op.output),
            parts: Parts::new(plan.groups, part),
            windows,
        }
    }

    pub fn relu(&self) -> &Relu<T> {
        &self.relu
    }

    pub fn relu_mut(&mut self) -> &mut Relu<T> {
        &mut self.relu
    }

    pub fn pack(&mut self, network: &Network<T>) {
        let conv = conv2d(network, self.layer);
        self.weight.fill(conv.weight.view());
        let Self { windows, by_filter: Some(by_filter), .. } = self else { return };
        for (row, weights) in conv.weight.rows().into_iter().enumerate() {
            let column = by_filter[row_of_filter(windows, row)..].iter_mut().step_by(windows.padded_filter());
            column.zip(weights).for_each(|(to, &weight)| *to = weight);
        }
    }

    pub fn pack_one(&mut self, network: &Network<T>, row: usize, column: usize) {
        let value = conv2d(network, self.layer).weight[[row, column]];
        self.weight.set(row, column, value);
        if let Some(by_filter) = &mut self.by_filter {
            by_filter[column * self.windows.padded_filter() + row_of_filter(&self.windows, row)] = value;
        }
    }

    pub fn begin(&mut self) {
        for part in self.parts.iter_mut() {
            part.dweight.fill(T::zero());
            part.dbias.fill(T::zero());
        }
    }

    /// `y = max(0, b + max over the square of x * w)`, with x (n, h · w · c) and y (n, squares · filters).
    pub fn forward(&self, pass: &Pass<T>, rows: Rows, x: ArrayView2<T>, mut y: ArrayViewMut2<T>) {
        let Self { windows, weight, .. } = self;
        let conv = conv2d(pass.network, self.layer);
        let PoolPart { x: padded, route, .. } = &mut *self.parts.take(rows.group);
        let (outputs, mut route) = (y.ncols(), route.of_mut(rows.chunk));
        let (y, route) = (all_mut(&mut y), all_mut(&mut route));
        let images = y.chunks_exact_mut(outputs).zip(route.chunks_exact_mut(outputs));
        for (x, (y, route)) in all(&x).chunks_exact(conv.input().len()).zip(images) {
            let padded = &mut padded[..windows.padded_length()];
            conv.write_padded(x, padded);
            let bias = values(&conv.bias);
            conv_relu_pool(conv.instructions(), windows, padded, weight.right(), bias, y, route);
        }
        self.relu.watch(pass, rows, y);
    }

    /// Adds to `dw = Σ dy · window` and `db = Σ dy`, and writes `dx[window] = Σ dy · w`. All sums are over the nonzero
    /// gradients.
    pub fn backward(
        &self,
        network: &Network<T>,
        rows: Rows,
        [x, y, dy]: [ArrayView2<T>; 3],
        dx: Option<ArrayViewMut2<T>>,
    ) {
        let (conv, windows) = (conv2d(network, self.layer), &self.windows);
        let PoolPart { x: padded, dx: dpadded, lists, dweight, dbias, route } =
            &mut *self.parts.take(rows.group);
        let route = route.of(rows.chunk);
        let gradients = || routed(y.ncols(), all(&y), all(&route), all(&dy));
        lists.clear();
        let images = all(&x).chunks_exact(conv.input().len()).zip(gradients()).enumerate();
        for (image, (x, gradient)) in images {
            let start = image * windows.padded_length();
            conv.write_padded(x, &mut padded[start..start + windows.padded_length()]);
            collect_alive(conv.instructions(), windows, gradient, start, lists, dbias);
        }
        lists.add_outer(conv.instructions(), windows, padded, dweight);
        if let Some(mut dx) = dx {
            let weight = self.by_filter.as_ref().expect("w by filter is packed if dx is needed");
            for (dx, gradient) in all_mut(&mut dx).chunks_exact_mut(conv.input().len()).zip(gradients()) {
                dpadded.fill(T::zero());
                add_input_gradient(conv.instructions(), windows, gradient, weight, dpadded);
                conv.read_padded(dpadded, dx);
            }
        }
    }

    /// The terms of the gradient.
    pub fn gradient(&mut self) -> GradientSum<'_, T> {
        GradientSum::ConvPool(&self.windows, self.parts.all())
    }
}

impl<T: Float> PoolPart<T> {
    /// Writes the rows of dw that start at `first` to `dweight`, of shape (rows, filters). The sum is over `parts`.
    pub fn weight_gradient<'a>(
        windows: &PooledWindows,
        parts: impl Iterator<Item = &'a Self> + Clone,
        first: usize,
        filters: usize,
        dweight: &mut [T],
    ) {
        for (row, dweight) in (first..).zip(dweight.chunks_exact_mut(filters)) {
            let at = row_of_filter(windows, row);
            dweight.fill(T::zero());
            for part in parts.clone() {
                let column = part.dweight[at..].iter().step_by(windows.padded_filter());
                dweight.iter_mut().zip(column).for_each(|(sum, &part)| *sum += part);
            }
        }
    }
}

/// Offset of row `row` of the weight in a filter whose rows are padded to whole registers.
fn row_of_filter(windows: &PooledWindows, row: usize) -> usize {
    row / windows.span * windows.padded_span() + row % windows.span
}

/// Splits y, route and dy into images of `outputs` elements each.
pub(super) fn routed<'a, T>(
    outputs: usize,
    y: &'a [T],
    route: &'a [T],
    dy: &'a [T],
) -> impl Iterator<Item = Routed<'a, T>> {
    let images = y.chunks_exact(outputs).zip(route.chunks_exact(outputs)).zip(dy.chunks_exact(outputs));
    images.map(|((y, route), dy)| Routed { y, route, dy })
}

fn pooled_windows(window: Window) -> PooledWindows {
    let along = |count: usize| (0..count / POOL_SIDE).map(|square| square * POOL_SIDE * window.stride);
    let squares =
        along(window.height).flat_map(|y| along(window.width).map(move |x| window.at(y, x))).collect();
    let corner =
        |corner: usize| window.at(corner / POOL_SIDE * window.stride, corner % POOL_SIDE * window.stride);
    PooledWindows {
        kernel: window.kernel,
        span: window.kernel * window.padded.channels,
        row: window.at(1, 0),
        corners: std::array::from_fn(corner),
        squares,
        length: window.padded.len(),
    }
}
