use super::{Column, Item, Kind, Link};

/// Distance between the items of a column, in px.
const ROW_GAP: f64 = 8.0;

/// Smallest and largest distance between columns, in px.
const COLUMN_GAP: [f64; 2] = [16.0, 90.0];

/// Number of sweeps to the right and back.
const PASSES: usize = 16;

/// Weight that pulls a lane towards its mean height, where each neighbour has weight 1.
const STRAIGHTNESS: f64 = 8.0;

/// Sets the height of each item, as close to its neighbours as the other items of its column allow.
pub(super) fn rows(items: &mut [Item], links: &[Link], columns: &[Vec<usize>]) {
    let mut left = vec![Vec::new(); items.len()];
    let mut right = vec![Vec::new(); items.len()];
    for link in links {
        left[link.to].push((link.from, -link.port, 1.0));
        right[link.from].push((link.to, link.port, 1.0));
    }
    let none = vec![Vec::new(); items.len()];
    columns.iter().for_each(|column| settle(items, column, &none, &none, &[]));
    for pass in 0..PASSES {
        let is_last = pass >= PASSES / 2;
        let means = lane_means(items);
        for column in columns {
            settle(items, column, &left, if is_last { &right } else { &none }, &means);
        }
        let means = lane_means(items);
        for column in columns.iter().rev() {
            settle(items, column, if is_last { &left } else { &none }, &right, &means);
        }
    }
    let top = items.iter().map(|item| item.y - item.size.height / 2.0).fold(f64::INFINITY, f64::min);
    items.iter_mut().for_each(|item| item.y -= top);
}

/// The mean height of the lane of each node.
fn lane_means(items: &[Item]) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); items.len()];
    for item in items {
        if let Kind::Lane(from) = item.kind {
            sums[from].0 += item.y;
            sums[from].1 += 1.0;
        }
    }
    sums.into_iter().map(|(sum, count): (f64, f64)| sum / count.max(1.0)).collect()
}

/// A neighbour, the item's preferred offset below it, and the weight of that preference.
type Pull = (usize, f64, f64);

/// A run of items that touch each other and move together.
struct Block {
    /// Height of the first item at the weighted mean of all preferences.
    y: f64,
    weight: f64,
    items: usize,
}

/// Places the items of a column in their order so that the weighted sum of squared distances from their
/// preferred heights is smallest (pool adjacent violators).
fn settle(items: &mut [Item], column: &[usize], left: &[Vec<Pull>], right: &[Vec<Pull>], lanes: &[f64]) {
    let mut blocks: Vec<Block> = Vec::new();
    let mut offsets = Vec::with_capacity(column.len());
    let mut offset = 0.0;
    for (row, &item) in column.iter().enumerate() {
        if row > 0 {
            offset += (items[column[row - 1]].size.height + items[item].size.height) / 2.0 + ROW_GAP;
        }
        offsets.push(offset);
        let (preferred, weight) = preference(items, item, left[item].iter().chain(&right[item]), lanes);
        blocks.push(Block { y: preferred - offset, weight, items: 1 });
        while let [.., above, below] = &mut blocks[..]
            && above.y > below.y
        {
            let weight = above.weight + below.weight;
            above.y = (above.y * above.weight + below.y * below.weight) / weight;
            above.weight = weight;
            above.items += below.items;
            blocks.pop();
        }
    }
    let heights = blocks.iter().flat_map(|block| std::iter::repeat_n(block.y, block.items));
    for ((&item, y), offset) in column.iter().zip(heights).zip(offsets) {
        items[item].y = y + offset;
    }
}

/// The preferred height of an item and its weight.
fn preference<'a>(
    items: &[Item],
    item: usize,
    pulls: impl Iterator<Item = &'a Pull>,
    lanes: &[f64],
) -> (f64, f64) {
    let (mut sum, mut weight) = (0.0, 0.0);
    if let Kind::Lane(from) = items[item].kind
        && let Some(lane) = lanes.get(from)
    {
        (sum, weight) = (STRAIGHTNESS * lane, STRAIGHTNESS);
    }
    for &(other, below, pull) in pulls {
        sum += pull * (items[other].y + below);
        weight += pull;
    }
    if weight > 0.0 { (sum / weight, weight) } else { (items[item].y, 0.1) }
}

/// The extent of each column. A column is as wide as its widest item, and farther from the previous one if
/// the links between them are steep.
pub(super) fn columns(items: &[Item], links: &[Link]) -> Vec<Column> {
    let count = items.iter().map(|item| item.column + 1).max().unwrap_or(0);
    let (mut widths, mut rises) = (vec![0.0f64; count], vec![0.0f64; count]);
    for item in items {
        widths[item.column] = widths[item.column].max(item.size.width);
    }
    for link in links {
        let (from, to) = (&items[link.from], &items[link.to]);
        rises[to.column] = rises[to.column].max((to.y + link.port - from.y).abs());
    }
    let [least, most] = COLUMN_GAP;
    let mut columns: Vec<Column> = Vec::with_capacity(count);
    for (width, rise) in widths.into_iter().zip(rises) {
        let left = columns.last().map_or(0.0, |column| column.right + (rise * 0.25).clamp(least, most));
        columns.push(Column { left, right: left + width });
    }
    columns
}
