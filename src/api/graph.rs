use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::graph;

/// An expression and the values of its inputs.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphRequest {
    /// The expression, in the language of `docs/graph.md`: at most 4,000 characters.
    #[schema(max_length = 4000)]
    pub expression: String,
    /// The value of each input by its name: at most 100.
    pub inputs: Option<BTreeMap<String, f64>>,
}

/// An expression differentiated: its nodes, the gradient by each input, and where it comes from.
#[derive(Serialize, ToSchema)]
pub struct Graph {
    /// The value of the expression.
    pub value: f64,
    /// The derivative of the value by each input.
    pub gradients: BTreeMap<String, f64>,
    /// Every node: the inputs in order of their names, then constants and operations as they are made.
    pub nodes: Vec<GraphNode>,
    /// Id of the node whose value is that of the expression.
    pub output: usize,
    /// The paths from each input to the output; none if they are more than 1,000 or too long together.
    pub paths: BTreeMap<String, Vec<GraphPath>>,
    /// How many paths there are from each input.
    pub path_counts: BTreeMap<String, f64>,
    /// The derivative by each input as a central difference; null if no two steps agree on one.
    pub numerical: BTreeMap<String, Option<f64>>,
    /// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)` of a gradient and its central difference; null without one.
    pub max_relative_error: Option<f64>,
    /// The backward pass, one product after the other.
    pub steps: Vec<GraphStep>,
    /// What to know about the result.
    pub warnings: Vec<String>,
}

/// One value of the computation, and the derivatives that belong to it.
#[derive(Serialize, ToSchema)]
pub struct GraphNode {
    /// Its place in `nodes`, after everything that it is made from.
    pub id: usize,
    /// How it is made.
    pub op: GraphOperation,
    /// The name of the input, or the one it was bound to.
    pub name: Option<String>,
    /// What it is made from: ids, as often as they are operands.
    pub inputs: Vec<usize>,
    /// Its value.
    pub value: f64,
    /// The derivative of the expression by it; null if it does not exist and nothing needs it.
    pub gradient: Option<f64>,
    /// Its derivative by each of `inputs`; null if it does not exist and nothing needs it.
    pub local: Vec<Option<f64>>,
}

/// How a node is made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of functions")]
pub enum GraphOperation {
    Input,
    Constant,
    Identity,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Negate,
    Exp,
    Log,
    Sqrt,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Relu,
    Max,
    Min,
}

/// One way from an input to the output, and its share of the gradient.
#[derive(Serialize, ToSchema)]
pub struct GraphPath {
    /// The nodes on the way, the input first, the output last.
    pub nodes: Vec<usize>,
    /// The derivative of each node but the first by the one before it.
    pub factors: Vec<f64>,
    /// The product of the factors; null if it overflows.
    pub product: Option<f64>,
}

/// One product of the backward pass, added to the gradient of the operand it flows to.
#[derive(Serialize, ToSchema)]
pub struct GraphStep {
    /// The node it comes from.
    pub node: usize,
    /// The derivative of the expression by that node.
    pub upstream: f64,
    /// The operand it flows to.
    pub input: usize,
    /// The derivative of the node by that operand.
    pub local: f64,
    /// `upstream · local`.
    pub product: f64,
    /// The gradient of the operand before it is added.
    pub before: f64,
    /// The gradient of the operand after.
    pub after: f64,
}

impl From<graph::Graph> for Graph {
    fn from(graph: graph::Graph) -> Self {
        let graph::Graph {
            value,
            gradients,
            nodes,
            output,
            paths,
            path_counts,
            numerical,
            max_relative_error,
            steps,
            warnings,
        } = graph;
        let paths =
            paths.into_iter().map(|(input, paths)| (input, paths.into_iter().map(Into::into).collect()));
        Self {
            value,
            gradients,
            nodes: nodes.into_iter().map(Into::into).collect(),
            output,
            paths: paths.collect(),
            path_counts,
            numerical,
            max_relative_error,
            steps: steps.into_iter().map(Into::into).collect(),
            warnings,
        }
    }
}

impl From<graph::Node> for GraphNode {
    fn from(node: graph::Node) -> Self {
        let graph::Node { id, op, name, inputs, value, gradient, local, .. } = node;
        Self { id, op: op.into(), name, inputs, value, gradient, local }
    }
}

impl From<graph::GraphPath> for GraphPath {
    fn from(graph::GraphPath { nodes, factors, product }: graph::GraphPath) -> Self {
        Self { nodes, factors, product }
    }
}

impl From<graph::BackwardStep> for GraphStep {
    fn from(step: graph::BackwardStep) -> Self {
        let graph::BackwardStep { node, upstream, input, local, product, before, after } = step;
        Self { node, upstream, input, local, product, before, after }
    }
}

impl From<graph::Op> for GraphOperation {
    fn from(op: graph::Op) -> Self {
        use graph::Op;
        match op {
            Op::Input => Self::Input,
            Op::Constant => Self::Constant,
            Op::Identity => Self::Identity,
            Op::Add => Self::Add,
            Op::Subtract => Self::Subtract,
            Op::Multiply => Self::Multiply,
            Op::Divide => Self::Divide,
            Op::Power => Self::Power,
            Op::Negate => Self::Negate,
            Op::Exp => Self::Exp,
            Op::Log => Self::Log,
            Op::Sqrt => Self::Sqrt,
            Op::Sin => Self::Sin,
            Op::Cos => Self::Cos,
            Op::Tanh => Self::Tanh,
            Op::Sigmoid => Self::Sigmoid,
            Op::Relu => Self::Relu,
            Op::Max => Self::Max,
            Op::Min => Self::Min,
        }
    }
}
