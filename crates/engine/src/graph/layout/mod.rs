mod levels;
mod order;
mod place;

use super::node::Node;

/// Largest number of lane items. In a larger drawing, long edges run straight.
const ITEMS_MAX: usize = 20_000;

/// A layered drawing from left to right (after Sugiyama, Tagawa, Toda, *Methods for visual understanding of
/// hierarchical system structures*, 1981).
///
/// Columns of nodes alternate with columns of edge labels, so that labels don't overlap nodes. An edge that
/// crosses a column has a lane there. All edges from one node share a lane.
pub(super) struct Layout {
    pub(super) items: Vec<Item>,
    pub(super) links: Vec<Link>,
    pub(super) columns: Vec<Column>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Something that takes up space in a column.
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) column: usize,
    pub(super) size: Size,
    /// Vertical middle of the item. Horizontally, an item is centred in its column.
    pub(super) y: f64,
}

/// The end of an edge: a node and the index of the operand there. `None` for the edge that leaves the
/// drawing.
pub(super) type EdgeTarget = Option<(usize, usize)>;

/// What an item shows.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The node with this id.
    Node(usize),
    /// The label of an edge from the node `from`.
    Edge { from: usize, to: EdgeTarget },
    /// The place where edges from this node cross a column.
    Lane(usize),
    /// The name of the output.
    End,
}

#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A part of an edge, from one item to another to its right.
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Offset below the middle of `to` at which it enters.
    pub(super) port: f64,
}

/// Horizontal extent of a column.
#[derive(Clone, Copy, Default)]
pub(super) struct Column {
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Layout {
    /// Lays out `nodes`. `output` gets an edge that leaves the drawing. `port` gives the offset below the
    /// middle of a node at which an operand enters, by node and operand index.
    pub(super) fn new(
        nodes: &[Node],
        output: usize,
        size: impl Fn(Kind) -> Size,
        port: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let levels = levels::levels(nodes);
        let mut draft = Draft { items: Vec::new(), links: Vec::new(), size: &size };
        for node in nodes {
            draft.push(Kind::Node(node.id), 2 * levels[node.id]);
        }
        let mut edges: Vec<Vec<(usize, EdgeTarget)>> = vec![Vec::new(); nodes.len()];
        edges[output].push((levels[output] + 1, None));
        for node in nodes {
            for (place, &input) in node.inputs.iter().enumerate() {
                edges[input].push((levels[node.id], Some((node.id, place))));
            }
        }
        let spans = edges
            .iter()
            .enumerate()
            .filter_map(|(from, edges)| edges.iter().map(|(level, _)| 2 * (level - levels[from])).max());
        let has_lanes = spans.sum::<usize>() <= ITEMS_MAX;
        for (from, edges) in edges.iter().enumerate() {
            draft.edges(from, edges, has_lanes, &port);
        }
        let Draft { mut items, links, .. } = draft;
        let ordered = order::order(&items, &links);
        place::rows(&mut items, &links, &ordered);
        let columns = place::columns(&items, &links);
        let width = columns.last().map_or(0.0, |column| column.right);
        let height = items.iter().map(|item| item.y + item.size.height / 2.0).fold(0.0, f64::max);
        Self { items, links, columns, width, height }
    }

    /// Horizontal middle of an item.
    pub(super) fn x(&self, item: usize) -> f64 {
        let column = self.columns[self.items[item].column];
        (column.left + column.right) / 2.0
    }
}

struct Draft<'a> {
    items: Vec<Item>,
    links: Vec<Link>,
    size: &'a dyn Fn(Kind) -> Size,
}

impl Draft<'_> {
    fn push(&mut self, kind: Kind, column: usize) -> usize {
        self.items.push(Item { kind, column, size: (self.size)(kind), y: 0.0 });
        self.items.len() - 1
    }

    fn link(&mut self, from: usize, to: usize, port: f64) {
        self.links.push(Link { from, to, port });
    }

    /// Adds the edges out of a node: one lane as far as the farthest edge, and a label in front of each
    /// target node.
    fn edges(
        &mut self,
        from: usize,
        edges: &[(usize, EdgeTarget)],
        has_lanes: bool,
        port: &impl Fn(usize, usize) -> f64,
    ) {
        let column = self.items[from].column;
        let labels = edges.iter().map(|(level, _)| 2 * level - 1);
        let farthest = labels.max().unwrap_or(column);
        let mut lane = vec![from];
        if has_lanes {
            for column in column + 1..farthest {
                let next = self.push(Kind::Lane(from), column);
                self.link(lane[lane.len() - 1], next, 0.0);
                lane.push(next);
            }
        }
        for &(level, to) in edges {
            let label = self.push(Kind::Edge { from, to }, 2 * level - 1);
            let before = (2 * level - 2 - column).min(lane.len() - 1);
            self.link(lane[before], label, 0.0);
            match to {
                Some((node, place)) => self.link(label, node, port(node, place)),
                None => {
                    let end = self.push(Kind::End, 2 * level);
                    self.link(label, end, 0.0);
                }
            }
        }
    }
}
