use std::fmt;

/// Characters of a client's word that are repeated to it.
pub(super) const SHOWN_MAX: usize = 64;

/// What is wrong with an expression or an input, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct GraphError {
    /// Where it is wrong.
    pub place: Place,
    /// What is wrong there.
    pub detail: String,
}

/// A place in what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A column of the expression, from 1, in characters.
    Column(usize),
    /// The input of this name.
    Input(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => write!(f, "column {column}"),
            Self::Input(name) => write!(f, "input {}", shown(name)),
        }
    }
}

impl GraphError {
    pub(super) fn at(column: usize, detail: impl Into<String>) -> Self {
        Self { place: Place::Column(column), detail: detail.into() }
    }

    pub(super) fn of_input(name: &str, detail: impl Into<String>) -> Self {
        Self { place: Place::Input(name.to_owned()), detail: detail.into() }
    }
}

/// The beginning of a client's word, to be repeated to it.
pub(super) fn shown(word: &str) -> String {
    let mut characters = word.chars();
    let start: String = characters.by_ref().take(SHOWN_MAX).collect();
    if characters.next().is_some() { start + "…" } else { start }
}
