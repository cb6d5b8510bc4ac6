//! The chain rule on scalars: an expression becomes nodes, the nodes get values, and each node the
//! derivative of the whole by it.
//!
//! A node's operands stand before it, so values are found from first to last and gradients from last
//! to first: `∂f/∂x` is the sum, over every use of `x` as an operand of some `y`, of `∂f/∂y·∂y/∂x`
//! ([`Op`] has `y` and `∂y/∂x` side by side). Written out, that sum has one product for every path
//! from `x` to `f`; both are shown.
//!
//! ```text
//! expression = part { ";" part } [ ";" ] ;
//! part       = [ "let" ] name "=" sum | sum ;          (* a bare sum only as the last part *)
//! sum        = product { ( "+" | "-" ) product } ;
//! product    = unary { ( "*" | "/" ) unary } ;
//! unary      = "-" unary | power ;                     (* -2^2 is -4 *)
//! power      = atom [ "^" unary ] ;                    (* 2^3^2 is 2^9, and 2^-1 is taken *)
//! atom       = number | name | function "(" sum { "," sum } ")" | "(" sum ")" ;
//! number     = ( digits [ "." [ digits ] ] | "." digits ) [ ( "e" | "E" ) [ "+" | "-" ] digits ] ;
//! name       = ( letter | "_" ) { letter | digit | "_" } ;
//! function   = "exp" | "log" | "sqrt" | "sin" | "cos" | "tanh" | "sigmoid" | "relu" | "max" | "min" ;
//! ```
//!
//! `·` and `×` are taken for `*`, `−` (U+2212) for `-`. The functions and `let` name nothing else. A name
//! may be used in the parts after its own; the last part is the value.

mod backward;
mod bounds;
mod dot;
mod error;
mod formula;
mod forward;
mod layout;
mod names;
mod node;
mod number;
mod numerical;
mod parse;
mod paths;
mod svg;
mod text;
mod token;
mod warnings;

use std::collections::BTreeMap;

use serde::Serialize;

pub use backward::Step;
pub use bounds::Bounds;
pub use error::{GraphError, Place};
pub use node::{Node, Op};
pub use paths::Path;

/// Characters of an expression.
pub const EXPRESSION_CHARS_MAX: usize = 4_000;

/// Inputs of an expression.
pub const INPUTS_MAX: usize = 100;

/// How deep parentheses, signs, exponents and arguments may lie in each other.
pub const DEPTH_MAX: usize = 200;

/// Paths of one input that are listed.
pub const PATHS_MAX: usize = 1_000;

/// Node ids in all listed paths together.
pub const PATH_NODES_MAX: usize = 1_000_000;

/// An expression differentiated: its nodes, the gradient by each input, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// The value of the expression.
    pub value: f64,
    /// The derivative of the value by each input.
    pub gradients: BTreeMap<String, f64>,
    /// Every node: the inputs in order of their names, then constants and operations as they are made.
    pub nodes: Vec<Node>,
    /// Id of the node whose value is that of the expression.
    pub output: usize,
    /// The paths from each input to the output; none where they are more than [`PATHS_MAX`], or all
    /// together longer than [`PATH_NODES_MAX`].
    pub paths: BTreeMap<String, Vec<Path>>,
    /// How many paths there are from each input.
    pub path_counts: BTreeMap<String, f64>,
    /// The derivative by each input as a central difference; none where no two steps agree on one.
    pub numerical: BTreeMap<String, Option<f64>>,
    /// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)` of a gradient `a` and its central difference `n`; none
    /// where there is no central difference.
    pub max_relative_error: Option<f64>,
    /// The backward pass, one product after the other.
    pub steps: Vec<Step>,
    /// What to know about the result.
    pub warnings: Vec<String>,
}

/// Differentiates `expression` by each of `inputs`, where they have these values.
///
/// # Errors
/// Every input that cannot be one, and the first place where the expression cannot be read; where all
/// that is well, the first where it has no finite value, or no finite derivative by an input. Never empty.
pub fn differentiate(expression: &str, inputs: &BTreeMap<String, f64>) -> Result<Graph, Vec<GraphError>> {
    let (mut nodes, output) = parse::parse(expression, inputs)?;
    forward::forward(&mut nodes).map_err(|fault| vec![fault])?;
    let steps = backward::backward(&mut nodes, output).map_err(|fault| vec![fault])?;

    let path_counts = paths::counts(&nodes, output);
    let paths = paths::paths(&nodes, output, &path_counts);
    let differences = numerical::differences(&nodes, output);
    let numerical: BTreeMap<_, _> = differences
        .iter()
        .map(|(name, difference)| (name.clone(), difference.as_ref().ok().copied()))
        .collect();
    let gradients: BTreeMap<_, _> =
        inputs_of(&nodes).map(|(name, node)| (name, node.gradient.unwrap_or(0.0))).collect();
    Ok(Graph {
        value: nodes[output].value,
        max_relative_error: numerical::max_relative_error(&gradients, &numerical),
        warnings: warnings::warnings(&nodes, output, &differences)
            .into_iter()
            .chain(warnings::left_out(&paths, &path_counts))
            .collect(),
        paths,
        gradients,
        output,
        path_counts,
        numerical,
        steps,
        nodes,
    })
}

impl Graph {
    /// The value of the expression.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The derivative of the value by `input`.
    pub fn gradient(&self, input: &str) -> Option<f64> {
        self.gradients.get(input).copied()
    }

    /// The worked chain rule, as on a blackboard.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// The drawing of the nodes, with value and gradient on each edge.
    pub fn svg(&self) -> String {
        svg::svg(self)
    }

    /// The drawing as Graphviz DOT.
    pub fn dot(&self) -> String {
        dot::dot(self)
    }
}

/// The inputs among `nodes`, with their names.
fn inputs_of(nodes: &[Node]) -> impl Iterator<Item = (String, &Node)> {
    let inputs = nodes.iter().filter(|node| node.op == Op::Input);
    inputs.filter_map(|node| Some((node.name.clone()?, node)))
}

/// Which of `nodes` the node `output` is made from, itself among them.
fn reaching(nodes: &[Node], output: usize) -> Vec<bool> {
    let mut reaches = vec![false; nodes.len()];
    reaches[output] = true;
    for node in nodes[..=output].iter().rev() {
        if reaches[node.id] {
            node.inputs.iter().for_each(|&input| reaches[input] = true);
        }
    }
    reaches
}

/// Which of `nodes` are made from one of those that are `such`, themselves among them.
fn made_from(nodes: &[Node], such: impl Fn(&Node) -> bool) -> Vec<bool> {
    let mut made: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        made.push(such(node) || node.inputs.iter().any(|&input| made[input]));
    }
    made
}

/// Values of the operands of `node`.
fn operands(nodes: &[Node], node: &Node) -> Vec<f64> {
    node.inputs.iter().map(|&input| nodes[input].value).collect()
}
