use std::collections::BTreeMap;

use serde_json::Value;

use super::price::{AnswerCost, BODY_COPIES, Question};
use crate::fields::{Fault, Fields, kind, parsed, token};
use crate::graph::{self, EXPRESSION_CHARS_MAX, Graph, GraphCost, GraphError, Location};

/// A request to differentiate an expression with respect to its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphRequest {
    expression: String,
    inputs: BTreeMap<String, f64>,
}

impl GraphRequest {
    /// Parses a request with an `expression` and its `inputs`.
    ///
    /// # Errors
    /// Every fault of the request. Errors in the expression are reported by [`Question::answer`].
    pub fn parse(request: &Value) -> Result<Self, Vec<Fault>> {
        parsed(request, Self::take)
    }

    fn take(mut fields: Fields) -> Option<Self> {
        let expression = fields.required_string("expression");
        let mut inputs = BTreeMap::new();
        match fields.take("inputs") {
            None => {}
            Some(Value::Object(values)) => {
                for (name, value) in values {
                    match value.as_f64() {
                        Some(number) => {
                            inputs.insert(name.clone(), number);
                        }
                        None => fields
                            .fault(&input_pointer(name), format!("must be a number, not {}", kind(value))),
                    }
                }
            }
            Some(other) => {
                let detail = format!("must be an object of names and numbers, not {}", kind(other));
                fields.fault("inputs", detail);
            }
        }
        fields.refuse_unknown();
        Some(Self { expression: expression?, inputs })
    }
}

impl Question for GraphRequest {
    type Answer = Graph;

    fn cost(&self) -> AnswerCost {
        // An expression over the length limit is refused without being parsed.
        let is_read = self.expression.chars().count() <= EXPRESSION_CHARS_MAX;
        let read = if is_read { self.expression.as_str() } else { "" };
        let GraphCost { operations, held_bytes, answer_bytes } = GraphCost::of(read, &self.inputs);
        let memory_bytes = held_bytes + BODY_COPIES * answer_bytes;
        AnswerCost { flops: operations, memory_bytes, answer_bytes }
    }

    fn answer(self) -> Result<Graph, Vec<Fault>> {
        let Self { expression, inputs } = self;
        graph::differentiate(&expression, &inputs).map_err(|errors| errors.into_iter().map(fault).collect())
    }
}

fn fault(GraphError { location, detail }: GraphError) -> Fault {
    match location {
        Location::Column(column) => {
            Fault { pointer: "/expression".to_owned(), detail: format!("column {column}: {detail}") }
        }
        Location::Input(name) => Fault { pointer: format!("/{}", input_pointer(&name)), detail },
    }
}

fn input_pointer(input: &str) -> String {
    format!("inputs/{}", token(input))
}
