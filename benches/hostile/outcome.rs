//! The ways in which requests and connections ended, and their counts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};

/// How a request or a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A complete response.
    Status(u16),
    /// The status arrived. Then the server closed the connection before the end of the response.
    Cut(u16),
    /// The status arrived, but the response was not complete at the end of the attack.
    Waiting(u16),
    /// The server closed the connection without a response.
    Closed,
    /// The server reset the connection without a response.
    Reset,
    /// The connection was open at the end of the attack, without a response.
    Open,
    /// The connection could not be opened.
    Refused,
}

impl Outcome {
    /// Returns the status, if one arrived.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) | Self::Cut(status) | Self::Waiting(status) => Some(status),
            Self::Closed | Self::Reset | Self::Open | Self::Refused => None,
        }
    }

    pub fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Closed,
            ErrorKind::ConnectionRefused | ErrorKind::AddrNotAvailable => Self::Refused,
            _ => Self::Reset,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Cut(status) => write!(f, "{status} cut off"),
            Self::Waiting(status) => write!(f, "{status} not read to its end"),
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset"),
            Self::Open => f.write_str("no answer"),
            Self::Refused => f.write_str("no connection"),
        }
    }
}

/// How often each outcome occurred.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<Outcome, u64>);

impl Tally {
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (outcome, count)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{outcome} ×{count}")?;
        }
        Ok(())
    }
}
