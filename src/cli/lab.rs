use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{CliError, Output, ServerArgs, print, print_json};
use crate::api;
use crate::data;
use crate::fields::Fault;
use crate::graph::{self, GraphError, Location};
use crate::lab::{self, CheckRequest, LabLimits, NetworkRequest, Question};
use crate::model::ModelRef;
use crate::train::SpecLimits;

const GRAPH_EXAMPLES: &str = "\
Examples:
  chainrule graph 'x = a + b; y = b + c; x*y' a=-1 b=3 c=4
  chainrule graph 'sigmoid(w*x + b)' w=2 x=-1 b=0.5 --svg graph.svg
  chainrule graph --json 'a^2' a=3

This command needs no server.";

/// Arguments of `chainrule graph`.
#[derive(Args)]
#[command(after_help = GRAPH_EXAMPLES)]
pub struct GraphArgs {
    /// The expression, after its bindings: x = a + b; x^2
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    expression: String,

    /// Value of an input, such as a=-1
    #[arg(value_name = "NAME=VALUE", value_parser = input)]
    inputs: Vec<(String, f64)>,

    /// Write a drawing to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn input(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE, such as a=-1")?;
    let number: f64 =
        value.trim().replace('−', "-").parse().map_err(|_| format!("{value:?} is not a number"))?;
    if !number.is_finite() {
        return Err(format!("{value} is beyond what f64 holds"));
    }
    Ok((name.trim().to_owned(), number))
}

/// Differentiates an expression by the chain rule.
pub fn graph(args: &GraphArgs, output: Output) -> Result<(), CliError> {
    let mut inputs = BTreeMap::new();
    for (name, value) in &args.inputs {
        if inputs.insert(name.clone(), *value).is_some() {
            let what = format!("input {name} is given twice");
            return Err(CliError::Usage { what, hint: "give each input one value".to_owned() });
        }
    }
    let graph = graph::differentiate(&args.expression, &inputs)
        .map_err(|errors| at_its_place(&args.expression, &errors))?;
    if let Some(file) = &args.svg {
        let written = std::fs::write(file, graph.svg());
        written.map_err(|error| CliError::failed(format!("can't write {}", file.display()), error))?;
    }
    if output.json {
        print_json(&api::Graph::from(graph))
    } else if output.quiet {
        print(graph.value)
    } else {
        print(graph.text().trim_end())
    }
}

/// How many columns of an expression are shown around an error.
const SHOWN: usize = 60;

/// Makes an error with the expression and a mark below the position of the first fault.
fn at_its_place(expression: &str, errors: &[GraphError]) -> CliError {
    let what = errors.iter().map(GraphError::to_string).collect::<Vec<_>>().join("; ");
    let column = errors.iter().find_map(|error| match error.location {
        Location::Column(column) => Some(column),
        Location::Input(_) => None,
    });
    let Some(column) = column else { return CliError::Usage { what, hint: GRAPH_HINT.to_owned() } };
    let first = column.saturating_sub(SHOWN / 2).saturating_sub(1);
    let part: String = expression.chars().skip(first).take(SHOWN).collect();
    let part = part.replace(char::is_whitespace, " ");
    let before: String = part.chars().take(column - 1 - first).collect();
    let mark = format!("{}^", " ".repeat(console::measure_text_width(&before)));
    CliError::UsageAt { what, text: part, mark }
}

const GRAPH_HINT: &str = "see chainrule graph --help";

const SUMMARY_HINT: &str = "see chainrule summary --help";

const GRADIENT_CHECK_HINT: &str =
    "NETWORK is a preset or layers as JSON; see chainrule gradient-check --help";

const SUMMARY_EXAMPLES: &str = "\
Examples:
  chainrule summary mlp
  chainrule summary cnn-best --batch-size 64
  chainrule summary '{\"layers\": [{\"type\": \"dense\", \"units\": 10}]}'

This command needs no server.";

/// Arguments of `chainrule summary`.
#[derive(Args)]
#[command(after_help = SUMMARY_EXAMPLES)]
pub struct SummaryArgs {
    /// A preset, or layers as JSON
    #[arg(value_name = "NETWORK")]
    network: String,

    /// Images in a batch
    #[arg(long, value_name = "N")]
    batch_size: Option<u64>,
}

/// Prints the shapes, parameters, operations and bytes of a network.
pub fn summary(args: &SummaryArgs, output: Output) -> Result<(), CliError> {
    let request = request(&args.network, [("batch_size", args.batch_size)])?;
    let parsed = NetworkRequest::parse(&request, &data::mnist::shape(), &SpecLimits::default())
        .map_err(|faults| reported(&faults, SUMMARY_HINT))?;
    let summary = parsed.answer().map_err(|faults| reported(&faults, SUMMARY_HINT))?;
    if output.json {
        print_json(&api::NetworkSummary::from(summary))
    } else if output.quiet {
        print(summary.parameters)
    } else {
        print(summary.text().trim_end())
    }
}

