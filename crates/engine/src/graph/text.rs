use super::formula::{self, Formula};
use super::names::names;
use super::node::{Node, Op};
use super::number::short;
use super::{Graph, made_from, reaching};

/// The worked chain rule as plain text: the formula, the values from first to last, the local derivatives,
/// the gradients from last to first, and the central differences.
pub(super) fn text(graph: &Graph) -> String {
    let board = Board::new(graph);
    let mut text = format!("{}\n", board.header());
    let sections = [
        ("forward", board.forward()),
        ("local derivatives", board.local_derivatives()),
        ("backward", board.backward()),
    ];
    for (title, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("\n{title}\n");
        lines.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    let notes: Vec<String> = graph.warnings.iter().map(|warning| format!("note: {warning}")).collect();
    let last: Vec<String> = notes.into_iter().chain(board.comparison()).collect();
    if last.is_empty() { text } else { text + "\n" + &last.join("\n") + "\n" }
}

struct Board<'a> {
    graph: &'a Graph,
    names: Vec<String>,
    /// For each node, whether the output depends on it.
    reaches: Vec<bool>,
    /// For each node, whether it depends on an input.
    varies: Vec<bool>,
    /// For each node, the nodes that use it and that the output depends on, each listed once.
    users: Vec<Vec<usize>>,
}

impl<'a> Board<'a> {
    fn new(graph: &'a Graph) -> Self {
        let nodes = &graph.nodes;
        let reaches = reaching(nodes, graph.output);
        let mut users = vec![Vec::new(); nodes.len()];
        for node in nodes.iter().filter(|node| reaches[node.id]) {
            node.inputs.iter().for_each(|&input| users[input].push(node.id));
        }
        users.iter_mut().for_each(Vec::dedup);
        let varies = made_from(nodes, |node| node.op == Op::Input);
        Self { graph, names: names(graph), reaches, varies, users }
    }

    fn output(&self) -> &Node {
        &self.graph.nodes[self.graph.output]
    }

    /// Every named node as a formula of other named nodes, the output last.
    fn header(&self) -> String {
        let mut formulas: Vec<Formula> = Vec::new();
        let mut header = Vec::new();
        for node in &self.graph.nodes {
            let operands: Vec<Formula> = node.inputs.iter().map(|&input| formulas[input].clone()).collect();
            let is_shown = node.op != Op::Input && self.reaches[node.id];
            let name = &self.names[node.id];
            let whole = match node.op {
                Op::Input => Formula::name(name),
                Op::Constant => Formula::constant(node.value),
                op => formula::value(op, &operands),
            };
            if is_shown && (node.name.is_some() || node.id == self.graph.output) {
                header.push((node.id == self.graph.output, format!("{name} = {}", whole.text)));
            }
            // An unnamed node is used once, so its text is no longer needed.
            node.inputs.iter().filter(|&&input| self.graph.nodes[input].name.is_none()).for_each(|&input| {
                formulas[input] = Formula::constant(0.0);
            });
            formulas.push(if node.name.is_some() { Formula::name(name) } else { whole });
        }
        if header.is_empty() {
            return self.names[self.graph.output].clone();
        }
        header.sort_by_key(|&(is_output, _)| is_output);
        header.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join(", ")
    }

    fn forward(&self) -> Vec<String> {
        let made = self.graph.nodes.iter().filter(|node| !node.inputs.is_empty());
        let line = |node: &Node| {
            let (named, numbered) = (self.named(node), self.numbered(node));
            let sides = [
                self.names[node.id].clone(),
                formula::value(node.op, &named).text,
                formula::value(node.op, &numbered).text,
                short(node.value),
            ];
            equation(sides)
        };
        made.filter(|node| self.reaches[node.id]).map(line).collect()
    }

    /// The local derivatives that the backward lines don't show. Derivatives that are simply 1 or −1 are left out.
    fn local_derivatives(&self) -> Vec<String> {
        let inner = |node: &&Node| self.reaches[node.id] && node.id != self.graph.output;
        let mut lines = Vec::new();
        for node in self.graph.nodes.iter().filter(inner) {
            let mut operands = node.inputs.clone();
            operands.sort_unstable();
            operands.dedup();
            for operand in operands.into_iter().filter(|&operand| self.varies[operand]) {
                let (named, numbered, value) = self.local(node, operand);
                let is_plain = named.text == short(value);
                let line = equation([
                    self.by(&self.names[node.id], operand),
                    named.text,
                    numbered.text,
                    short(value),
                ]);
                if !is_plain {
                    lines.push(line);
                }
            }
        }
        lines
    }

