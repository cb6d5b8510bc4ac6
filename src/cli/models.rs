use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, parsed};
use super::evaluation::{self, CompareArgs, EvaluateArgs};
use super::exchange::{self, ExportArgs, ImportArgs};
use super::jobs::{delete_each, deleted};
use super::table::{moment, or_dash, percent, table};
use super::{CliError, Output, PageArgs, ServerArgs, name, print, print_json, say};
use crate::api::{Model, ModelEntry, ModelList, ModelVersion};
use crate::model::{ModelRef, Selector};

const EXAMPLES: &str = "\
Examples:
  chainrule models                     list the models, last published first
  chainrule models show digits         list its versions
  chainrule models evaluate digits     read the test examples, and show what it misreads
  chainrule models compare digits@1 digits@2
  chainrule models export digits digits.onnx
  chainrule models import digits network.onnx
  chainrule models alias digits@2 champion
  chainrule models delete digits@1 digits@3
  chainrule models list --json | jq '.models[].name'";

/// Arguments of `chainrule models`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List models, last published first
    List(PageArgs),
    /// Show the versions of a model, newest first
    Show {
        /// The model: NAME, NAME@VERSION or NAME@ALIAS
        #[arg(value_name = "REF")]
        model: ModelRef,

        #[command(flatten)]
        page: PageArgs,
    },
    /// Read the labelled examples of a data set, and show how well
    Evaluate(EvaluateArgs),
    /// Compare two models on the same examples
    Compare(CompareArgs),
    /// Write a model to a file, as safetensors or ONNX
    Export(ExportArgs),
    /// Publish a network from a safetensors or ONNX file as the next version of a model
    Import(ImportArgs),
    /// Point an alias to a version; predictions by NAME@ALIAS use it at once
    Alias {
        /// The version: NAME@VERSION
        #[arg(value_name = "REF")]
        model: ModelRef,

        /// Name of the alias; `default` decides what a bare NAME refers to
        #[arg(value_parser = name)]
        alias: String,
    },
    /// Delete an alias; its version stays
    Unalias {
        /// The alias: NAME@ALIAS
        #[arg(value_name = "REF")]
        alias: ModelRef,
    },
    /// Delete versions that have no alias
    Delete {
        /// The versions: NAME@VERSION
        #[arg(required = true, value_name = "REF")]
        models: Vec<ModelRef>,
    },
}

pub async fn run(args: ModelsArgs, output: Output) -> Result<(), CliError> {
    let client = Client::new(&args.server.server)?;
    match args.command.unwrap_or_else(|| ModelsCommand::List(PageArgs::default())) {
        ModelsCommand::List(page) => list(client.list("/v1/models", &page.query()).await?, output),
        ModelsCommand::Show { model, page } => {
            show(client.list(&format!("/v1/models/{model}"), &page.query()).await?, output)
        }
        ModelsCommand::Evaluate(evaluate) => evaluation::evaluate(&args.server, evaluate, output).await,
        ModelsCommand::Compare(compare) => evaluation::compare(&args.server, compare, output).await,
        ModelsCommand::Export(args) => exchange::export(&client, args, output).await,
        ModelsCommand::Import(args) => exchange::import(&client, args, output).await,
        ModelsCommand::Alias { model, alias } => set_alias(&client, &model, &alias, output).await,
        ModelsCommand::Unalias { alias } => {
            let Selector::Alias(word) = &alias.selector else {
                return Err(needs(&alias, "is not an alias", "NAME@ALIAS, such as digits@champion"));
            };
            client.delete(&format!("/v1/models/{}/aliases/{word}", alias.name)).await?;
            deleted(&alias, output)
        }
        ModelsCommand::Delete { models } => delete_each(&client, "/v1/models", &models, output).await,
    }
}

async fn set_alias(client: &Client, model: &ModelRef, alias: &str, output: Output) -> Result<(), CliError> {
    let Selector::Version(version) = model.selector else {
        return Err(needs(model, "is not a version", "NAME@VERSION, such as digits@2"));
    };
    let path = format!("/v1/models/{}/aliases/{alias}", model.name);
    let answer: Value = client.put(&path, &json!({ "version": version })).await?;
    match output {
        Output { json: true, .. } => print_json(&answer),
        Output { quiet: true, .. } => print(format!("{}@{alias}", model.name)),
        _ => print(format!("{}@{alias} is {model}", model.name)),
    }
}

fn needs(reference: &ModelRef, what: &str, form: &str) -> CliError {
    CliError::Usage { what: format!("{reference} {what}"), hint: format!("write {form}") }
}

fn list(answer: Value, output: Output) -> Result<(), CliError> {
    if output.json {
        return print_json(&answer);
    }
    let ModelList { models, next_cursor } = parsed(answer)?;
    if output.quiet {
        return models.iter().try_for_each(|model| print(&model.name));
    }
    if models.is_empty() {
        say("no models yet; train one with: chainrule train");
        return Ok(());
    }
    let rows: Vec<_> = models.iter().map(row).collect();
    table(["NAME", "NEWEST", "VERSIONS", "ACCURACY", "PARAMETERS", "PUBLISHED", "ALIASES"], &rows, output)?;
    hint(next_cursor);
    Ok(())
}

fn row(model: &ModelEntry) -> [String; 7] {
    let newest = model.versions.first();
    let of_newest = |figure: fn(&ModelVersion) -> String| or_dash(newest.map(figure));
    let aliases = model.aliases.iter().map(|(alias, version)| format!("{alias}={version}"));
    [
        model.name.clone(),
        of_newest(|newest| newest.version.to_string()),
        model.version_count.to_string(),
        of_newest(|newest| or_dash(newest.test_accuracy.map(percent))),
        of_newest(|newest| newest.parameters.to_string()),
        of_newest(|newest| moment(newest.created_at)),
        aliases.collect::<Vec<_>>().join(" "),
    ]
}

fn show(answer: Value, output: Output) -> Result<(), CliError> {
    if output.json {
        return print_json(&answer);
    }
    let model: Model = parsed(answer)?;
    let references = model.versions.iter().map(|version| format!("{}@{}", model.name, version.version));
    if output.quiet {
        return references.into_iter().try_for_each(print);
    }
    let aliases = |version: u32| {
        let aliases = model.aliases.iter().filter(|(_, meant)| **meant == version);
        aliases.map(|(alias, _)| alias.as_str()).collect::<Vec<_>>().join(" ")
    };
    let row = |(reference, version): (String, &ModelVersion)| {
        [
            reference,
            or_dash(version.test_accuracy.map(percent)),
            version.parameters.to_string(),
            version.size_bytes.to_string(),
            moment(version.created_at),
            version.job_id.map_or_else(|| version.source.word().to_owned(), |id| id.to_string()),
            aliases(version.version),
        ]
    };
    let rows: Vec<_> = references.zip(&model.versions).map(row).collect();
    table(["MODEL", "ACCURACY", "PARAMETERS", "BYTES", "PUBLISHED", "JOB", "ALIASES"], &rows, output)?;
    hint(model.next_cursor);
    Ok(())
}

/// Prints how to get the next page.
fn hint(next_cursor: Option<String>) {
    if let Some(cursor) = next_cursor {
        say(format!("there are more: --cursor {cursor}"));
    }
}
