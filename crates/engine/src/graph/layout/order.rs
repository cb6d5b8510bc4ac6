use super::{Item, Link};

/// Number of sweeps to the right and back.
const PASSES: usize = 12;

/// Largest number of items for which neighbours are swapped.
const SWAPPED_MAX: usize = 2_000;

/// Orders the items of each column from top to bottom so that few edges cross. Sweeps sort each column by the
/// mean position of its neighbours in the previous column, then in the next one. The order with the fewest
/// crossings is kept.
pub(super) fn order(items: &[Item], links: &[Link]) -> Vec<Vec<usize>> {
    let mut columns = initial_order(items, links);
    let passes = if items.len() > 4_000 { 2 } else { PASSES };
    let neighbours = Neighbours::new(items.len(), links);
    let mut best = columns.clone();
    let mut fewest = crossings(&columns, items, links);
    let mut position = positions(&columns, items.len());
    for pass in 0..2 * passes {
        let is_forward = pass % 2 == 0;
        let sides = if is_forward { &neighbours.left } else { &neighbours.right };
        for step in 0..columns.len() {
            let place = if is_forward { step } else { columns.len() - 1 - step };
            let column = &mut columns[place];
            column.sort_by(|&a, &b| mean(a, &sides[a], &position).total_cmp(&mean(b, &sides[b], &position)));
            for (row, &item) in column.iter().enumerate() {
                position[item] = row as f64;
            }
        }
        if items.len() <= SWAPPED_MAX {
            swap(&mut columns, &mut position, &neighbours);
        }
        let count = crossings(&columns, items, links);
        if count < fewest {
            fewest = count;
            best.clone_from(&columns);
        }
    }
    best
}

/// For each item, the items linked to it on each side, with the offset that the port adds to the row.
struct Neighbours {
    left: Vec<Vec<(usize, f64)>>,
    right: Vec<Vec<(usize, f64)>>,
}

impl Neighbours {
    fn new(items: usize, links: &[Link]) -> Self {
        let (mut left, mut right) = (vec![Vec::new(); items], vec![Vec::new(); items]);
        for link in links {
            left[link.to].push((link.from, 0.0));
            right[link.from].push((link.to, rows(link.port)));
        }
        Self { left, right }
    }
}

/// A port as a fraction of a row, small enough to only break ties.
fn rows(port: f64) -> f64 {
    port / 1000.0
}

fn mean(item: usize, neighbours: &[(usize, f64)], position: &[f64]) -> f64 {
    if neighbours.is_empty() {
        return position[item];
    }
    neighbours.iter().map(|&(other, port)| position[other] + port).sum::<f64>() / neighbours.len() as f64
}

/// Swaps adjacent items while that reduces the number of crossings.
fn swap(columns: &mut [Vec<usize>], position: &mut [f64], neighbours: &Neighbours) {
    for _ in 0..PASSES {
        let mut has_swapped = false;
        for column in columns.iter_mut() {
            for row in 1..column.len() {
                let (above, below) = (column[row - 1], column[row]);
                let crossings = |a: usize, b: usize| {
                    let sides = [&neighbours.left, &neighbours.right];
                    sides.map(|side| crossings_of(&side[a], &side[b], position)).iter().sum::<usize>()
                };
                if crossings(below, above) < crossings(above, below) {
                    column.swap(row - 1, row);
                    position.swap(above, below);
                    has_swapped = true;
                }
            }
        }
        if !has_swapped {
            return;
        }
    }
}

/// The number of crossings between links of an item and links of the one below it, on one side.
fn crossings_of(above: &[(usize, f64)], below: &[(usize, f64)], position: &[f64]) -> usize {
    let row = |&(item, port): &(usize, f64)| position[item] + port;
    above.iter().map(|a| below.iter().filter(|b| row(a) > row(b)).count()).sum()
}

/// The initial order: depth first from the last items backward, the first operand first.
fn initial_order(items: &[Item], links: &[Link]) -> Vec<Vec<usize>> {
    let mut left = vec![Vec::new(); items.len()];
    let mut has_right = vec![false; items.len()];
    for link in links {
        left[link.to].push((link.port, link.from));
        has_right[link.from] = true;
    }
    left.iter_mut().for_each(|left| left.sort_by(|a, b| b.0.total_cmp(&a.0)));
    let columns = items.iter().map(|item| item.column + 1).max().unwrap_or(0);
    let mut columns = vec![Vec::new(); columns];
    let mut is_reached = vec![false; items.len()];
    let ends = (0..items.len()).filter(|&item| !has_right[item]);
    let mut open: Vec<usize> = ends.collect();
    while let Some(item) = open.pop() {
        if std::mem::replace(&mut is_reached[item], true) {
            continue;
        }
        columns[items[item].column].push(item);
        open.extend(left[item].iter().map(|&(_, from)| from));
    }
    columns
}

fn positions(columns: &[Vec<usize>], items: usize) -> Vec<f64> {
    let mut positions = vec![0.0; items];
    for column in columns {
        column.iter().enumerate().for_each(|(row, &item)| positions[item] = row as f64);
    }
    positions
}

/// The number of crossings between adjacent columns.
fn crossings(columns: &[Vec<usize>], items: &[Item], links: &[Link]) -> usize {
    let position = positions(columns, items.len());
    let mut gaps = vec![Vec::new(); columns.len()];
    for link in links {
        gaps[items[link.to].column].push((position[link.from], position[link.to] + rows(link.port)));
    }
    gaps.iter_mut().map(|gap| inversions(gap)).sum()
}

/// The number of pairs of links that cross, because one starts above the other and ends below it.
fn inversions(gap: &mut [(f64, f64)]) -> usize {
    gap.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut ends: Vec<f64> = Vec::with_capacity(gap.len());
    let mut count = 0;
    for &(_, end) in gap.iter() {
        let place = ends.partition_point(|&other| other <= end);
        count += ends.len() - place;
        ends.insert(place, end);
    }
    count
}
