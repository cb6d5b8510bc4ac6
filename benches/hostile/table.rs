//! Figures as Markdown.

use std::fmt::Write;

use crate::attack::{Attack, Kind};
use crate::good::Figures;
use crate::trial::Trial;
use crate::who::{Came, Case};

/// An attack, and the trial of each side with its label.
pub type Row<'a> = (&'a Attack, Vec<(&'static str, Trial)>);

const HEADER: &str = "\
| attack | server | attackers got | server lived | peak, MB | 5 s later, MB | p50, ms | p95, ms | p99, ms | newcomer p95, ms | refused |
| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: | --: |
";

/// Returns the tables of the attacks on memory and of the attacks that starve others, each with the meaning
/// of the names.
pub fn of_attacks(rows: &[Row]) -> String {
    let mut text = String::new();
    for (kind, title) in [(Kind::Memory, "Memory"), (Kind::Starvation, "Starvation")] {
        let rows: Vec<&Row> = rows.iter().filter(|(attack, _)| attack.kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!("### {title}\n\n{HEADER}"));
        for (attack, trials) in &rows {
            for (index, (label, trial)) in trials.iter().enumerate() {
                let name = if index == 0 { format!("`{}`", attack.name) } else { String::new() };
                text.push_str(&line(&name, label, trial));
            }
        }
        text.push_str("\n| attack | what is done | the defence |\n| --- | --- | --- |\n");
        for (attack, _) in &rows {
            let _ = writeln!(text, "| `{}` | {} | {} |", attack.name, attack.what, attack.defence);
        }
        text.push('\n');
    }
    text
}

/// Returns a row of the table.
pub fn line(name: &str, label: &str, trial: &Trial) -> String {
    let got = match &trial.got.verdict {
        Some(verdict) => verdict.to_string(),
        None => trial.got.answers.to_string(),
    };
    let lived = match &trial.died {
        Some(death) => format!("**{}**", death.shown()),
        None => "yes".to_owned(),
    };
    let after = trial.after.map_or_else(|| "–".to_owned(), |bytes| format!("{:+.0}", bytes as f64 / 1e6));
    let (idle, beside) = (&trial.idle, &trial.beside);
    let pair = |idle: &Figures, beside: &Figures, share: f64| {
        format!("{} → {}", milliseconds(idle.quantile(share)), milliseconds(beside.quantile(share)))
    };
    format!(
        "| {name} | {label} | {got} | {lived} | +{:.0} | {after} | {} | {} | {} | {} | {} of {}, {} of {} |\n",
        trial.peak as f64 / 1e6,
        pair(&idle.steady, &beside.steady, 0.5),
        pair(&idle.steady, &beside.steady, 0.95),
        pair(&idle.steady, &beside.steady, 0.99),
        pair(&idle.newcomer, &beside.newcomer, 0.95),
        beside.steady.refused_count(),
        beside.steady.asked_count(),
        beside.newcomer.refused_count(),
        beside.newcomer.asked_count(),
    )
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value.is_infinite() => "refused".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Returns the table of single requests: the expected response, and the response of each side.
pub fn of_cases(sides: &[(&'static str, Vec<(Case, Came)>)]) -> String {
    let Some((_, first)) = sides.first() else { return String::new() };
    let labels: Vec<&str> = sides.iter().map(|(label, _)| *label).collect();
    let mut text = format!(
        "### Who may ask\n\n| request | should get | {} |\n| --- | --- |{}\n",
        labels.join(" | "),
        " --- |".repeat(labels.len())
    );
    for (index, (case, _)) in first.iter().enumerate() {
        let came: Vec<String> = sides.iter().map(|(_, all)| mark(&all[index].1)).collect();
        let _ = writeln!(text, "| {} | {} | {} |", case.what, case.expected(), came.join(" | "));
    }
    text.push('\n');
    text
}

fn mark(came: &Came) -> String {
    if came.is_expected { came.shown.clone() } else { format!("**{}**", came.shown) }
}
