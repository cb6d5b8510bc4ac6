use std::collections::BTreeMap;

use super::{EXPRESSION_CHARS_MAX, INPUTS_MAX, PATH_NODES_MAX, PATHS_MAX};

/// Upper bounds of the cost of an answer. They are known before the expression is parsed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphCost {
    /// Elementary operations.
    pub operations: f64,
    /// Bytes of the graph in memory.
    pub held_bytes: f64,
    /// Bytes of the longest representation: JSON, text, SVG or DOT.
    pub answer_bytes: f64,
}

/// Operations per pair of characters. The text of a `max` grows with the square of the number of its
/// operands.
const OPERATIONS: f64 = 200.0;

/// Bytes per character, for a node with its drawing.
const NODE_BYTES: f64 = 1_000.0;

/// Bytes per pair of characters. A long name can be repeated by many short operations.
const NAME_BYTES: f64 = 0.5;

/// Bytes of a node on a path, in memory and in JSON.
const PATH_NODE_BYTES: f64 = 40.0;
const PATH_TEXT_BYTES: f64 = 30.0;

/// Bytes of an input in every representation.
const INPUT_BYTES: f64 = 1_000.0;

impl GraphCost {
    /// The cost of an expression with these inputs. An expression over the length limit is not parsed, so
    /// only the limit is charged.
    pub fn of(expression: &str, inputs: &BTreeMap<String, f64>) -> Self {
        let chars = expression.len().min(4 * EXPRESSION_CHARS_MAX) as f64;
        let names: usize = inputs.keys().map(String::len).sum();
        let inputs = inputs.len().min(INPUTS_MAX) as f64;
        // A path has at most one node per two characters.
        let path_nodes = (inputs * PATHS_MAX as f64 * (chars / 2.0 + 1.0)).min(PATH_NODES_MAX as f64);
        let nodes = NODE_BYTES * chars + INPUT_BYTES * inputs + 8.0 * names as f64;
        let names = NAME_BYTES * chars * chars;
        Self {
            operations: OPERATIONS * chars * chars + 1e6,
            held_bytes: nodes + names + PATH_NODE_BYTES * path_nodes,
            answer_bytes: nodes + names + PATH_TEXT_BYTES * path_nodes,
        }
    }
}
