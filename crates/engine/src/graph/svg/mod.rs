mod labels;

use super::Graph;
use super::layout::{Item, Kind, Layout, Link};
use super::node::Op;
use labels::Labels;

/// Margin around the drawing, in px.
const MARGIN: f64 = 20.0;

/// Height of the legend, in px.
const LEGEND: f64 = 30.0;

/// Half the height of a node and its corner radius, in px.
const RADIUS: f64 = 19.0;

/// A light colour scheme, and a dark one for readers who prefer it. It has no custom properties, since many
/// SVG renderers don't support them.
const STYLE: &str = "\
.chainrule-graph{font:13px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums}\
.chainrule-graph .paper{fill:#ffffff}\
.chainrule-graph text{fill:#1f2328;text-anchor:middle}\
.chainrule-graph .name{font-style:italic;font-weight:600}\
.chainrule-graph .gradient{fill:#b93a0a}\
.chainrule-graph .legend{font-size:12px;text-anchor:start}\
.chainrule-graph .link{fill:none;stroke:#8c959f;stroke-width:1.5}\
.chainrule-graph .back{fill:none;stroke:#b93a0a;stroke-width:1.2}\
.chainrule-graph .dot,.chainrule-graph .head{fill:#8c959f}\
.chainrule-graph .back-head{fill:#b93a0a}\
.chainrule-graph .node{fill:#ffffff;stroke:#1f2328;stroke-width:1.5}\
.chainrule-graph .input{fill:#e7f0fd;stroke:#3a6ea5}\
.chainrule-graph .op{font-size:15px}\
.chainrule-graph .unused{opacity:.45}\
@media (prefers-color-scheme:dark){\
.chainrule-graph .paper{fill:#14181d}\
.chainrule-graph text{fill:#e6e9ed}\
.chainrule-graph .gradient{fill:#ff9a62}\
.chainrule-graph .link{stroke:#75808b}\
.chainrule-graph .back{stroke:#ff9a62}\
.chainrule-graph .dot,.chainrule-graph .head{fill:#75808b}\
.chainrule-graph .back-head{fill:#ff9a62}\
.chainrule-graph .node{fill:#1d232a;stroke:#e6e9ed}\
.chainrule-graph .input{fill:#1c2d44;stroke:#6ea3dd}}";

/// The drawing of a graph. The value, which flows right, is above each edge. The gradient, which flows back, is below
/// it.
pub(super) fn svg(graph: &Graph) -> String {
    let labels = Labels::new(graph);
    let port = |node: usize, place: usize| labels.port(node, place);
    let layout = Layout::new(&graph.nodes, graph.output, |kind| labels.size(kind), port);
    let mut drawing = Drawing { layout, labels, body: String::new() };
    drawing.links();
    for place in 0..drawing.layout.items.len() {
        drawing.item(place);
    }
    drawing.finished()
}

struct Drawing<'a> {
    layout: Layout,
    labels: Labels<'a>,
    body: String,
}

