use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::follow::{ProgressChoice, end_line, follow};
use super::input::{named, read};
use super::{CliError, Output, ServerArgs, print, print_json, say};
use crate::api::{Job, JobState};
use crate::job::JobId;

const EXAMPLES: &str = "\
Examples:
  chainrule train                                    train MNIST with the defaults; prints the job's id
  chainrule train --follow --min-accuracy 0.97       wait, and fail below 97 %
  chainrule train '{\"epochs\": 2, \"seed\": 7}'
  chainrule train job.json
  echo '{\"network\": \"lesson\"}' | chainrule train -
  chainrule train --follow --job ID                  follow an existing job";

/// The most bytes of a request that are read. A server accepts less, unless its --job-request-bytes-max
/// is raised.
const REQUEST_BYTES_MAX: usize = 64 << 20;

const REQUEST_HINT: &str =
    "give a request as JSON ('{\"epochs\": 2}'), a file that contains it, or - for standard input";

/// Arguments of `chainrule train`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Show the job's progress until it ends; Ctrl-C does not stop the job
    #[arg(long)]
    follow: bool,

    /// Exit with status 3 if the test accuracy is lower (0 to 1); needs --follow
    #[arg(long, requires = "follow", value_name = "FRACTION", value_parser = fraction)]
    min_accuracy: Option<f64>,

    /// How to show progress
    #[arg(long, default_value = "auto", value_name = "HOW")]
    progress: ProgressChoice,

    /// Follow this job instead of sending a new one
    #[arg(long, requires = "follow", conflicts_with = "request", value_name = "ID")]
    job: Option<JobId>,

    /// The request: JSON, a file that contains it, or - for standard input [default: {}]
    #[arg(value_name = "JSON|FILE|-")]
    request: Option<String>,
}

fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Sends a job, and follows it if asked.
pub async fn run(args: TrainArgs, output: Output) -> Result<(), CliError> {
    let server = &args.server.server;
    let client = Client::new(server)?;
    let id = match args.job {
        Some(id) => id,
        None => {
            let job = client.create_job(&request(args.request.as_deref())?).await?;
            if !args.follow {
                return show(&job, output, server);
            }
            if !output.json && !output.quiet {
                say(format!("job {}", job.id));
            }
            job.id
        }
    };
    let interrupted = || {
        CliError::Interrupted(format!(
            "the job goes on; follow it again with: chainrule train --server {server} --follow --job {id}"
        ))
    };
    let job = tokio::select! {
        job = follow(&client, id, args.progress, output) => job?,
        _ = tokio::signal::ctrl_c() => return Err(interrupted()),
    };
    if output.json {
        end_line(&job)?;
    }
    judge(&job, args.min_accuracy, output)
}

fn request(argument: Option<&str>) -> Result<Value, CliError> {
    let (name, text) = match argument {
        None => return Ok(Value::Object(serde_json::Map::new())),
        Some(json) if json.trim_start().starts_with(['{', '[', '"']) => {
            return serde_json::from_str(json).map_err(|error| CliError::Usage {
                what: "the request is not JSON".to_owned(),
                hint: error.to_string(),
            });
        }
        Some(file) => {
            let file = Path::new(file);
            let text = read(file, REQUEST_BYTES_MAX).map_err(|error| match error {
                CliError::Failed { what, why, hint: None } => {
                    CliError::Failed { what, why, hint: Some(REQUEST_HINT.to_owned()) }
                }
                other => other,
            })?;
            (named(file), text)
        }
    };
    if text.is_empty() {
        return Err(CliError::failed(format!("{name} is empty"), "send at least {}"));
    }
    serde_json::from_slice(&text).map_err(|error| CliError::failed(format!("{name} is not JSON"), error))
}

fn show(job: &Job, output: Output, server: &str) -> Result<(), CliError> {
    if output.json {
        return print_json(job);
    }
    print(job.id)?;
    if !output.quiet {
        say(format!(
            "{}; follow it with: chainrule train --server {server} --follow --job {}",
            job.state, job.id
        ));
    }
    Ok(())
}

/// Prints how a job ended. Returns an error if it has no result or missed `min_accuracy`.
pub fn judge(job: &Job, min_accuracy: Option<f64>, output: Output) -> Result<(), CliError> {
    let Some(result) = &job.result else {
        let why = job.error.as_ref().map(|error| format!(": {} ({})", error.detail, error.code));
        return Err(CliError::Job(format!("the job {}{}", ended(job.state), why.unwrap_or_default())));
    };
    if output.quiet {
        print(job.id)?;
    } else if !output.json {
        print(format!(
            "test accuracy {:.2} %, published as {}@{}",
            result.test_accuracy * 100.0,
            result.model,
            result.version
        ))?;
    }
    match min_accuracy {
        Some(least) if result.test_accuracy < least => Err(CliError::Job(format!(
            "the test accuracy {:.2} % is below {:.2} %",
            result.test_accuracy * 100.0,
            least * 100.0
        ))),
        _ => Ok(()),
    }
}

fn ended(state: JobState) -> &'static str {
    match state {
        JobState::Failed => "failed",
        JobState::Cancelled => "was cancelled",
        JobState::Queued | JobState::Running | JobState::Succeeded => "has no result",
    }
}
