use super::kernel::{
    AliveLists, Instructions, POOL, Panels, PooledWindows, Routed, add_input_gradient, collect_alive,
    conv_relu_pool,
};
use super::layer::values;
use super::{Conv2d, Float};

/// A [`Conv2d`], `relu` and the largest of each square of 2×2 as one: of the four outputs of a square only
/// the largest goes on, and only where it is above 0. The others are never written down, and on the way
/// back, where their gradient is 0, never multiplied: the same mathematics, on the way back with
/// an eighth of the operations.
#[derive(Clone, Debug)]
pub(super) struct ConvPool<T> {
    windows: PooledWindows,
    /// The images of a chunk with their borders.
    x: Vec<T>,
    dx: Vec<T>,
    lists: AliveLists<T>,
    /// The gradient summed so far, filter by filter, and that of the bias.
    dweight: Vec<T>,
    dbias: Vec<T>,
}

impl<T: Float> ConvPool<T> {
    /// For chunks of up to `images`.
    pub fn new(conv: &Conv2d<T>, images: usize) -> Self {
        let windows = conv.pooled_windows();
        let filters = conv.filters();
        Self {
            x: vec![T::zero(); images * windows.room()],
            dx: vec![T::zero(); windows.room()],
            lists: AliveLists::with_capacity(filters, images * windows.squares.len()),
            dweight: vec![T::zero(); filters * windows.padded_filter()],
            dbias: vec![T::zero(); filters],
            windows,
        }
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        let numbers = self.x.len() + self.dx.len() + self.dweight.len() + self.dbias.len();
        self.lists.memory_bytes() + numbers * size_of::<T>()
    }

    /// Begins the sum of the gradient.
    pub fn clear(&mut self) {
        self.dweight.fill(T::zero());
        self.dbias.fill(T::zero());
    }

    /// `y = max(0, b + max over the square of x * w)`: x (n, h · w · c), y and route (n, squares ·
    /// filters).
    pub fn forward(&mut self, conv: &Conv2d<T>, weight: &Panels<T>, x: &[T], y: &mut [T], route: &mut [T]) {
        let outputs = self.windows.squares.len() * conv.filters();
        let outputs = y.chunks_exact_mut(outputs).zip(route.chunks_exact_mut(outputs));
        for (x, (y, route)) in x.chunks_exact(conv.input().len()).zip(outputs) {
            let padded = &mut self.x[..self.windows.room()];
            conv.write_padded(x, padded);
            let bias = values(&conv.bias);
            conv_relu_pool(Instructions::best(), &self.windows, padded, weight.right(), bias, y, route);
        }
    }

    /// Adds to `dw = Σ dy · window` and `db = Σ dy`, each over what is alive.
    pub fn backward_parameters(&mut self, conv: &Conv2d<T>, x: &[T], y: &[T], route: &[T], dy: &[T]) {
        self.lists.clear();
        let room = self.windows.room();
        let gradients = routed(self.windows.squares.len() * conv.filters(), y, route, dy);
        for (image, (x, gradient)) in x.chunks_exact(conv.input().len()).zip(gradients).enumerate() {
            let start = image * room;
            conv.write_padded(x, &mut self.x[start..start + room]);
            let (lists, dbias) = (&mut self.lists, &mut self.dbias);
            collect_alive(Instructions::best(), &self.windows, gradient, start, lists, dbias);
        }
        self.lists.add_outer(Instructions::best(), &self.windows, &self.x, &mut self.dweight);
    }

    /// `dx[window] = Σ dy · w` over what is alive: dx (n, h · w · c). `weight` is w by filter, see
    /// [`Conv2d::write_by_filter`].
    pub fn backward_input(
        &mut self,
        conv: &Conv2d<T>,
        weight: &[T],
        [y, route, dy]: [&[T]; 3],
        dx: &mut [T],
    ) {
        let gradients = routed(self.windows.squares.len() * conv.filters(), y, route, dy);
        for (dx, gradient) in dx.chunks_exact_mut(conv.input().len()).zip(gradients) {
            self.dx.fill(T::zero());
            add_input_gradient(Instructions::best(), &self.windows, gradient, weight, &mut self.dx);
            conv.read_padded(&self.dx, dx);
        }
    }

    /// Rows from `first` on of the gradient of the weight, of shape (rows, filters), summed over `parts`.
    pub fn weight_gradient<'a>(
        parts: impl Iterator<Item = &'a Self> + Clone,
        first: usize,
        dweight: &mut [T],
    ) {
        let Some(any) = parts.clone().next() else { return };
        let (windows, filters) = (&any.windows, any.dbias.len());
        for (row, dweight) in (first..).zip(dweight.chunks_exact_mut(filters)) {
            let at = row / windows.span * windows.padded_span() + row % windows.span;
            dweight.fill(T::zero());
            for part in parts.clone() {
                let column = part.dweight[at..].iter().step_by(windows.padded_filter());
                dweight.iter_mut().zip(column).for_each(|(sum, &part)| *sum += part);
            }
        }
    }

    /// The gradient of the bias.
    pub fn dbias(&self) -> &[T] {
        &self.dbias
    }
}

/// Image after image, each of `outputs` numbers.
pub(super) fn routed<'a, T>(
    outputs: usize,
    y: &'a [T],
    route: &'a [T],
    dy: &'a [T],
) -> impl Iterator<Item = Routed<'a, T>> {
    let images = y.chunks_exact(outputs).zip(route.chunks_exact(outputs)).zip(dy.chunks_exact(outputs));
    images.map(|((y, route), dy)| Routed { y, route, dy })
}

impl<T: Float> Conv2d<T> {
    fn pooled_windows(&self) -> PooledWindows {
        let window = self.window();
        let along = |count: usize| (0..count / POOL).map(|square| square * POOL * window.stride);
        let squares =
            along(window.height).flat_map(|y| along(window.width).map(move |x| window.at(y, x))).collect();
        let corner = |corner: usize| window.at(corner / POOL * window.stride, corner % POOL * window.stride);
        PooledWindows {
            kernel: window.kernel,
            span: window.kernel * window.padded.channels,
            row: window.at(1, 0),
            corners: std::array::from_fn(corner),
            squares,
            length: window.padded.len(),
        }
    }

    /// Numbers of [`Self::write_by_filter`].
    pub(super) fn by_filter_len(&self) -> usize {
        self.filters() * self.pooled_windows().padded_filter()
    }

    /// Where [`Self::write_by_filter`] puts the number of w in `row` and `filter`, of `length` numbers in all.
    pub(super) fn place_by_filter(&self, length: usize, row: usize, filter: usize) -> usize {
        let (span, length) = (self.kernel() * self.input().channels, length / self.filters());
        filter * length + row / span * (length / self.kernel()) + row % span
    }

    /// Copies w filter by filter, each row of a window padded to whole registers.
    pub(super) fn write_by_filter(&self, by_filter: &mut [T]) {
        let span = self.kernel() * self.input().channels;
        let length = by_filter.len() / self.filters();
        let padded = length / self.kernel();
        for (row, weights) in self.weight.rows().into_iter().enumerate() {
            let at = row / span * padded + row % span;
            by_filter[at..].iter_mut().step_by(length).zip(weights).for_each(|(to, &weight)| *to = weight);
        }
    }
}