const GRADIENT_CHECK_EXAMPLES: &str = "\
Examples:
  chainrule gradient-check lesson
  chainrule gradient-check cnn-fast --samples 4 --parameters 20
  chainrule gradient-check --json mlp | jq .max_relative_error

This command needs no server.";

/// Arguments of `chainrule gradient-check`.
#[derive(Args)]
#[command(after_help = GRADIENT_CHECK_EXAMPLES)]
pub struct GradientCheckArgs {
    /// A preset, or layers as JSON
    #[arg(value_name = "NETWORK")]
    network: String,

    /// MNIST images in the batch
    #[arg(long, value_name = "N")]
    samples: Option<u64>,

    /// Elements to check of each weight and each bias
    #[arg(long, value_name = "N")]
    parameters: Option<u64>,

    /// Seed for the weights, the images and the choice of elements
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Compares backpropagation with numerical differentiation.
pub fn gradient_check(args: &GradientCheckArgs, output: Output) -> Result<(), CliError> {
    let fields = [("samples", args.samples), ("parameters", args.parameters), ("seed", args.seed)];
    let request = request(&args.network, fields)?;
    let limits = LabLimits::default();
    let reported = |faults: Vec<Fault>| reported(&faults, GRADIENT_CHECK_HINT);
    let request = CheckRequest::parse(&request, &data::shapes(), &limits).map_err(reported)?;
    let begin = Instant::now();
    let check = lab::check_drawn(&request, &data::mnist::dataset(), &limits, &|| begin.elapsed())
        .map_err(reported)?;
    if output.json {
        print_json(&api::GradientCheck::from(check))
    } else if output.quiet {
        print(format!("{:e}", check.max_relative_error))
    } else {
        print(check.text().trim_end())
    }
}

/// Makes the request for a network, which is a preset or layers. Adds the numbers that are given.
fn request<const N: usize>(network: &str, numbers: [(&str, Option<u64>); N]) -> Result<Value, CliError> {
    let network: Value = match network.trim_start().starts_with('{') {
        true => serde_json::from_str(network).map_err(|error| CliError::Usage {
            what: "the network is not JSON".to_owned(),
            hint: error.to_string(),
        })?,
        false => network.into(),
    };
    let mut request = Map::from_iter([("network".to_owned(), network)]);
    for (name, number) in numbers {
        request.extend(number.map(|number| (name.to_owned(), number.into())));
    }
    Ok(request.into())
}

/// Makes an error of all faults, or of a single one with a hint.
fn reported(faults: &[Fault], hint: &str) -> CliError {
    let mut lines = faults.iter().map(|fault| match fault.pointer.as_str() {
        "" => fault.detail.clone(),
        pointer => format!("{}: {}", pointer.trim_start_matches('/'), fault.detail),
    });
    let what = lines.next().unwrap_or_default();
    let more: Vec<String> = lines.collect();
    let hint = if more.is_empty() { hint.to_owned() } else { more.join("; ") };
    CliError::Usage { what, hint }
}

const TRACE_EXAMPLES: &str = "\
Examples:
  chainrule trace 0                                 the first test image of MNIST
  chainrule trace 8 --label 6 --learning-rate 0.01
  chainrule trace --json 0 | jq .loss_after";

/// Arguments of `chainrule trace`.
#[derive(Args)]
#[command(after_help = TRACE_EXAMPLES)]
pub struct TraceArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(long, default_value = "digits", value_name = "REF")]
    model: ModelRef,

    /// Data set that contains the test image INDEX
    #[arg(long, default_value = "mnist", value_name = "NAME")]
    dataset: String,

    /// Class that the network should predict [default: the label of the image]
    #[arg(long, value_name = "CLASS")]
    label: Option<u64>,

    /// Learning rate of the one update
    #[arg(long, default_value_t = 0.1, value_name = "RATE", value_parser = rate)]
    learning_rate: f64,

    /// Number of a test image, from 0
    #[arg(value_name = "INDEX")]
    index: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
    rate.ok_or_else(|| "must be a number above 0".to_owned())
}

/// Prints one step of backpropagation on one image.
pub async fn trace(args: TraceArgs, output: Output) -> Result<(), CliError> {
    let client = Client::new(&args.server.server)?;
    let mut request = json!({
        "example": { "dataset": args.dataset, "split": "test", "index": args.index },
        "learning_rate": args.learning_rate,
    });
    if let Some(label) = args.label {
        request["label"] = label.into();
    }
    let path = format!("/v1/models/{}/trace", args.model);
    if output.json || output.quiet {
        let trace: Value = client.post(&path, "application/json", request.to_string()).await?;
        return if output.json { print_json(&trace) } else { print(&trace["loss_after"]) };
    }
    print(client.post_for_text(&path, &request).await?.trim_end())
}