    /// The gradients of the inner nodes, nearest to the output first, then the gradients of the inputs.
    fn backward(&self) -> Vec<String> {
        let nodes = &self.graph.nodes;
        let mut distances = vec![0; nodes.len()];
        for id in (0..nodes.len()).rev() {
            distances[id] = self.users[id].iter().map(|&user| distances[user] + 1).max().unwrap_or(0);
        }
        let is_shown = |node: &&Node| {
            node.op == Op::Input
                || self.reaches[node.id] && self.varies[node.id] && node.id != self.graph.output
        };
        let mut shown: Vec<&Node> = nodes.iter().filter(is_shown).collect();
        shown.sort_by_key(|node| {
            (node.op == Op::Input, if node.op == Op::Input { 0 } else { distances[node.id] })
        });
        shown.into_iter().map(|node| self.gradient(node.id)).collect()
    }

    /// `∂f/∂b = ∂f/∂x·∂x/∂b + ∂f/∂y·∂y/∂b = 7·1 + 2·1 = 9`
    fn gradient(&self, id: usize) -> String {
        let output = &self.names[self.graph.output];
        let term = |&user: &usize| {
            let node = &self.graph.nodes[user];
            let (named, numbered, local) = self.local(node, id);
            if user == self.graph.output {
                return (named, numbered);
            }
            let chain =
                [Formula::name(&self.by(output, user)), Formula::name(&self.by(&self.names[user], id))];
            let factors = [node.gradient.unwrap_or(0.0), local].map(Formula::number);
            (formula::value(Op::Multiply, &chain), formula::value(Op::Multiply, &factors))
        };
        let (named, numbered): (Vec<_>, Vec<_>) = self.users[id].iter().map(term).unzip();
        let gradient = short(self.graph.nodes[id].gradient.unwrap_or(0.0));
        let sides = [sum(named), sum(numbered), Some(gradient)];
        equation([self.by(output, id)].into_iter().chain(sides.into_iter().flatten()))
    }

    /// The derivative of `node` with respect to `operand`, summed over all positions of the operand. Returned with
    /// names, with numbers, and evaluated.
    fn local(&self, node: &Node, operand: usize) -> (Formula, Formula, f64) {
        let (named, numbered) = (self.named(node), self.numbered(node));
        let places = || (0..node.inputs.len()).filter(|&place| node.inputs[place] == operand);
        let formulas = |x: &[Formula], y: &Formula| {
            let slope = |place: usize| node.local[place].unwrap_or(0.0);
            let all = places().map(|place| formula::local(node.op, place, x, y, slope(place)));
            all.reduce(|a, b| formula::value(Op::Add, &[a, b])).unwrap_or(Formula::number(0.0))
        };
        (
            formulas(&named, &Formula::name(&self.names[node.id])),
            formulas(&numbered, &Formula::number(node.value)),
            places().filter_map(|place| node.local[place]).sum(),
        )
    }

    /// The operands of `node` as names.
    fn named(&self, node: &Node) -> Vec<Formula> {
        node.inputs
            .iter()
            .map(|&input| self.constant(input).unwrap_or(Formula::name(&self.names[input])))
            .collect()
    }

    /// The operands of `node` as numbers.
    fn numbered(&self, node: &Node) -> Vec<Formula> {
        let number = |input: usize| Formula::number(self.graph.nodes[input].value);
        node.inputs.iter().map(|&input| self.constant(input).unwrap_or(number(input))).collect()
    }

    /// The constant, if this node is an unnamed constant.
    fn constant(&self, id: usize) -> Option<Formula> {
        let node = &self.graph.nodes[id];
        (node.op == Op::Constant && node.name.is_none()).then(|| Formula::constant(node.value))
    }

    fn by(&self, of: &str, id: usize) -> String {
        format!("∂{of}/∂{}", self.names[id])
    }

    fn comparison(&self) -> Option<String> {
        let error = self.graph.max_relative_error?;
        let output = &self.names[self.output().id];
        let by = |(name, number): (&String, &Option<f64>)| {
            number.map(|number| format!("∂{output}/∂{name} ≈ {}", short(number)))
        };
        let all: Vec<String> = self.graph.numerical.iter().filter_map(by).collect();
        let error: f64 = format!("{error:.0e}").parse().unwrap_or(error);
        Some(format!("central differences: {}; largest relative error {}", all.join(", "), short(error)))
    }
}

/// The sum of `terms` as text. `None` if there are none.
fn sum(terms: Vec<Formula>) -> Option<String> {
    terms.into_iter().reduce(|a, b| formula::value(Op::Add, &[a, b])).map(|sum| sum.text)
}

/// `a = b = c`, without a side that equals the one before it.
fn equation(sides: impl IntoIterator<Item = String>) -> String {
    let mut sides: Vec<String> = sides.into_iter().collect();
    sides.dedup();
    sides.join(" = ")
}
