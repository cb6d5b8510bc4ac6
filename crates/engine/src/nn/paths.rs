use super::rows::image;
use super::{Float, Network, Tape};

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
