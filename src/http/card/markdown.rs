//! A model card as Markdown.

use std::fmt::Write;

use crate::api::{Calibration, ClassFigures, Dataset, Evaluation, ModelCard};

/// Most classes whose confusion is shown as a whole.
const MATRIX_MAX: usize = 20;

/// Most pairs of classes that are listed of a larger one.
const CONFUSIONS_MAX: usize = 20;

/// Renders a card.
pub fn render(card: &ModelCard) -> String {
    let mut text = format!("# {}@{}\n\n", card.model, card.version);
    about(&mut text, card);
    network(&mut text, card);
    if let Some(data) = &card.data {
        self::data(&mut text, data);
    }
    if let Some(evaluation) = &card.evaluation {
        figures(&mut text, evaluation);
        classes(&mut text, &evaluation.per_class);
        confusion(&mut text, evaluation);
        calibration(&mut text, &evaluation.calibration);
    }
    text.push_str("\n## Limits of use\n\n");
    for limit in &card.limits {
        let _ = writeln!(text, "- {}", escaped(limit));
    }
    text
}

fn about(text: &mut String, card: &ModelCard) {
    let published = &card.published;
    let source = match published.job_id {
        Some(job) => format!("job {job}"),
        None => published.source.word().to_owned(),
    };
    let aliases = if card.aliases.is_empty() { "–".to_owned() } else { card.aliases.join(", ") };
    for (name, value) in [
        ("", ""),
        ("---", "---"),
        ("published", published.created_at.to_string().as_str()),
        ("source", &source),
        ("aliases", &aliases),
        ("parameters", &published.parameters.to_string()),
        ("classes", &published.classes.len().to_string()),
        ("file", &format!("{} bytes, SHA-256 `{}`", published.size_bytes, published.sha256)),
        ("made by", card.program),
    ] {
        let _ = writeln!(text, "| {name} | {value} |");
    }
}

/// Writes the specification of the job, or else the layers.
fn network(text: &mut String, card: &ModelCard) {
    let (title, json) = match &card.spec {
        Some(spec) => ("Training", serde_json::to_string_pretty(spec)),
        None => ("Network", serde_json::to_string_pretty(&card.published.layers)),
    };
    let _ = write!(text, "\n## {title}\n\n```json\n{}\n```\n", json.unwrap_or_default());
}

fn data(text: &mut String, data: &Dataset) {
    let [height, width] = data.shape;
    let _ = write!(
        text,
        "\n## Data\n\n`{}`: {} training and {} test examples of {} classes, {height}×{width} grey pixels.\n\
         SHA-256 of its content: `{}`.\n",
        data.name,
        data.splits.train.examples,
        data.splits.test.examples,
        data.classes.len(),
        data.sha256,
    );
}

fn figures(text: &mut String, evaluation: &Evaluation) {
    let interval = evaluation.accuracy_interval;
    let _ = write!(
        text,
        "\n## Figures\n\nOn the {} examples of the {} split of `{}`:\n\n| | |\n| --- | ---: |\n\
         | accuracy | {} |\n| 95 % interval (Wilson) | {} – {} |\n| mean cross-entropy | {:.4} |\n\
         | expected calibration error | {} |\n| wrong with a confidence of at least {:.0} % | {} |\n",
        evaluation.examples,
        evaluation.split.word(),
        evaluation.dataset,
        percent(evaluation.accuracy),
        percent(interval.low),
        percent(interval.high),
        evaluation.loss,
        percent(evaluation.calibration.expected_calibration_error),
        100.0 * evaluation.confidently_wrong.confidence_min,
        evaluation.confidently_wrong.count,
    );
}

fn classes(text: &mut String, classes: &[ClassFigures]) {
    text.push_str("\n### Classes\n\n| class | precision | recall | F1 | examples |\n| --- | ---: | ---: | ---: | ---: |\n");
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), percent);
    for figures in classes {
        let [precision, recall, f1] = [figures.precision, figures.recall, figures.f1].map(shown);
        let class = escaped(&figures.class);
        let _ = writeln!(text, "| {class} | {precision} | {recall} | {f1} | {} |", figures.support);
    }
}

fn confusion(text: &mut String, evaluation: &Evaluation) {
    let names: Vec<String> = evaluation.per_class.iter().map(|figures| escaped(&figures.class)).collect();
    if names.len() > MATRIX_MAX {
        return confusions(text, &evaluation.confusion, &names);
    }
    text.push_str("\n### Confusion\n\nA row for each true class, a column for each class that is read.\n\n");
    let _ = writeln!(text, "| | {} |\n| --- |{}", names.join(" | "), " ---: |".repeat(names.len()));
    for (name, row) in names.iter().zip(&evaluation.confusion) {
        let row: Vec<String> = row.iter().map(u32::to_string).collect();
        let _ = writeln!(text, "| **{name}** | {} |", row.join(" | "));
    }
}

/// Writes the most frequent confusions of many classes.
fn confusions(text: &mut String, confusion: &[Vec<u32>], names: &[String]) {
    let of_row = |(label, row): (usize, &Vec<u32>)| -> Vec<(u32, usize, usize)> {
        let wrong = row.iter().enumerate().filter(|(read, count)| *read != label && **count > 0);
        wrong.map(|(read, &count)| (count, label, read)).collect()
    };
    let mut pairs: Vec<_> = confusion.iter().enumerate().flat_map(of_row).collect();
    pairs.sort_by_key(|&(count, label, read)| (std::cmp::Reverse(count), label, read));
    text.push_str("\n### Most frequent confusions\n\n| class | read as | examples |\n| --- | --- | ---: |\n");
    for (count, label, read) in pairs.into_iter().take(CONFUSIONS_MAX) {
        let _ = writeln!(text, "| {} | {} | {count} |", names[label], names[read]);
    }
}

fn calibration(text: &mut String, calibration: &Calibration) {
    text.push_str(
        "\n### Calibration\n\n| confidence | examples | mean confidence | accuracy |\n| --- | ---: | ---: | ---: |\n",
    );
    for bin in &calibration.bins {
        if let (Some(confidence), Some(accuracy)) = (bin.mean_confidence, bin.accuracy) {
            let (from, to) = (100.0 * bin.from, 100.0 * bin.to);
            let (confidence, accuracy) = (percent(confidence), percent(accuracy));
            let _ = writeln!(text, "| {from:.1} – {to:.1} % | {} | {confidence} | {accuracy} |", bin.count);
        }
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// Escapes what Markdown and HTML would interpret, since the names of classes come from clients.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\`*_[]<>&|#~".contains(character) {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { ' ' } else { character });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_can_not_change_the_page() {
        assert_eq!(escaped("a|b\n<script>"), "a\\|b \\<script\\>");
        assert_eq!(escaped("7"), "7");
    }

    #[test]
    fn of_many_classes_the_most_frequent_confusions_are_listed() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let mut text = String::new();
        confusions(&mut text, &[vec![9, 1, 0], vec![0, 9, 3], vec![1, 0, 9]], &names);
        assert!(text.ends_with("| b | c | 3 |\n| a | b | 1 |\n| c | a | 1 |\n"), "{text}");
    }
}
