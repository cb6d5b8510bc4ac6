//! Evaluations and comparisons of models, as text for people.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, parsed};
use super::table::{details, or_dash, percent, table};
use super::{CliError, Output, PageArgs, ServerArgs, name, print, print_json, say, style};
use crate::api::{Comparison, Difference, Evaluation, Reading};
use crate::model::ModelRef;

/// How long a server may be silent. A model that is almost too large takes minutes to read all examples.
const PATIENCE: Duration = Duration::from_secs(600);

/// Most classes whose confusion is printed as a whole, and most pairs of classes of a larger one.
const MATRIX_MAX: usize = 20;
const CONFUSIONS_MAX: usize = 10;

/// The examples to read.
#[derive(Args)]
pub struct ExamplesArgs {
    /// Data set that contains the examples
    #[arg(long, default_value = "mnist", value_name = "NAME", value_parser = name)]
    dataset: String,

    /// Split of the data set
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: Split,
}

#[derive(Clone, Copy, ValueEnum)]
enum Split {
    Train,
    Test,
}

impl Split {
    fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Arguments of `chainrule models evaluate`.
#[derive(Args)]
pub struct EvaluateArgs {
    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "REF")]
    model: ModelRef,

    #[command(flatten)]
    examples: ExamplesArgs,

    /// Examples with the highest loss to list
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=200))]
    worst: u32,

    /// With --json, print what the model reads in every example
    #[arg(long)]
    predictions: bool,
}

/// Arguments of `chainrule models compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// The first model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "A")]
    a: ModelRef,

    /// The second model
    #[arg(value_name = "B")]
    b: ModelRef,

    #[command(flatten)]
    examples: ExamplesArgs,

    /// Which examples to list: those that both models read rightly, only one of them, or neither
    #[arg(long, default_value = "only_a", value_name = "CELL")]
    cell: Cell,

    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Cell {
    BothRight,
    OnlyA,
    OnlyB,
    BothWrong,
}

impl Cell {
    fn word(self) -> &'static str {
        match self {
            Self::BothRight => "both_right",
            Self::OnlyA => "only_a",
            Self::OnlyB => "only_b",
            Self::BothWrong => "both_wrong",
        }
    }
}

/// Evaluates a model and prints its figures.
pub async fn evaluate(server: &ServerArgs, args: EvaluateArgs, output: Output) -> Result<(), CliError> {
    let client = Client::patient(&server.server, PATIENCE)?;
    let request = json!({
        "dataset": args.examples.dataset, "split": args.examples.split.word(),
        "predictions": args.predictions && output.json, "worst": args.worst,
    });
    let path = format!("/v1/models/{}/evaluate", args.model);
    let answer: Value = client.post(&path, "application/json", request.to_string()).await?;
    if output.json {
        return print_json(&answer);
    }
    let evaluation: Evaluation = parsed(answer)?;
    if output.quiet {
        return print(evaluation.accuracy);
    }
    figures(&evaluation)?;
    print("")?;
    classes(&evaluation, output)?;
    print("")?;
    confusion(&evaluation, output)?;
    readings("worst examples", &evaluation, &evaluation.worst, output)?;
    readings("confidently wrong", &evaluation, &evaluation.confidently_wrong.examples, output)
}

fn figures(evaluation: &Evaluation) -> Result<(), CliError> {
    let Evaluation { accuracy_interval: interval, confidently_wrong, .. } = evaluation;
    let accuracy = percent(evaluation.accuracy);
    let wrong = evaluation.examples - evaluation.correct;
    let (confident, least) = (confidently_wrong.count, 100.0 * confidently_wrong.confidence_min);
    details(&[
        ("model", Some(format!("{}@{}", evaluation.model, evaluation.version))),
        (
            "examples",
            Some(format!("{} of {} {}", evaluation.examples, evaluation.dataset, evaluation.split.word())),
        ),
        (
            "accuracy",
            Some(format!("{accuracy}, 95 %: {} to {}", percent(interval.low), percent(interval.high))),
        ),
        ("loss", Some(format!("{:.4}", evaluation.loss))),
        ("wrong", Some(format!("{wrong}, of which {confident} with a confidence of at least {least:.0} %"))),
        ("calibration error", Some(percent(evaluation.calibration.expected_calibration_error))),
    ])
}

