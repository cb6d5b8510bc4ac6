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

/// A differentiated expression: its nodes, its gradient, and the paths of the gradient.
#[derive(Serialize, ToSchema)]
pub struct Graph {
    /// The value of the expression.
    pub value: f64,
    /// The derivative of the value with respect to each input.
    pub gradients: BTreeMap<String, f64>,
    /// Every node: the inputs in order of their names, then constants and operations as they are made.
    pub nodes: Vec<GraphNode>,
    /// Id of the node whose value is the value of the expression.
    pub output: usize,
    /// The paths from each input to the output; empty if there are more than 1,000 or they are too long.
    pub paths: BTreeMap<String, Vec<GraphPath>>,
    /// The number of paths from each input.
    pub path_counts: BTreeMap<String, f64>,
    /// The derivative with respect to each input, as a central difference; null if no two step sizes agree.
    pub numerical: BTreeMap<String, Option<f64>>,
    /// The largest `|a − n| / max(|a|, |n|, 10⁻⁴)` of a gradient and its central difference; null if there is
    /// no central difference.
    pub max_relative_error: Option<f64>,
    /// The backward pass, one product after the other.
    pub steps: Vec<GraphStep>,
    /// Remarks on the result.
    pub warnings: Vec<String>,
}

/// A value of the computation and its derivatives.
#[derive(Serialize, ToSchema)]
pub struct GraphNode {
    /// Index in `nodes`. Operands come before the nodes that use them.
    pub id: usize,
    /// The operation that computes it.
    pub op: GraphOperation,
    /// The name of the input or of the binding.
    pub name: Option<String>,
    /// The ids of its operands. An id is repeated if it is used twice.
    pub inputs: Vec<usize>,
    /// The value.
    pub value: f64,
    /// The derivative of the expression with respect to this value; null if it does not exist and is not
    /// needed.
    pub gradient: Option<f64>,
    /// The derivative of this value with respect to each of `inputs`; null if it does not exist and is not
    /// needed.
    pub local: Vec<Option<f64>>,
}

/// The operation that computes a node.
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

/// A path from an input to the output, and its part of the gradient.
#[derive(Serialize, ToSchema)]
pub struct GraphPath {
    /// The nodes of the path, from the input to the output.
    pub nodes: Vec<usize>,
    /// From the second node of the path: the derivative of each node with respect to the node before it.
    pub factors: Vec<f64>,
    /// The product of the factors; null if it overflows.
    pub product: Option<f64>,
}

/// A product of the backward pass, which is added to the gradient of an operand.
#[derive(Serialize, ToSchema)]
pub struct GraphStep {
    /// The node whose gradient flows back.
    pub node: usize,
    /// The derivative of the expression with respect to that node.
    pub upstream: f64,
    /// The operand that receives the product.
    pub input: usize,
    /// The derivative of the node with respect to that operand.
    pub local: f64,
    /// `upstream · local`.
    pub product: f64,
    /// The gradient of the operand before the addition.
    pub before: f64,
    /// The gradient of the operand after the addition.
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
