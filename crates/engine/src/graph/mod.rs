//! The chain rule on scalars. An expression becomes a list of nodes. Each node gets a value, and the
//! derivative of the whole expression with respect to it.
//!
//! A node comes after its operands in the list, so values are computed from first to last and gradients from
//! last to first. `∂f/∂x` is the sum of `∂f/∂y·∂y/∂x` over every use of `x` as an operand of some `y`. [`Op`]
//! lists each `y` with its `∂y/∂x`. Expanded, that sum has one product for each path from `x` to `f`.
//! [`Graph`] reports both forms.
//!
//! ```text
//! expression = part { ";" part } [ ";" ] ;
//! part       = [ "let" ] name "=" sum | sum ;          (* a bare sum only as the last part *)
//! sum        = product { ( "+" | "-" ) product } ;
//! product    = unary { ( "*" | "/" ) unary } ;
//! unary      = "-" unary | power ;                     (* -2^2 is -4 *)
//! power      = atom [ "^" unary ] ;                    (* 2^3^2 is 2^9, and 2^-1 is allowed *)
//! atom       = number | name | function "(" sum { "," sum } ")" | "(" sum ")" ;
//! number     = ( digits [ "." [ digits ] ] | "." digits ) [ ( "e" | "E" ) [ "+" | "-" ] digits ] ;
//! name       = ( letter | "_" ) { letter | digit | "_" } ;
//! function   = "exp" | "log" | "sqrt" | "sin" | "cos" | "tanh" | "sigmoid" | "relu" | "max" | "min" ;
//! ```
//!
//! `·` and `×` mean `*`, and `−` (U+2212) means `-`. The names of functions and `let` are reserved. A name
//! can be used in the parts after the one that binds it. The last part is the value of the expression.

mod backward;
mod cost;
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

pub use backward::BackwardStep;
pub use cost::GraphCost;
pub use error::{GraphError, Location};
pub use node::{Node, Op};
pub use paths::GraphPath;

/// Largest number of characters in an expression.
pub const EXPRESSION_CHARS_MAX: usize = 4_000;

/// Largest number of inputs.
pub const INPUTS_MAX: usize = 100;

/// Deepest nesting of parentheses, signs, exponents and arguments. It bounds the parser's recursion.
pub const DEPTH_MAX: usize = 200;

/// Largest number of paths listed for one input. With more, none are listed.
pub const PATHS_MAX: usize = 1_000;

/// Largest number of node ids in all listed paths together.
pub const PATH_NODES_MAX: usize = 1_000_000;

/// An expression with its nodes, its gradient with respect to each input, and the steps of the backward pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// The value of the expression.
    pub value: f64,
    /// The derivative of the value with respect to each input, by name.
    pub gradients: BTreeMap<String, f64>,
    /// The inputs in order of their names, then constants and operations in the order of the expression.
    pub nodes: Vec<Node>,
    /// Id of the node that holds the value of the expression.
    pub output: usize,
    /// The paths from each input to the output. Empty for an input with more than [`PATHS_MAX`] paths, or
    /// once all lists together would exceed [`PATH_NODES_MAX`].
    pub paths: BTreeMap<String, Vec<GraphPath>>,
    /// The number of paths from each input, listed or not.
    pub path_counts: BTreeMap<String, f64>,
    /// The central difference for each input. `None` if no two step sizes agree.
    pub numerical: BTreeMap<String, Option<f64>>,
    /// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)` over all gradients `a` and central differences `n`. `None`
    /// if there is no central difference.
    pub max_relative_error: Option<f64>,
    /// The products of the backward pass, in the order they were added.
    pub steps: Vec<BackwardStep>,
    /// Caveats for the reader, such as unused inputs and derivatives taken at a kink.
    pub warnings: Vec<String>,
}

/// Differentiates `expression` with respect to each of `inputs`, at these values.
///
/// # Errors
/// Every invalid input, and the first syntax error of the expression. If there are none, the first node without a
/// finite value, or without a finite derivative that an input needs. The list is never empty.
pub fn differentiate(expression: &str, inputs: &BTreeMap<String, f64>) -> Result<Graph, Vec<GraphError>> {
    let (mut nodes, output) = parse::parse(expression, inputs)?;
    forward::forward(&mut nodes).map_err(|error| vec![error])?;
    let steps = backward::backward(&mut nodes, output).map_err(|error| vec![error])?;

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
            .chain(warnings::unlisted_paths(&paths, &path_counts))
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
    /// The worked chain rule as plain text, as on a blackboard.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// A drawing of the graph, with value and gradient on each edge.
    pub fn svg(&self) -> String {
        svg::svg(self)
    }

    /// The drawing as Graphviz DOT.
    pub fn dot(&self) -> String {
        dot::dot(self)
    }
}

/// The input nodes with their names.
fn inputs_of(nodes: &[Node]) -> impl Iterator<Item = (String, &Node)> {
    let inputs = nodes.iter().filter(|node| node.op == Op::Input);
    inputs.filter_map(|node| Some((node.name.clone()?, node)))
}

/// For each node, whether `output` depends on it. `output` counts as depending on itself.
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

/// For each node, whether it matches `predicate` or depends on a node that does.
fn made_from(nodes: &[Node], predicate: impl Fn(&Node) -> bool) -> Vec<bool> {
    let mut made: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        made.push(predicate(node) || node.inputs.iter().any(|&input| made[input]));
    }
    made
}

fn operands(nodes: &[Node], node: &Node) -> Vec<f64> {
    node.inputs.iter().map(|&input| nodes[input].value).collect()
}
