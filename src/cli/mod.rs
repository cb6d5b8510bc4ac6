//! The command line: one file a command. Results go to standard output, all else to standard error.

mod backup;
mod check;
mod client;
mod datasets;
mod demo;
mod digit;
mod error;
mod folder;
mod follow;
mod health;
mod input;
mod jobs;
mod lab;
mod models;
mod openapi;
mod predict;
mod restore;
mod serve;
mod style;
mod table;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use error::CliError;

use crate::config::ColorChoice;
use crate::train::is_name;

const EXAMPLES: &str = "\
Examples:
  chainrule demo                                   train MNIST and read ten digits, here and now
  chainrule serve --listen 127.0.0.1:8080          serve until Ctrl-C
  chainrule train --follow                         train MNIST on that server
  chainrule train --follow '{\"network\": \"lesson\"}'  the lesson's network instead
  chainrule predict digit.png                      what digit is it?
  chainrule jobs                                   what has been sent, and how far is it?
  chainrule graph 'x = a + b; x*b' a=2 b=3         the chain rule, worked out

Exit status: 0 done, 1 failed, 2 wrong usage, 3 the job failed, was cancelled or missed
--min-accuracy, 4 not authorised, 5 no server there, 130 interrupted.";

const COMPLETIONS: &str = "\
Examples:
  source <(chainrule completions bash)
  chainrule completions fish > ~/.config/fish/completions/chainrule.fish";

/// Trains small image classifiers by backpropagation and serves their predictions
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    output: Output,

    #[command(subcommand)]
    command: Option<Command>,
}

/// How every command writes.
#[derive(Args, Clone, Copy)]
struct Output {
    /// Write JSON, a stream as one object a line
    #[arg(long, global = true)]
    json: bool,

    /// Write only the id, or the label
    #[arg(short, long, global = true, conflicts_with = "json")]
    quiet: bool,

    /// When to use colour
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: ColorChoice,
}

impl Output {
    /// What a command line that can't be read says of it: how its own fault is to be written.
    fn of_unread(arguments: &[OsString]) -> Self {
        let mut words =
            arguments.iter().filter_map(|argument| argument.to_str()).take_while(|word| *word != "--");
        let mut output = Self { json: false, quiet: false, color: ColorChoice::Auto };
        while let Some(word) = words.next() {
            let color = if word == "--color" { words.next() } else { word.strip_prefix("--color=") };
            output.json |= word == "--json";
            output.color =
                color.and_then(|word| ColorChoice::from_str(word, false).ok()).unwrap_or(output.color);
        }
        output
    }
}

/// Which rows of a list are shown.
#[derive(Args, Clone, Default)]
struct PageArgs {
    /// Rows that are shown, 50 unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,

    /// Continue a list: the cursor printed below its last page
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl PageArgs {
    /// The same as parameters of a query.
    fn query(&self) -> [(&'static str, Option<String>); 2] {
        [("limit", self.limit.map(|limit| limit.to_string())), ("cursor", self.cursor.clone())]
    }
}

/// Reads the name of a model or a data set.
fn name(text: &str) -> Result<String, String> {
    let rule = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
    if is_name(text) { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}

/// Which server a command talks to.
#[derive(Args, Clone)]
struct ServerArgs {
    /// Address of the server
    #[arg(
        long,
        global = true,
        env = "CHAINRULE_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    server: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<serve::ServeArgs>),
    /// Train MNIST and read ten digits, from nothing
    Demo(demo::DemoArgs),
    /// Send a training job
    Train(train::TrainArgs),
    /// Read digits from pictures
    Predict(predict::PredictArgs),
    /// List jobs, show one; cancel, resume or delete some
    Jobs(jobs::JobsArgs),
    /// List models, show the versions of one; delete some
    Models(models::ModelsArgs),
    /// List data sets, or show one
    Datasets(datasets::DatasetsArgs),
    /// Differentiate an expression by the chain rule
    Graph(lab::GraphArgs),
    /// Show the layers of a network and what they take
    Summary(lab::SummaryArgs),
    /// Compare backpropagation with numerical differentiation
    GradientCheck(lab::GradientCheckArgs),
    /// Check a data folder, and mend it
    Check(check::CheckArgs),
    /// Look into one step of backpropagation on one image
    Trace(lab::TraceArgs),
    /// Ask a server whether it is ready
    Health(health::HealthArgs),
    /// Write a data folder into one file, while servers run
    Backup(backup::BackupArgs),
    /// Make a data folder from a backup
    Restore(restore::RestoreArgs),
    /// Describe every route of the API
    Openapi(openapi::OpenapiArgs),
    /// Name the places where a test can let the server die
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Faults,
    /// Write completions for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (output, result) = match parse(&arguments) {
        Ok(Cli { command, output }) => {
            (output, command.map_or(Err(CliError::NoCommand), |command| run(command, output)))
        }
        Err(error) if error.use_stderr() => (Output::of_unread(&arguments), Err(error.into())),
        Err(help) => help.exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print(output);
            ExitCode::from(error.exit_status())
        }
    }
}

/// Reads the command line.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&with_negative_numbers(Cli::command()).try_get_matches_from(arguments)?)
}

/// The command with arguments whose value may be -1, which is then no argument of its own: it is refused by what reads the value, which says
/// why.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let takes_value = argument.get_action().takes_values();
            argument.allow_negative_numbers(takes_value)
        })
        .mut_subcommands(with_negative_numbers)
}

fn run(command: Command, output: Output) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("can't start", error))?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(*args, output).await,
            Command::Demo(args) => demo::run(args, output).await,
            Command::Train(args) => train::run(args, output).await,
            Command::Predict(args) => predict::run(args, output).await,
            Command::Jobs(args) => jobs::run(args, output).await,
            Command::Models(args) => models::run(args, output).await,
            Command::Datasets(args) => datasets::run(args, output).await,
            Command::Graph(args) => lab::graph(&args, output),
            Command::Summary(args) => lab::summary(&args, output),
            Command::GradientCheck(args) => lab::gradient_check(&args, output),
            Command::Check(args) => check::run(args, output).await,
            Command::Trace(args) => lab::trace(args, output).await,
            Command::Health(args) => health::run(args, output).await,
            Command::Backup(args) => backup::run(args, output).await,
            Command::Restore(args) => restore::run(args, output).await,
            Command::Openapi(args) => openapi::run(&args, output),
            #[cfg(debug_assertions)]
            Command::Faults => crate::fault::Point::ALL.iter().try_for_each(|point| print(point.name())),
            Command::Completions { shell } => completions(shell),
        }
    });
    runtime.shutdown_background();
    result
}

/// Writes what makes a shell complete this program's arguments.
fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chainrule", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// Writes a line of result. A reader that has gone away, as `head` does, ends the program quietly.
fn print(line: impl std::fmt::Display) -> Result<(), CliError> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::failed("can't write the result", error),
    })
}

/// Writes a line to standard error. Nothing depends on it: who does not read it, as after `2>&1 | head`, misses it.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes a value as a line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    print(serde_json::to_string(value).map_err(|error| CliError::failed("can't write the result", error))?)
}
