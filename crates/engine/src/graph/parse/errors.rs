use std::collections::BTreeMap;

use super::super::error::{GraphError, SHOWN_MAX, shown};
use super::super::node::Op;
use super::super::token::{Token, is_name};
use super::super::{EXPRESSION_CHARS_MAX, INPUTS_MAX};
use super::{LET, Parser};

/// Largest number of known names that an error message lists.
const KNOWN_SHOWN_MAX: usize = 20;

/// The characters of `expression`, or an error if there are too many.
pub(super) fn characters(expression: &str) -> Result<Vec<char>, GraphError> {
    let characters: Vec<char> = expression.chars().take(EXPRESSION_CHARS_MAX + 1).collect();
    if characters.len() > EXPRESSION_CHARS_MAX {
        let count = expression.chars().count();
        let detail =
            format!("the expression has {count} characters, at most {EXPRESSION_CHARS_MAX} are taken");
        return Err(GraphError::at(EXPRESSION_CHARS_MAX + 1, detail));
    }
    Ok(characters)
}

/// An error for each invalid input. Of inputs over the limit, only the first is reported.
pub(super) fn wrong_inputs(inputs: &BTreeMap<String, f64>) -> Vec<GraphError> {
    let checked = inputs.iter().take(INPUTS_MAX + 1).enumerate();
    checked.filter_map(|(place, (name, &value))| wrong_input(place, name, value)).collect()
}

/// The error of an invalid input, where `place` is its index.
fn wrong_input(place: usize, name: &str, value: f64) -> Option<GraphError> {
    let detail = if place >= INPUTS_MAX {
        format!("is input number {}, at most {INPUTS_MAX} are taken", place + 1)
    } else if !is_name(name) {
        "is not a name: a letter or _, then letters, digits and _".to_owned()
    } else if is_reserved(name) {
        format!("is reserved: {}", reserved_words())
    } else if !value.is_finite() {
        format!("is {value}, must be a finite number")
    } else {
        return None;
    };
    Some(GraphError::of_input(name, detail))
}

/// Whether `name` is a valid name that is not reserved.
pub(super) fn can_be_bound(name: &str) -> bool {
    is_name(name) && !is_reserved(name)
}

fn is_reserved(name: &str) -> bool {
    name == LET || Op::function(name).is_some()
}

fn reserved_words() -> String {
    format!("{}, {LET} have a meaning of their own", function_names())
}

fn function_names() -> String {
    Op::FUNCTIONS.map(Op::name).join(", ")
}

/// The known name of which `name` is probably a typo. The edit distance is at most one, or two if the longer word has
/// at least five letters.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let near = known.filter_map(|known| {
        let longer = known.chars().count().max(length);
        if longer > SHOWN_MAX {
            return None;
        }
        let distance = strsim::osa_distance(name, known);
        (distance <= ((longer - 1) / 2).min(2)).then_some((distance, known))
    });
    near.min_by_key(|&(distance, _)| distance).map(|(_, known)| known)
}

impl Parser {
    /// An error if `name` can't be bound.
    pub(super) fn check_binding(&self, name: &str, column: usize) -> Result<(), GraphError> {
        let short = shown(name);
        let detail = match self.names.get(name) {
            _ if is_reserved(name) => format!("{short} cannot be bound: {}", reserved_words()),
            Some((_, 0)) => format!("{short} is an input and cannot be bound"),
            Some((_, first)) => format!("{short} is bound twice, first at column {first}"),
            None => return Ok(()),
        };
        Err(GraphError::at(column, detail))
    }

    /// The error for a token that can't follow an operand.
    pub(super) fn after_operand(&self) -> GraphError {
        let left = match &self.tokens[self.place.saturating_sub(1)].0 {
            Token::Symbol(_) => "(…)".to_owned(),
            other => other.to_string(),
        };
        let right = match self.peek(0) {
            Token::Number(..) => self.peek(0).to_string(),
            Token::Name(name) if Op::function(name).is_some() => format!("{name}(…)"),
            Token::Name(name) => shown(name),
            Token::Symbol('(') => "(…)".to_owned(),
            Token::Symbol(')') => return self.error("this ) closes nothing: no ( is open"),
            Token::Symbol('=') => return self.error("= may only follow a name at the start of a part"),
            Token::Symbol(',') => {
                return self.error("a comma may only stand between the arguments of a function");
            }
            Token::BadNumber(text, why) => return self.error(format!("{} {why}", shown(text))),
            other => return self.error(format!("expected an operator, found {other}")),
        };
        self.error(format!("expected an operator between {left} and {right}: write {left}*{right}"))
    }

    /// The error for an unknown function.
    pub(super) fn unknown_function(&self, name: &str) -> GraphError {
        let hint = match nearest(name, Op::FUNCTIONS.iter().map(|op| op.name())) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("there are: {}", function_names()),
        };
        self.error(format!("unknown function {}, {hint}", shown(name)))
    }

    /// The error for a name without a value.
    pub(super) fn unknown(&self, name: &str) -> GraphError {
        let short = shown(name);
        if self.binding.as_deref() == Some(name) {
            return self.error(format!("{short} is defined in terms of itself: such a cycle has no value"));
        }
        if name == LET {
            return self.error("let may only stand at the start of a part");
        }
        if Op::function(name).is_some() {
            return self.error(format!("{name} is a function: write {name}(…)"));
        }
        let is_binding = |pair: &&[(Token, usize)]| {
            matches!(&pair[0].0, Token::Name(later) if later == name) && pair[1].0 == Token::Symbol('=')
        };
        if let Some(binding) = self.tokens[self.place..].windows(2).find(is_binding) {
            let bound = binding[0].1;
            return self.error(format!(
                "{short} is used before it is bound at column {bound}: a part may use only what stands before it, \
                 so that there is no cycle"
            ));
        }
        if let Some(nearest) = nearest(name, self.names.keys().map(String::as_str)) {
            return self.error(format!("unknown name {short}, did you mean {nearest}?"));
        }
        let known: Vec<String> = self.names.keys().take(KNOWN_SHOWN_MAX).map(|known| shown(known)).collect();
        let known = match self.names.len().saturating_sub(KNOWN_SHOWN_MAX) {
            0 if known.is_empty() => "no inputs and no bindings".to_owned(),
            0 => known.join(", "),
            more => format!("{} and {more} more", known.join(", ")),
        };
        self.error(format!("unknown name {short}, there are: {known}"))
    }
}
