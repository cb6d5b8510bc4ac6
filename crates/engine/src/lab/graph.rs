use std::collections::BTreeMap;

use serde_json::Value;

use super::price::{AnswerCost, BODY_COPIES, Question};
use crate::fields::{Fault, Fields, kind, parsed, token};
use crate::graph::{self, Bounds, EXPRESSION_CHARS_MAX, Graph, GraphError, Place};

/// An expression to be differentiated by its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphRequest {
    expression: String,
    inputs: BTreeMap<String, f64>,
}

impl GraphRequest {
    /// A request of an `expression` and its `inputs`.
    ///
    /// # Errors
    /// Every fault of the request but those of the expression itself, which the answer names.
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
        // An expression that is too long is refused without being read.
        let is_read = self.expression.chars().count() <= EXPRESSION_CHARS_MAX;
        let read = if is_read { self.expression.as_str() } else { "" };
        let Bounds { operations, held_bytes, answer_bytes } = Bounds::of(read, &self.inputs);
        let memory_bytes = held_bytes + BODY_COPIES * answer_bytes;
        AnswerCost { flops: operations, memory_bytes, answer_bytes }
    }

    fn answer(self) -> Result<Graph, Vec<Fault>> {
        let Self { expression, inputs } = self;
        graph::differentiate(&expression, &inputs).map_err(|errors| errors.into_iter().map(fault).collect())
    }
}

fn fault(GraphError { place, detail }: GraphError) -> Fault {
    match place {
        Place::Column(column) => {
            Fault { pointer: "/expression".to_owned(), detail: format!("column {column}: {detail}") }
        }
        Place::Input(name) => Fault { pointer: format!("/{}", input_pointer(&name)), detail },
    }
}

fn input_pointer(input: &str) -> String {
    format!("inputs/{}", token(input))
}
