use super::kernel::vectorized;
use super::rows::image;
use super::shape::Window;
use super::{Dense, Float, Layer, Network, Pooling, Tape};

/// A path through a network from a value to the loss. By the chain rule, its share of `∂L/∂value` is the
/// product of the local derivatives along it, and the derivative is the sum over all paths.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitPath<T> {
    /// The product of all local derivatives.
    pub product: T,
    /// The index of each value on the path, one per layer output.
    pub units: Vec<usize>,
    /// The local derivatives: of each value with respect to the previous one, and of the loss with respect to
    /// the last.
    pub locals: Vec<T>,
}

/// The continuation of a path from a value.
#[derive(Clone, Copy)]
struct Rest<T> {
    product: T,
    local: T,
    unit: usize,
    rank: usize,
}

/// Inserts `rest` into a list of the `most` strongest, sorted by strength. Returns false if it is too weak.
fn keep<T: Float>(list: &mut Vec<Rest<T>>, rest: Rest<T>, most: usize) -> bool {
    let strength = rest.product.abs();
    if strength == T::zero() || list.len() == most && strength <= list[most - 1].product.abs() {
        return false;
    }
    let place = list.partition_point(|kept| kept.product.abs() >= strength);
    list.truncate(most - 1);
    list.insert(place, rest);
    true
}

/// The `most` strongest paths to the loss from outputs of the layer at `index`. Each of `starts` is the index of an
/// output and its local derivative. `tape` must have recorded a forward and a backward pass of one row.
///
/// The search goes backward from the loss. Each value keeps its strongest continuations, which are the continuations of
/// its successors times the local derivative in between. This finds the k best paths of an acyclic graph, just as
/// Viterbi's algorithm finds the best one.
pub fn strongest_paths<T: Float>(
    network: &Network<T>,
    tape: &Tape<T>,
    index: usize,
    starts: impl Iterator<Item = (usize, T)>,
    most: usize,
) -> Vec<UnitPath<T>> {
    let last = network.layers().len();
    let at_loss = tape.errors[last].iter();
    let mut rests = vec![
        at_loss
            .map(|&product| match product == T::zero() {
                true => Vec::new(),
                false => vec![Rest { product, local: product, unit: 0, rank: 0 }],
            })
            .collect::<Vec<_>>(),
    ];
    for (layer, x, y) in (index + 1..last).rev().map(|at| {
        (&network.layers()[at], image(&tape.values[at].view(), 0), image(&tape.values[at + 1].view(), 0))
    }) {
        let after = &rests[rests.len() - 1];
        let mut here = vec![Vec::new(); x.len()];
        layer.for_each_local(x, y, |from, to, local| {
            for (rank, rest) in after[to].iter().enumerate() {
                let rest = Rest { product: local * rest.product, local, unit: to, rank };
                if !keep(&mut here[from], rest, most) {
                    break;
                }
            }
        });
        rests.push(here);
    }
    let mut best = Vec::new();
    for (unit, local) in starts {
        for (rank, rest) in rests[rests.len() - 1][unit].iter().enumerate() {
            if !keep(&mut best, Rest { product: local * rest.product, local, unit, rank }, most) {
                break;
            }
        }
    }
    best.into_iter().map(|start| follow(start, &rests)).collect()
}

fn follow<T: Float>(start: Rest<T>, rests: &[Vec<Vec<Rest<T>>>]) -> UnitPath<T> {
    let mut path = UnitPath { product: start.product, units: vec![start.unit], locals: vec![start.local] };
    let mut at = start;
    for (index, rests) in rests.iter().enumerate().rev() {
        at = rests[at.unit][at.rank];
        path.locals.push(at.local);
        if index > 0 {
            path.units.push(at.unit);
        }
    }
    path
}

impl<T: Float> Layer<T> {
    /// Calls `work(i, j, ∂y_j/∂x_i)` for each pair whose local derivative isn't always 0. x and y are the input and
    /// output of one row, in inference mode.
    fn for_each_local(&self, x: &[T], y: &[T], mut work: impl FnMut(usize, usize, T)) {
        match self {
            Self::Dense(Dense { weight, .. }) => {
                for (from, row) in weight.rows().into_iter().enumerate() {
                    row.iter().enumerate().for_each(|(to, &local)| work(from, to, local));
                }
            }
            Self::Conv2d(conv) => conv.for_each_weight(|from, to, row, filter| {
                work(from, to, conv.weight[[row, filter]]);
            }),
            Self::BatchNorm(norm) => {
                let (scale, _) = norm.affine();
                (0..x.len()).for_each(|place| work(place, place, scale[place % scale.len()]));
            }
            Self::Pooling(pooling) => {
                let mut local = vec![T::zero(); x.len()];
                vectorized!(pooling.backward(x, y, &vec![T::one(); y.len()], &mut local));
                pooling.for_each_pair(|from, to| work(from, to, local[from]));
            }
            Self::Dropout(_) | Self::Flatten => {
                (0..x.len()).for_each(|place| work(place, place, T::one()));
            }
            Self::Activation(activation) => {
                let mut local = vec![T::zero(); x.len()];
                vectorized!(activation.backward(x, y, &vec![T::one(); y.len()], &mut local));
                local.into_iter().enumerate().for_each(|(place, local)| work(place, place, local));
            }
        }
    }

    /// Calls `work(i, j)` for each pair of an input and an output that a parameter of this layer connects: the weight
    /// at `row` and `column`, or the bias of `column` if there is no row. The input of a bias is 1 and has no index. A
    /// weight that is multiplied only with padding connects none.
    pub fn for_each_use(
        &self,
        row: Option<usize>,
        column: usize,
        outputs: usize,
        mut work: impl FnMut(Option<usize>, usize),
    ) {
        let channels = self.parameters().map_or(1, |(_, bias)| bias.len());
        match (self, row) {
            (Self::Conv2d(conv), Some(row)) => {
                conv.for_each_window(row, |from, place| work(Some(from), place * channels + column));
            }
            (Self::Dense(_), Some(row)) => work(Some(row), column),
            // γ and every bias are used at each pixel.
            (Self::BatchNorm(_), Some(_)) => {
                (column..outputs).step_by(channels).for_each(|place| work(Some(place), place));
            }
            _ => (column..outputs).step_by(channels).for_each(|place| work(None, place)),
        }
    }
}

impl Pooling {
    /// Calls `work` with each input and the output of its square.
    fn for_each_pair(&self, mut work: impl FnMut(usize, usize)) {
        let channels = self.window.input.channels;
        for (square, start) in self.window.places().enumerate() {
            for tap in self.window.taps() {
                (0..channels).for_each(|channel| work(start + tap + channel, square * channels + channel));
            }
        }
    }
}

impl<T: Float> super::Conv2d<T> {
    /// Calls `work(input, output)` for each output pixel whose window multiplies the weights of `row` with a pixel of
    /// the image.
    fn for_each_window(&self, row: usize, mut work: impl FnMut(usize, usize)) {
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
    fn for_each_weight(&self, mut work: impl FnMut(usize, usize, usize, usize)) {
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
