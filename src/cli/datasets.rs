use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, parsed};
use super::table::{details, table};
use super::{CliError, Output, PageArgs, ServerArgs, name, print, print_json};
use crate::api::{Dataset, DatasetEntry, DatasetList, SplitCounts, Splits};

const EXAMPLES: &str = "\
Examples:
  chainrule datasets
  chainrule datasets show mnist";

/// Arguments of `chainrule datasets`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DatasetsArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(subcommand)]
    command: Option<DatasetsCommand>,
}

#[derive(Subcommand)]
enum DatasetsCommand {
    /// List data sets
    List(PageArgs),
    /// Show the shape, mean, deviation and classes of a data set
    Show {
        /// Name of the data set
        #[arg(value_parser = name)]
        name: String,
    },
}

pub async fn run(args: DatasetsArgs, output: Output) -> Result<(), CliError> {
    let client = Client::new(&args.server.server)?;
    match args.command.unwrap_or_else(|| DatasetsCommand::List(PageArgs::default())) {
        DatasetsCommand::List(page) => list(client.list("/v1/datasets", &page.query()).await?, output),
        DatasetsCommand::Show { name } => show(client.get(&format!("/v1/datasets/{name}")).await?, output),
    }
}

fn list(answer: Value, output: Output) -> Result<(), CliError> {
    if output.json {
        return print_json(&answer);
    }
    let DatasetList { datasets, .. } = parsed(answer)?;
    if output.quiet {
        return datasets.iter().try_for_each(|dataset| print(&dataset.name));
    }
    let row = |dataset: &DatasetEntry| {
        [dataset.name.clone(), dataset.classes.to_string(), dataset.train_examples.to_string()]
    };
    let rows: Vec<_> = datasets.iter().map(row).collect();
    table(["NAME", "CLASSES", "TRAIN"], &rows, output)
}

fn show(answer: Value, output: Output) -> Result<(), CliError> {
    if output.json {
        return print_json(&answer);
    }
    let dataset: Dataset = parsed(answer)?;
    if output.quiet {
        return print(dataset.name);
    }
    let [height, width] = dataset.shape;
    details(&[
        ("name", Some(dataset.name)),
        ("shape", Some(format!("{height}×{width}"))),
        ("sha256", Some(dataset.sha256)),
        ("mean", Some(format!("{:.4}", dataset.mean))),
        ("deviation", Some(format!("{:.4}", dataset.deviation))),
    ])?;
    print("")?;
    let Splits { train, test } = &dataset.splits;
    let of_class =
        |split: &SplitCounts, class: usize| split.per_class.get(class).map_or(0, |count| *count).to_string();
    let classes = dataset.classes.iter().enumerate();
    let mut rows: Vec<[String; 3]> =
        classes.map(|(class, name)| [name.clone(), of_class(train, class), of_class(test, class)]).collect();
    rows.push(["all".to_owned(), train.examples.to_string(), test.examples.to_string()]);
    table(["CLASS", "TRAIN", "TEST"], &rows, output)
}
