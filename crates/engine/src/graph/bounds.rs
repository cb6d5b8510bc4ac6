use std::collections::BTreeMap;

use super::{EXPRESSION_CHARS_MAX, INPUTS_MAX, PATH_NODES_MAX, PATHS_MAX};

/// What the answer to an expression can take at most: known before it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Operations.
    pub operations: f64,
    /// Bytes of the graph.
    pub held_bytes: f64,
    /// Bytes of the longest of its forms: JSON, text, SVG or DOT.
    pub answer_bytes: f64,
}

/// Operations for two characters: what text says of `max` grows with the square of its operands.
const OPERATIONS: f64 = 200.0;

/// Bytes for a character, as a node with its drawing, and for two of them, of which one makes a name that the other
/// repeats.
const NODE_BYTES: f64 = 1_000.0;
const NAME_BYTES: f64 = 0.5;

/// Bytes of a node on a path, in memory and in JSON.
const PATH_NODE_BYTES: f64 = 40.0;
const PATH_TEXT_BYTES: f64 = 30.0;

/// Bytes of an input in every form.
const INPUT_BYTES: f64 = 1_000.0;

impl Bounds {
    /// Those of an expression with these inputs; one that is too long is not read.
    pub fn of(expression: &str, inputs: &BTreeMap<String, f64>) -> Self {
        let chars = expression.len().min(4 * EXPRESSION_CHARS_MAX) as f64;
        let names: usize = inputs.keys().map(String::len).sum();
        let inputs = inputs.len().min(INPUTS_MAX) as f64;
        // A path has at most a node for each two characters.
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
