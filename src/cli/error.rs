use std::fmt::Display;
use std::num::{IntErrorKind, ParseIntError};

use clap::error::{ContextKind, ContextValue};
use serde_json::{Value, json};

use super::{Output, say, style};
use crate::api::Problem;

/// Why a command failed. [`Self::exit_status`] has the status of each variant.
#[derive(Debug)]
pub enum CliError {
    /// An operation failed.
    Failed {
        /// The operation, as "can't read FILE".
        what: String,
        /// The cause.
        why: Option<String>,
        /// What the user can try.
        hint: Option<String>,
    },
    /// The arguments are well-formed, but their values are not valid.
    Usage {
        /// The invalid value.
        what: String,
        /// What the user can try.
        hint: String,
    },
    /// A value is not valid at a certain place.
    UsageAt {
        /// The error.
        what: String,
        /// The part of the value around the place.
        text: String,
        /// A `^` below the place.
        mark: String,
    },
    /// The command line has no command.
    NoCommand,
    /// The server answered with a problem.
    Problem(Box<Problem>),
    /// The job failed, was cancelled or missed `--min-accuracy`.
    Job(String),
    /// No server answered.
    NoServer {
        /// The address of the server.
        url: String,
        /// The error of the connection.
        why: String,
    },
    /// The user pressed Ctrl-C.
    Interrupted(String),
    /// The reader of standard output is gone.
    ReaderGone,
}

/// The message for a command line without a command.
const WELCOME: &str = "\
chainrule trains small image classifiers by backpropagation and serves their predictions

  chainrule demo     train MNIST and read ten digits, here and now
  chainrule serve    run a server
  chainrule train    send a training job to it

chainrule --help lists all commands";

impl CliError {
    /// A failure with a cause and no hint.
    pub fn failed(what: impl Into<String>, why: impl Display) -> Self {
        Self::Failed { what: what.into(), why: Some(why.to_string()), hint: None }
    }

    /// Adds the name of the input that a problem is about.
    pub fn of(self, name: impl Display) -> Self {
        match self {
            Self::Problem(mut problem) => {
                problem.detail = format!("{name}: {}", problem.detail);
                Self::Problem(problem)
            }
            other => other,
        }
    }

    /// Returns the exit status of the process.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Failed { .. } => 1,
            // Without a command nothing was done, so a script must not take this for success.
            Self::Usage { .. } | Self::UsageAt { .. } | Self::NoCommand => 2,
            Self::Problem(problem) if matches!(problem.status, 401 | 403) => 4,
            Self::Problem(_) => 1,
            Self::Job(_) => 3,
            Self::NoServer { .. } => 5,
            Self::Interrupted(_) => 130,
            Self::ReaderGone => 0,
        }
    }

    /// Prints the error to standard error: at most three lines, or one JSON object with `--json`.
    pub(super) fn print(&self, output: Output) {
        if matches!(self, Self::ReaderGone) {
            return;
        }
        if output.json {
            say(json!({ "error": self.object() }));
            return;
        }
        let lines = match self {
            Self::Interrupted(what) => {
                say(format!("\n{what}"));
                return;
            }
            Self::NoCommand => {
                say(WELCOME);
                return;
            }
            error => error.lines(),
        };
        let mut lines = lines.iter().map(|line| line.replace('\n', " "));
        let mark = style::red("error:", style::is_colored(output.color, &std::io::stderr()));
        say(format!("{mark} {}", lines.next().unwrap_or_default()));
        for line in lines.take(2) {
            say(format!("  {line}"));
        }
    }

    /// Returns up to three lines: the error, its cause, a hint.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Failed { what, why, hint } => {
                [Some(what), why.as_ref(), hint.as_ref()].into_iter().flatten().cloned().collect()
            }
            Self::Usage { what, hint } => vec![what.clone(), hint.clone()],
            Self::UsageAt { what, text, mark } => vec![what.clone(), text.clone(), mark.clone()],
            Self::Problem(problem) => {
                let first = format!("{} ({} {})", problem.detail, problem.status, problem.code);
                let unreported =
                    problem.errors.iter().filter(|fault| !problem.detail.contains(&fault.detail));
                let faults: Vec<String> =
                    unreported.map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
                if faults.is_empty() { vec![first] } else { vec![first, faults.join("; ")] }
            }
            Self::NoServer { url, why } => {
                vec![format!("no server answers at {url}"), why.clone(), NO_SERVER_HINT.to_owned()]
            }
            Self::Job(what) | Self::Interrupted(what) => vec![what.clone()],
            Self::NoCommand => vec!["no command is given".to_owned(), "see chainrule --help".to_owned()],
            Self::ReaderGone => Vec::new(),
        }
    }

    /// Returns the error as JSON: a server's problem unchanged, or else `code`, `detail` and perhaps `hint`.
    fn object(&self) -> Value {
        let object = |code: &str, detail: String, hint: Option<&str>| {
            let mut object = json!({ "code": code, "detail": detail });
            if let Some(hint) = hint {
                object["hint"] = hint.into();
            }
            object
        };
        match self {
            Self::Problem(problem) => json!(problem),
            Self::Failed { what, why: Some(why), hint } => {
                object("failed", format!("{what}: {why}"), hint.as_deref())
            }
            Self::Failed { what, why: None, hint } => object("failed", what.clone(), hint.as_deref()),
            Self::Usage { what, hint } => object("usage", what.clone(), Some(hint)),
            Self::UsageAt { what, .. } => object("usage", what.clone(), None),
            Self::NoCommand => {
                object("usage", "no command is given".to_owned(), Some("see chainrule --help"))
            }
            Self::Job(what) => object("job", what.clone(), None),
            Self::NoServer { url, why } => {
                object("no_server", format!("no server answers at {url}: {why}"), Some(NO_SERVER_HINT))
            }
            Self::Interrupted(what) => object("interrupted", what.clone(), None),
            Self::ReaderGone => Value::Null,
        }
    }
}

const NO_SERVER_HINT: &str = "start one with: chainrule serve; or name another with --server URL";

impl CliError {
    /// Shortens clap's message about an invalid command line to two lines. `command` is the command that it names.
    pub(super) fn of_usage(error: &clap::Error, command: &str) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("For more information"));
        let what = paragraphs.next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
        let hint = paragraphs.next().unwrap_or_else(|| format!("see {command} --help"));
        Self::Usage { what: wrong_value(error).unwrap_or(what), hint }
    }
}

/// Returns the error of a value if it says more than clap's own message.
fn wrong_value(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let source = std::error::Error::source(error)?;
    if let Some(number) = source.downcast_ref::<ParseIntError>() {
        let wanted = match number.kind() {
            IntErrorKind::PosOverflow => "a smaller whole number",
            IntErrorKind::NegOverflow => "a larger whole number",
            _ => "a whole number",
        };
        return Some(format!("{argument} must be {wanted}, not {value:?}"));
    }
    let why = source.to_string();
    if let Some(range) = why.strip_prefix(&format!("{value} is not in ")) {
        let (least, most) = range.split_once("..").unwrap_or((range, ""));
        let wanted = match (most.strip_prefix('='), most) {
            (Some(most), _) => format!("from {least} to {most}"),
            (None, "") => format!("at least {least}"),
            (None, most) => format!("from {least} to below {most}"),
        };
        return Some(format!("{argument} must be {wanted}, not {value}"));
    }
    if why.starts_with("must be ") {
        return Some(format!("{argument} {why}, not {value:?}"));
    }
    why.contains(value.as_str()).then(|| format!("{argument}: {why}"))
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}
