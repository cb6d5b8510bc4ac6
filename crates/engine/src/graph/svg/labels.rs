use super::super::layout::{Kind, Size};
use super::super::names::names;
use super::super::node::{Node, Op};
use super::super::number::short;
use super::super::{Graph, reaching};
use super::RADIUS;

/// Longest name in the drawing, in characters. Longer ones are cut.
const NAME_MAX: usize = 14;

/// Distance between the ports of a node, in px.
const PORT_GAP: f64 = 14.0;

/// The texts of a drawing and their sizes.
pub(super) struct Labels<'a> {
    graph: &'a Graph,
    names: Vec<String>,
    reaches: Vec<bool>,
    /// How often each node is used as an operand.
    uses: Vec<usize>,
}

impl<'a> Labels<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let mut uses = vec![0; graph.nodes.len()];
        graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| uses[input] += 1);
        Self { graph, names: names(graph), reaches: reaching(&graph.nodes, graph.output), uses }
    }

    pub(super) fn op(&self, id: usize) -> Op {
        self.node(id).op
    }

    fn node(&self, id: usize) -> &Node {
        &self.graph.nodes[id]
    }

    fn name(&self, id: usize) -> String {
        let name = &self.names[id];
        if name.chars().count() <= NAME_MAX {
            return name.clone();
        }
        name.chars().take(NAME_MAX - 1).chain(['…']).collect()
    }

    pub(super) fn output(&self) -> String {
        self.name(self.graph.output)
    }

    /// The text inside a node.
    pub(super) fn symbol(&self, id: usize) -> String {
        match self.op(id) {
            Op::Input => self.name(id),
            Op::Constant => String::new(),
            Op::Identity => "=".to_owned(),
            Op::Add => "+".to_owned(),
            Op::Subtract | Op::Negate => "−".to_owned(),
            Op::Multiply => "×".to_owned(),
            Op::Divide => "÷".to_owned(),
            Op::Power => "^".to_owned(),
            op => op.name().to_owned(),
        }
    }

    pub(super) fn name_above(&self, id: usize) -> Option<String> {
        (self.op(id) != Op::Input && self.node(id).name.is_some()).then(|| self.name(id))
    }

    /// The gradient of a node, if no single edge shows it.
    pub(super) fn gradient_below(&self, id: usize) -> Option<String> {
        let gradient = self.node(id).gradient?;
        let is_shown = self.op(id) == Op::Input || self.uses[id] > 1 && self.node(id).name.is_some();
        is_shown.then(|| format!("∂{}/∂{} = {}", self.output(), self.name(id), short(gradient)))
    }

    /// The value that flows along an edge and the gradient that flows back.
    pub(super) fn edge(&self, kind: Kind) -> (String, Option<String>) {
        let Kind::Edge { from, to } = kind else { return (String::new(), None) };
        let gradient = match to {
            None => Some(1.0),
            Some((node, place)) => self.node(node).flow(place),
        };
        (short(self.node(from).value), gradient.map(short))
    }

    pub(super) fn is_unused(&self, kind: Kind) -> bool {
        match kind {
            Kind::Node(id) | Kind::Edge { to: Some((id, _)), .. } => !self.reaches[id],
            _ => false,
        }
    }

    pub(super) fn size(&self, kind: Kind) -> Size {
        match kind {
            Kind::Node(id) => {
                let [half_width, half_height] = self.half_body(id);
                let (above, below) = (self.name_above(id), self.gradient_below(id));
                let texts = [&above, &below].into_iter().flatten().map(|text| width(text));
                let text_height = if below.is_some() {
                    20.0
                } else if above.is_some() {
                    18.0
                } else {
                    0.0
                };
                Size {
                    width: texts.fold(2.0 * half_width, f64::max),
                    height: 2.0 * (half_height + text_height),
                }
            }
            Kind::Edge { .. } => {
                let (value, gradient) = self.edge(kind);
                let gradient = gradient.unwrap_or_default();
                Size { width: width(&value).max(width(&gradient)).max(22.0) + 6.0, height: 36.0 }
            }
            Kind::Lane(_) => Size { width: 0.0, height: 6.0 },
            Kind::End => Size { width: width(&self.output()) + 12.0, height: 20.0 },
        }
    }

    /// Half the width and height of the circle or box of a node, in px.
    pub(super) fn half_body(&self, id: usize) -> [f64; 2] {
        let text = width(&self.symbol(id)) / 2.0;
        match self.op(id) {
            Op::Input => [text.max(6.0) + 10.0, 14.0],
            Op::Constant => [3.0, 3.0],
            _ => {
                let ports = (self.node(id).inputs.len() as f64 - 2.0).max(0.0);
                [RADIUS.max(text + 10.0), RADIUS + ports * PORT_GAP / 2.0]
            }
        }
    }

    /// Offset of an operand's port below the middle of a node, in px.
    pub(super) fn port(&self, node: usize, place: usize) -> f64 {
        (place as f64 - (self.node(node).inputs.len() as f64 - 1.0) / 2.0) * PORT_GAP
    }

    /// Distance from the middle of an item to its outline, at the offset `port` below the middle.
    pub(super) fn half_width(&self, kind: Kind, port: f64) -> f64 {
        match kind {
            Kind::Node(id) => {
                let [half_width, half_height] = self.half_body(id);
                let above_corner = (port.abs() - (half_height - RADIUS).max(0.0)).max(0.0);
                half_width - RADIUS + (RADIUS * RADIUS - above_corner * above_corner).max(0.0).sqrt()
            }
            Kind::End => width(&self.output()) / 2.0 + 4.0,
            Kind::Edge { .. } | Kind::Lane(_) => 0.0,
        }
    }

    pub(super) fn title(&self, id: usize) -> String {
        let node = self.node(id);
        let gradient = node.gradient.map_or("none".to_owned(), short);
        format!("{}: {}, value {}, gradient {gradient}", self.names[id], node.op.name(), short(node.value))
    }

    pub(super) fn drawing_title(&self) -> String {
        let by =
            |(name, gradient): (&String, &f64)| format!("∂{}/∂{name} = {}", self.output(), short(*gradient));
        let gradients: Vec<String> = self.graph.gradients.iter().map(by).collect();
        let output = format!("computation graph of {} = {}", self.output(), short(self.graph.value));
        if gradients.is_empty() { output } else { format!("{output}, {}", gradients.join(", ")) }
    }

    /// The legend for the text above an edge and for the text below it.
    pub(super) fn legend(&self) -> [&'static str; 2] {
        ["→ value", "← gradient: upstream · local derivative"]
    }
}

/// Width of `text` at 13 px, slightly overestimated.
pub(super) fn width(text: &str) -> f64 {
    let advance = |character: char| match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ' ' | '(' | ')' => 4.6,
        'm' | 'w' | 'M' | 'W' => 12.0,
        '\u{1100}'.. => 13.5,
        _ => 8.2,
    };
    text.chars().map(advance).sum()
}
