use std::fmt;

/// Largest number of characters of the client's text that an error message repeats.
pub(super) const SHOWN_MAX: usize = 64;

/// An error in an expression or an input, and its location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {detail}")]
pub struct GraphError {
    /// Where the error is.
    pub location: Location,
    /// The reason, as a phrase in lower case.
    pub detail: String,
}

/// A location in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A column of the expression in characters, starting at 1.
    Column(usize),
    /// The input with this name.
    Input(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => write!(f, "column {column}"),
            Self::Input(name) => write!(f, "input {}", shown(name)),
        }
    }
}

impl GraphError {
    pub(super) fn at(column: usize, detail: impl Into<String>) -> Self {
        Self { location: Location::Column(column), detail: detail.into() }
    }

    pub(super) fn of_input(name: &str, detail: impl Into<String>) -> Self {
        Self { location: Location::Input(name.to_owned()), detail: detail.into() }
    }
}

/// The beginning of the client's text, for an error message.
pub(super) fn shown(word: &str) -> String {
    let mut characters = word.chars();
    let start: String = characters.by_ref().take(SHOWN_MAX).collect();
    if characters.next().is_some() { start + "…" } else { start }
}
