//! The command line, one file per command. Results go to standard output, everything else to standard error.

mod backup;
mod check;
mod client;
mod conform;
mod datasets;
mod demo;
mod digit;
mod error;
mod evaluation;
mod exchange;
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
  chainrule demo                                   train MNIST and read ten digits, in one command
  chainrule serve --listen 127.0.0.1:8080          serve until Ctrl-C
  chainrule train --follow                         train MNIST on that server
  chainrule train --follow '{\"network\": \"lesson\"}'  train the lesson's network instead
  chainrule predict digit.png                      read the digit in a picture
  chainrule jobs                                   list the jobs and their progress
  chainrule graph 'x = a + b; x*b' a=2 b=3         work out the chain rule

Exit status: 0 success, 1 failure, 2 wrong usage, 3 the job failed, was cancelled or missed
--min-accuracy, 4 not authorised, 5 no server answers, 130 interrupted.";

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

/// The form of a command's output.
#[derive(Args, Clone, Copy)]
struct Output {
    /// Print JSON; a stream is one object per line
    #[arg(long, global = true)]
    json: bool,

    /// Print only the id or the label
    #[arg(short, long, global = true, conflicts_with = "json")]
    quiet: bool,

    /// When to use colour
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: ColorChoice,
}

impl Output {
    /// Returns the output flags of a command line that can't be parsed, so that its error is printed in the
    /// requested form.
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

/// The page of a list to show.
#[derive(Args, Clone, Default)]
struct PageArgs {
    /// Rows of a page [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,

    /// Continue a list after the page that printed this cursor
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl PageArgs {
    /// Returns the parameters of the query.
    fn query(&self) -> [(&'static str, Option<String>); 2] {
        [("limit", self.limit.map(|limit| limit.to_string())), ("cursor", self.cursor.clone())]
    }
}

/// Parses the name of a model or a data set.
fn name(text: &str) -> Result<String, String> {
    let rule = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
    if is_name(text) { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}

/// The server that a command talks to.
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
    /// Start a server, train MNIST and read ten digits
    Demo(demo::DemoArgs),
    /// Send a training job
    Train(train::TrainArgs),
    /// Read digits from pictures
    Predict(predict::PredictArgs),
    /// List, show, cancel, resume or delete jobs
    Jobs(jobs::JobsArgs),
    /// List, show, evaluate, compare, export, import, alias or delete models
    Models(models::ModelsArgs),
    /// List or show data sets
    Datasets(datasets::DatasetsArgs),
    /// Differentiate an expression by the chain rule
    Graph(lab::GraphArgs),
    /// Show the layers of a network, their parameters and cost
    Summary(lab::SummaryArgs),
    /// Compare backpropagation with numerical differentiation
    GradientCheck(lab::GradientCheckArgs),
    /// Check a data folder, and repair it
    Check(check::CheckArgs),
    /// Show one step of backpropagation on one image
    Trace(lab::TraceArgs),
    /// Ask a server whether it is ready
    Health(health::HealthArgs),
    /// Check whether a server speaks the Open Inference Protocol v2
    Conform(conform::ConformArgs),
    /// Back up a data folder into one file, while servers run
    Backup(backup::BackupArgs),
    /// Restore a data folder from a backup
    Restore(restore::RestoreArgs),
    /// Print the OpenAPI document of the HTTP API
    Openapi(openapi::OpenapiArgs),
    /// Print the names of the fail points, for tests
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Faults,
    /// Print the completions for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (output, result) = match parse(&arguments) {
        Ok(Cli { command, output }) => {
            (output, command.map_or(Err(CliError::NoCommand), |command| run(command, output)))
        }
        Err(error) if error.use_stderr() => {
            (Output::of_unread(&arguments), Err(CliError::of_usage(&error, &command_of(&arguments))))
        }
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

/// Returns the command that a command line names, such as `chainrule jobs show`.
fn command_of(arguments: &[OsString]) -> String {
    let program = Cli::command();
    let (mut command, mut name) = (&program, "chainrule".to_owned());
    for word in arguments.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(named) = command.find_subcommand(word) {
            command = named;
            name = format!("{name} {}", named.get_name());
        }
    }
    name
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&with_negative_numbers(Cli::command()).try_get_matches_from(arguments)?)
}

/// Lets the values of all arguments be negative numbers. Otherwise clap treats -1 as an unknown flag. With
/// this, the parser of the value refuses it and gives the reason.
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
            Command::Conform(args) => conform::run(args, output).await,
            Command::Backup(args) => backup::run(args, output).await,
            Command::Restore(args) => restore::run(args, output).await,
            Command::Openapi(args) => openapi::run(&args, output),
            #[cfg(debug_assertions)]
            Command::Faults => crate::failpoint::Point::ALL.iter().try_for_each(|point| print(point.name())),
            Command::Completions { shell } => completions(shell),
        }
    });
    runtime.shutdown_background();
    result
}

/// Prints the script that completes this program's arguments in a shell.
fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chainrule", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// Prints a line of the result. If the reader is gone (`head`, say), the command ends quietly.
fn print(line: impl std::fmt::Display) -> Result<(), CliError> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(unprintable)
}

fn unprintable(error: std::io::Error) -> CliError {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::failed("can't write the result", error),
    }
}

/// Writes bytes to standard output.
fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    use std::io::Write;
    std::io::stdout().write_all(bytes).map_err(unprintable)
}

/// Prints a line to standard error. Ignores failures, which happen after `2>&1 | head` for example.
fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    print(serde_json::to_string(value).map_err(|error| CliError::failed("can't write the result", error))?)
}
