use std::fmt::Display;

use super::style;
use crate::config::ColorChoice;
use crate::http::Problem;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum CliError {
    /// Something failed.
    Failed {
        /// What.
        what: String,
        /// Why.
        why: Option<String>,
        /// What to try.
        hint: Option<String>,
    },
    /// The command line can be read, but asks for what can't be.
    Usage {
        /// What is wrong.
        what: String,
        /// What to try.
        hint: String,
    },
    /// The same, with the place in what was given.
    UsageAt {
        /// What is wrong.
        what: String,
        /// The part of what was given around it.
        text: String,
        /// A mark below its place.
        mark: String,
    },
    /// The server answered with a problem.
    Problem(Problem),
    /// The job did not end well.
    Job(String),
    /// No server answers.
    NoServer {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// Ctrl-C.
    Interrupted(String),
    /// Whoever read the result has gone away.
    ReaderGone,
}

impl CliError {
    /// A failure with its cause.
    pub fn failed(what: impl Into<String>, why: impl Display) -> Self {
        Self::Failed { what: what.into(), why: Some(why.to_string()), hint: None }
    }

    /// The exit status that scripts see.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            Self::Usage { .. } | Self::UsageAt { .. } => 2,
            Self::Problem(problem) if matches!(problem.status, 401 | 403) => 4,
            Self::Problem(_) => 1,
            Self::Job(_) => 3,
            Self::NoServer { .. } => 5,
            Self::Interrupted(_) => 130,
            Self::ReaderGone => 0,
        }
    }

    /// Writes it to standard error, in three lines at most.
    pub fn print(&self, color: ColorChoice) {
        let lines = match self {
            Self::Failed { what, why, hint } => {
                [Some(what.clone()), why.clone(), hint.clone()].into_iter().flatten().collect()
            }
            Self::Usage { what, hint } => vec![what.clone(), hint.clone()],
            Self::UsageAt { what, text, mark } => vec![what.clone(), text.clone(), mark.clone()],
            Self::Problem(problem) => {
                let mut lines = vec![format!("{} ({} {})", problem.detail, problem.status, problem.code)];
                let faults: Vec<String> = problem
                    .errors
                    .iter()
                    .map(|fault| format!("{}: {}", fault.pointer, fault.detail))
                    .collect();
                if faults.len() > 1 {
                    lines.push(faults.join("; "));
                }
                lines
            }
            Self::Job(what) => vec![what.clone()],
            Self::NoServer { url, why } => vec![
                format!("no server answers at {url}"),
                why.clone(),
                "start one with: chainrule serve; or name another with --server URL".to_owned(),
            ],
            Self::Interrupted(what) => {
                eprintln!("{what}");
                return;
            }
            Self::ReaderGone => return,
        };
        let mut lines = lines.iter().map(|line| line.replace('\n', " "));
        let mark = style::red("error:", style::is_colored(color, &std::io::stderr()));
        eprintln!("{mark} {}", lines.next().unwrap_or_default());
        for line in lines.take(2) {
            eprintln!("  {line}");
        }
    }
}

/// A command line that can't be read: what clap says in paragraphs, as two lines.
impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("For more information"));
        let what = paragraphs.next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
        let hint = paragraphs.next().unwrap_or_else(|| "see chainrule --help".to_owned());
        Self::Usage { what, hint }
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}