impl Drawing<'_> {
    fn links(&mut self) {
        for place in 0..self.layout.links.len() {
            let Link { from, to, port } = self.layout.links[place];
            let (start, end) = (&self.layout.items[from], &self.layout.items[to]);
            let column = |item: &Item| self.layout.columns[item.column];
            let (right, left) = (column(start).right, column(end).left);
            let (y, end_y) = (start.y, end.y + port);
            let start_x = self.layout.x(from) + self.labels.half_width(start.kind, 0.0);
            let end_x = self.layout.x(to) - self.labels.half_width(end.kind, port);
            let middle = (right + left) / 2.0;
            let unused = if self.labels.is_unused(start.kind) || self.labels.is_unused(end.kind) {
                " unused"
            } else {
                ""
            };
            self.body += &format!(
                "<path class=\"link{unused}\" d=\"M{start_x:.1} {y:.1}H{right:.1}C{middle:.1} {y:.1} {middle:.1} {end_y:.1} \
                 {left:.1} {end_y:.1}H{end_x:.1}\"/>\n"
            );
            if matches!(end.kind, Kind::Node(_) | Kind::End) {
                self.body +=
                    &format!("<path class=\"head{unused}\" d=\"M{end_x:.1} {end_y:.1}l-8 -4v8z\"/>\n");
            }
        }
    }

    fn item(&mut self, place: usize) {
        let item = &self.layout.items[place];
        let (x, y) = (self.layout.x(place), item.y);
        match item.kind {
            Kind::Node(id) => self.node(id, x, y),
            Kind::Edge { .. } => self.edge(item.kind, x, y, item.column),
            Kind::End => {
                let name = self.labels.output();
                self.text("name", x, y + 4.5, &name);
            }
            Kind::Lane(_) => {}
        }
    }

    fn node(&mut self, id: usize, x: f64, y: f64) {
        let unused = if self.labels.is_unused(Kind::Node(id)) { " class=\"unused\"" } else { "" };
        self.body += &format!("<g{unused}><title>{}</title>\n", escaped(&self.labels.title(id)));
        let symbol = self.labels.symbol(id);
        let [half_width, half_height] = self.labels.half_body(id);
        let (left, top, width, height) =
            (x - half_width, y - half_height, 2.0 * half_width, 2.0 * half_height);
        let op = self.labels.op(id);
        let (class, corner) = match op {
            Op::Input => ("node input", 5.0),
            Op::Constant => ("dot", half_height),
            _ => ("node", RADIUS),
        };
        self.body += &format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             rx=\"{corner}\"/>\n"
        );
        self.text(if op == Op::Input { "name" } else { "op" }, x, y + 5.0, &symbol);
        if let Some(name) = self.labels.name_above(id) {
            self.text("name", x, top - 6.0, &name);
        }
        if let Some(gradient) = self.labels.gradient_below(id) {
            self.text("gradient", x, top + height + 15.0, &gradient);
        }
        self.body += "</g>\n";
    }

    /// The labels of an edge and the arrow of its gradient.
    fn edge(&mut self, kind: Kind, x: f64, y: f64, column: usize) {
        let unused = if self.labels.is_unused(kind) { " class=\"unused\"" } else { "" };
        self.body += &format!("<g{unused}>");
        let (value, gradient) = self.labels.edge(kind);
        self.text("value", x, y - 5.0, &value);
        if let Some(gradient) = gradient {
            let column = self.layout.columns[column];
            let half = (column.right - column.left).min(self.labels.size(kind).width) / 2.0;
            let (left, right, y) = (x - half, x + half, y + 5.0);
            self.body += &format!(
                "<path class=\"back\" d=\"M{right:.1} {y:.1}H{left:.1}\"/>\
                 <path class=\"back-head\" d=\"M{left:.1} {y:.1}l7 -3.5v7z\"/>\n"
            );
            self.text("gradient", x, y + 15.0, &gradient);
        }
        self.body += "</g>\n";
    }

    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.body += &format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escaped(text));
    }

    fn finished(self) -> String {
        let legend = self.labels.legend();
        let width = self.layout.width.max(labels::width(&legend.concat()) + 40.0) + 2.0 * MARGIN;
        let height = self.layout.height + LEGEND + 2.0 * MARGIN;
        let below = self.layout.height + LEGEND;
        let [values, gradients] = legend;
        let second = labels::width(values) + 24.0;
        let title = escaped(&self.labels.drawing_title());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chainrule-graph\" role=\"img\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"{x:.0} {x:.0} {width:.0} {height:.0}\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" x=\"{x:.0}\" y=\"{x:.0}\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n\
             {}<text class=\"legend\" x=\"0\" y=\"{below:.1}\">{}</text>\n\
             <text class=\"legend gradient\" x=\"{second:.1}\" y=\"{below:.1}\">{}</text>\n</svg>\n",
            self.body,
            escaped(values),
            escaped(gradients),
            x = -MARGIN,
        )
    }
}

/// Escapes `text` for the content of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
