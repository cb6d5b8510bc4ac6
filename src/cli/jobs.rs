use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, parsed};
use super::input::each;
use super::table::{details, moment, or_dash, percent, table};
use super::{CliError, Output, PageArgs, ServerArgs, name, print, print_json, say};
use crate::api::{Job, JobList};
use crate::job::{JobId, JobState};

const EXAMPLES: &str = "\
Examples:
  chainrule jobs                                          the newest jobs
  chainrule jobs list --state failed
  chainrule jobs show ID
  chainrule jobs cancel $(chainrule jobs list -q --state queued)
  chainrule jobs list --json | jq '.jobs[].progress'";

/// Arguments of `chainrule jobs`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct JobsArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(Subcommand)]
enum JobsCommand {
    /// List jobs, newest first
    List(ListArgs),
    /// Show a job
    Show {
        /// Id of the job
        id: JobId,
    },
    /// Cancel jobs that are queued or running
    Cancel(Ids),
    /// Resume jobs that failed or were cancelled, from their newest checkpoints
    Resume(Ids),
    /// Delete ended jobs and their checkpoints; published models stay
    Delete(Ids),
}

#[derive(Args, Default)]
struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<JobState>,

    /// Only jobs that publish this model
    #[arg(long, value_parser = name, value_name = "NAME")]
    model: Option<String>,

    #[command(flatten)]
    page: PageArgs,
}

#[derive(Args)]
struct Ids {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
}

fn state(word: &str) -> Result<JobState, String> {
    let known = JobState::ALL.map(JobState::as_str);
    JobState::named(word).ok_or_else(|| crate::fields::unknown("state", word, &known))
}

pub async fn run(args: JobsArgs, output: Output) -> Result<(), CliError> {
    let client = Client::new(&args.server.server)?;
    match args.command.unwrap_or_else(|| JobsCommand::List(ListArgs::default())) {
        JobsCommand::List(args) => list(&client, &args, output).await,
        JobsCommand::Show { id } => show(client.get(&format!("/v1/jobs/{id}")).await?, output),
        JobsCommand::Cancel(Ids { ids }) => change(&client, &ids, "cancel", output).await,
        JobsCommand::Resume(Ids { ids }) => change(&client, &ids, "resume", output).await,
        JobsCommand::Delete(Ids { ids }) => delete_each(&client, "/v1/jobs", &ids, output).await,
    }
}

/// Deletes the items with these names at `path`.
pub async fn delete_each<T: std::fmt::Display>(
    client: &Client,
    path: &str,
    names: &[T],
    output: Output,
) -> Result<(), CliError> {
    let delete = async |name: &T| {
        client.delete(&format!("{path}/{name}")).await?;
        deleted(name, output)
    };
    each(names, output, |_| false, delete).await
}

/// Reports that an item was deleted.
pub fn deleted(what: impl std::fmt::Display, output: Output) -> Result<(), CliError> {
    match output {
        Output { json: true, .. } => print_json(&json!({ "deleted": what.to_string() })),
        Output { quiet: true, .. } => print(what),
        _ => print(format!("deleted {what}")),
    }
}

async fn change(client: &Client, ids: &[JobId], verb: &str, output: Output) -> Result<(), CliError> {
    let work = async |id: &JobId| {
        let answer: Value = client.post_nothing(&format!("/v1/jobs/{id}/{verb}")).await?;
        if output.json {
            return print_json(&answer);
        }
        let job: Job = parsed(answer)?;
        if output.quiet { print(job.id) } else { print(format!("{} {}", job.id, job.state)) }
    };
    each(ids, output, |_| false, work).await
}

async fn list(client: &Client, args: &ListArgs, output: Output) -> Result<(), CliError> {
    let [limit, cursor] = args.page.query();
    let state = ("state", args.state.map(|state| state.to_string()));
    let answer = client.list("/v1/jobs", &[state, ("model", args.model.clone()), limit, cursor]).await?;
    if output.json {
        return print_json(&answer);
    }
    let JobList { jobs, next_cursor } = parsed(answer)?;
    if output.quiet {
        return jobs.iter().try_for_each(|job| print(job.id));
    }
    if jobs.is_empty() {
        let is_whole = args.state.is_none() && args.model.is_none() && args.page.cursor.is_none();
        say(if is_whole { "no jobs yet; send one with: chainrule train" } else { "no such jobs" });
        return Ok(());
    }
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(["ID", "STATE", "MODEL", "EPOCH", "ACCURACY", "CREATED"], &rows, output)?;
    if let Some(cursor) = next_cursor {
        say(format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}

fn row(job: &Job) -> [String; 6] {
    [job.id.to_string(), job.state.to_string(), model(job), epoch(job), accuracy(job), moment(job.created_at)]
}

/// Returns the model that a job publishes, with its version once that is known.
fn model(job: &Job) -> String {
    match &job.result {
        Some(result) => format!("{}@{}", result.model, result.version),
        None => job.model.clone(),
    }
}

fn epoch(job: &Job) -> String {
    format!("{}/{}", job.progress.epoch, job.progress.epochs)
}

/// Returns the test accuracy, or the validation accuracy if there is no test accuracy yet.
fn accuracy(job: &Job) -> String {
    let metrics = job.metrics.as_ref();
    let test = metrics.and_then(|metrics| metrics.test_accuracy).map(percent);
    let validation = metrics.and_then(|metrics| metrics.validation_accuracy);
    or_dash(test.or_else(|| validation.map(|accuracy| format!("val {}", percent(accuracy)))))
}

fn show(answer: Value, output: Output) -> Result<(), CliError> {
    if output.json {
        return print_json(&answer);
    }
    let job: Job = parsed(answer)?;
    if output.quiet {
        return print(job.id);
    }
    let progress = &job.progress;
    details(&[
        ("id", Some(job.id.to_string())),
        ("state", Some(job.state.to_string())),
        ("model", Some(model(&job))),
        ("epoch", Some(format!("{}, step {}/{}", epoch(&job), progress.step, progress.steps))),
        ("loss", job.metrics.as_ref().map(|metrics| format!("{:.4}", metrics.train_loss))),
        ("accuracy", job.metrics.as_ref().map(|_| accuracy(&job))),
        ("attempt", (job.attempt > 1).then(|| job.attempt.to_string())),
        ("created", Some(moment(job.created_at))),
        ("started", job.started_at.map(moment)),
        ("finished", job.finished_at.map(moment)),
        ("error", job.error.map(|error| format!("{} ({})", error.detail, error.code))),
    ])
}
