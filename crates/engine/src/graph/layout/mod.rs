mod levels;
mod order;
mod place;

use super::node::Node;

/// Items of a drawing up to which long edges have lanes of their own; above, they run straight.
const ITEMS_MAX: usize = 20_000;

/// A drawing from left to right in columns (after Sugiyama, Tagawa, Toda, *Methods for visual
/// understanding of hierarchical system structures*, 1981).
///
/// Columns of nodes and columns of edge labels take turns, so that every label has a place of its own.
/// Where an edge crosses a column it has a lane there; all edges from one node share a lane.
pub(super) struct Layout {
    pub(super) items: Vec<Item>,
    pub(super) links: Vec<Link>,
    pub(super) columns: Vec<Column>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Something in a column.
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) column: usize,
    pub(super) size: Size,
    /// Middle of the item, as that of its column.
    pub(super) y: f64,
}

/// Where an edge leads: to a node and an operand's place there, or out of the drawing.
pub(super) type Target = Option<(usize, usize)>;

/// What stands in a column.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The node of this id.
    Node(usize),
    /// The label of an edge from a node.
    Edge { from: usize, to: Target },
    /// Where edges from this node pass.
    Lane(usize),
    /// Where the output goes.
    End,
}

/// Room that an item needs.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A piece of an edge, from one item to one further right.
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Where it enters, below the middle.
    pub(super) port: f64,
}

/// Where a column stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Column {
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Layout {
    /// The drawing of `nodes`, of which `output` leads out. An operand enters its node as far below the
    /// middle as `port` says of the node and the operand's place.
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
        let mut edges: Vec<Vec<(usize, Target)>> = vec![Vec::new(); nodes.len()];
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

    /// Middle of the item at this place.
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

    /// The edges out of a node: a lane to the farthest, and from it to each a label before its node.
    fn edges(
        &mut self,
        from: usize,
        edges: &[(usize, Target)],
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