fn classes(evaluation: &Evaluation, output: Output) -> Result<(), CliError> {
    let rows: Vec<_> = evaluation
        .per_class
        .iter()
        .map(|figures| {
            let [precision, recall, f1] =
                [figures.precision, figures.recall, figures.f1].map(|value| or_dash(value.map(percent)));
            [figures.class.clone(), precision, recall, f1, figures.support.to_string()]
        })
        .collect();
    table(["CLASS", "PRECISION", "RECALL", "F1", "EXAMPLES"], &rows, output)
}

/// Prints the confusion of few classes as a matrix, or else its largest numbers.
fn confusion(evaluation: &Evaluation, output: Output) -> Result<(), CliError> {
    let classes = evaluation.per_class.len();
    let class = |label: usize| evaluation.per_class[label].class.as_str();
    if classes <= MATRIX_MAX {
        let names: Vec<&str> = (0..classes).map(class).collect();
        let is_colored = style::is_colored(output.color, &std::io::stdout());
        return matrix(&names, &evaluation.confusion, is_colored).iter().try_for_each(print);
    }
    let of_row = |(label, row): (usize, &Vec<u32>)| -> Vec<(u32, usize, usize)> {
        let wrong = row.iter().enumerate().filter(|(read, count)| *read != label && **count > 0);
        wrong.map(|(read, &count)| (count, label, read)).collect()
    };
    let mut pairs: Vec<_> = evaluation.confusion.iter().enumerate().flat_map(of_row).collect();
    pairs.sort_by_key(|&(count, label, read)| (std::cmp::Reverse(count), label, read));
    pairs.truncate(CONFUSIONS_MAX);
    let row =
        |(count, label, read)| [class(label).to_owned(), class(read).to_owned(), u32::to_string(&count)];
    table(["CLASS", "READ AS", "EXAMPLES"], &pairs.into_iter().map(row).collect::<Vec<_>>(), output)
}

/// Returns the lines of a confusion matrix: a row for each true class, a column for each class that is read.
fn matrix(names: &[&str], counts: &[Vec<u32>], is_colored: bool) -> Vec<String> {
    const CORNER: &str = "TRUE \\ READ";
    let shown = |count: u32| if count == 0 { "·".to_owned() } else { count.to_string() };
    let cells = counts.iter().flatten().map(|&count| shown(count).chars().count());
    let widest =
        |names: &[&str]| names.iter().map(|name| console::measure_text_width(name)).max().unwrap_or(0);
    let width = cells.max().unwrap_or(0).max(widest(names));
    let first = widest(names).max(CORNER.len());
    let line = |head: &str, cells: Vec<String>| {
        let pad =
            |text: &str, width: usize| " ".repeat(width.saturating_sub(console::measure_text_width(text)));
        let cells = cells.iter().map(|cell| format!("  {}{cell}", pad(cell, width)));
        format!("{head}{}{}", pad(head, first), cells.collect::<String>())
    };
    let head = line(CORNER, names.iter().map(|&name| name.to_owned()).collect());
    let rows = names.iter().zip(counts);
    let rows = rows.map(|(name, row)| line(name, row.iter().map(|&count| shown(count)).collect()));
    [style::bold(&head, is_colored)].into_iter().chain(rows).collect()
}

fn readings(
    title: &str,
    evaluation: &Evaluation,
    readings: &[Reading],
    output: Output,
) -> Result<(), CliError> {
    if readings.is_empty() {
        return Ok(());
    }
    print(format!("\n{title}"))?;
    let class = |label: u16| evaluation.per_class[usize::from(label)].class.clone();
    let row = |read: &Reading| {
        let confidence = percent(f64::from(read.confidence));
        [
            read.index.to_string(),
            class(read.label),
            class(read.predicted),
            confidence,
            format!("{:.3}", read.loss),
        ]
    };
    let rows: Vec<_> = readings.iter().map(row).collect();
    table(["INDEX", "CLASS", "READ AS", "CONFIDENCE", "LOSS"], &rows, output)
}

/// Compares two models and prints the table of both.
pub async fn compare(server: &ServerArgs, args: CompareArgs, output: Output) -> Result<(), CliError> {
    let client = Client::patient(&server.server, PATIENCE)?;
    let [limit, cursor] = args.page.query();
    let query = [
        ("dataset", Some(args.examples.dataset)),
        ("split", Some(args.examples.split.word().to_owned())),
        ("cell", Some(args.cell.word().to_owned())),
        limit,
        cursor,
    ];
    let answer = client.list(&format!("/v1/models/{}/compare/{}", args.a, args.b), &query).await?;
    if output.json {
        return print_json(&answer);
    }
    let comparison: Comparison = parsed(answer)?;
    if output.quiet {
        return print(comparison.mcnemar.p_value);
    }
    let [a, b] = [&comparison.a, &comparison.b].map(|model| format!("{}@{}", model.model, model.version));
    let examples = format!("{} of {} {}", comparison.examples, comparison.dataset, comparison.split.word());
    details(&[
        ("examples", Some(examples)),
        (&format!("A: {a}"), Some(percent(comparison.a.accuracy))),
        (&format!("B: {b}"), Some(percent(comparison.b.accuracy))),
    ])?;
    print("")?;
    let row =
        |name: &str, counts: [usize; 2]| [name.to_owned(), counts[0].to_string(), counts[1].to_string()];
    let rows = [
        row("A right", [comparison.both_right, comparison.only_a]),
        row("A wrong", [comparison.only_b, comparison.both_wrong]),
    ];
    table(["", "B RIGHT", "B WRONG"], &rows, output)?;
    print(format!("\n{}", in_words(&comparison)))?;
    differences(args.cell, &comparison, output)?;
    if let Some(cursor) = comparison.next_cursor {
        say(format!("there are more: --cursor {cursor}"));
    }
    Ok(())
}

/// Returns McNemar's test as a sentence.
fn in_words(comparison: &Comparison) -> String {
    let test = match comparison.mcnemar.statistic {
        Some(statistic) => format!("χ² = {statistic:.2}"),
        None => "exact".to_owned(),
    };
    let p = comparison.mcnemar.p_value;
    let p = if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") };
    format!(
        "McNemar's test ({test}): p = {p}, the probability of a difference at least as large between equally good models"
    )
}

fn differences(cell: Cell, comparison: &Comparison, output: Output) -> Result<(), CliError> {
    let title = match cell {
        Cell::BothRight => "both are right",
        Cell::OnlyA => "only A is right",
        Cell::OnlyB => "only B is right",
        Cell::BothWrong => "both are wrong",
    };
    if comparison.differences.is_empty() {
        return Ok(());
    }
    print(format!("\n{title}"))?;
    let row = |found: &Difference| {
        let confidence = |confidence: f32| percent(f64::from(confidence));
        [
            found.index.to_string(),
            found.label.to_string(),
            found.a.predicted.to_string(),
            confidence(found.a.confidence),
            found.b.predicted.to_string(),
            confidence(found.b.confidence),
        ]
    };
    let rows: Vec<_> = comparison.differences.iter().map(row).collect();
    table(["INDEX", "LABEL", "A READS", "CONFIDENCE", "B READS", "CONFIDENCE"], &rows, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_aligned_to_the_right() {
        let lines = matrix(&["a", "가나"], &[vec![100, 0], vec![7, 20]], false);
        assert_eq!(lines, ["TRUE \\ READ     a  가나", "a             100     ·", "가나            7    20"]);
    }
}
