//! Shows the progress of a job: a bar on a terminal, lines in a pipe.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Client, ServerEvent};
use super::{CliError, Output, print_json, say};
use crate::api::{Epoch, Job, Progress};
use crate::job::JobId;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressChoice {
    /// A bar on a terminal, otherwise lines; nothing with --quiet, and no lines with --json
    #[default]
    Auto,
    /// A bar that redraws itself
    Bar,
    /// One line per epoch
    Plain,
    /// No progress
    None,
}

/// The longest time without a plain line while the job makes progress.
const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// How long to wait for a server that went away.
const RECONNECT: Duration = Duration::from_secs(30);

/// The pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Width of the bar, in columns.
const BAR_WIDTH: usize = 14;

/// How many epochs the sparkline shows.
const SPARKLINE: usize = 8;

/// The least width of a terminal, in columns, at which the step and the sparkline are shown.
const COLUMNS_WIDE: u16 = 112;

/// How often the line about a wait is updated.
const WAIT_TICK: Duration = Duration::from_millis(250);

/// Follows a job until it ends, and returns it. Reconnects to a server that restarts. With `--json` each
/// event is printed as a line, except for the last, which the caller prints with [`end_line`].
pub async fn follow(
    client: &Client,
    id: JobId,
    choice: ProgressChoice,
    output: Output,
) -> Result<Job, CliError> {
    let display = RefCell::new(Display::new(choice, output));
    let mut last = String::new();
    let mut ended: Option<Job> = None;
    let mut lost_since: Option<Instant> = None;
    loop {
        let behind = last.clone();
        let streamed = client.events(id, &behind, |event| {
            last.clone_from(&event.id);
            lost_since = None;
            if output.json && event.kind != "end" {
                print_json(&as_line(&event.kind, parse(&event)?))?;
            }
            match event.kind.as_str() {
                "epoch" => display.borrow_mut().epoch(&parse(&event)?),
                "progress" => display.borrow_mut().progress(&parse(&event)?),
                "end" => ended = Some(parse(&event)?),
                _ => {}
            }
            Ok(ended.is_none())
        });
        let result = tokio::select! {
            result = streamed => result,
            never = tick(&display) => match never {},
        };
        if let Some(job) = ended {
            display.borrow_mut().clear();
            return Ok(job);
        }
        match result {
            Ok(()) | Err(CliError::NoServer { .. })
                if !last.is_empty() && lost_since.get_or_insert_with(Instant::now).elapsed() < RECONNECT =>
            {
                display.borrow_mut().wait_for("the server to answer again");
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Ok(()) => {
                return Err(CliError::failed(
                    "the server sends no more events of the job",
                    "try again later",
                ));
            }
            Err(error) => return Err(error),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(event: &ServerEvent) -> Result<T, CliError> {
    serde_json::from_str(&event.data).map_err(|error| CliError::failed("an event can't be read", error))
}

/// Updates the display while no event arrives.
async fn tick(display: &RefCell<Display>) -> Infallible {
    loop {
        tokio::time::sleep(WAIT_TICK).await;
        display.borrow_mut().tick();
    }
}

/// Returns an event as a line of JSON: its data, with its type as `event`.
fn as_line(kind: &str, data: Value) -> Value {
    let mut line = json!({ "event": kind });
    if let (Value::Object(line), Value::Object(data)) = (&mut line, data) {
        line.extend(data);
    }
    line
}

/// Prints the last line of a command that follows a job with `--json`.
pub fn end_line(job: &Job) -> Result<(), CliError> {
    let data = serde_json::to_value(job);
    print_json(&as_line("end", data.map_err(|error| CliError::failed("can't write the result", error))?))
}

/// The progress of a job on standard error.
struct Display {
    bar: Option<ProgressBar>,
    is_plain: bool,
    losses: Vec<f64>,
    accuracy: Option<f64>,
    progress: Option<Progress>,
    /// What the job waits for, and since when.
    waiting: Option<(&'static str, Instant)>,
    last_line: Instant,
}

impl Display {
    fn new(choice: ProgressChoice, output: Output) -> Self {
        let (has_bar, is_plain) = match choice {
            ProgressChoice::Auto if output.quiet => (false, false),
            ProgressChoice::Auto if std::io::stderr().is_terminal() => (true, false),
            // All events go to standard output, so standard error is left for errors.
            ProgressChoice::Auto if output.json => (false, false),
            ProgressChoice::Auto | ProgressChoice::Plain => (false, true),
            ProgressChoice::Bar => (true, false),
            ProgressChoice::None => (false, false),
        };
        let bar = has_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr());
            let template = format!("epoch {{prefix}} {{bar:{BAR_WIDTH}}} {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("━╸ "));
            }
            bar.set_prefix("0");
            bar.set_message("waiting for a worker");
            bar.tick();
            bar
        });
        Self {
            bar,
            is_plain,
            losses: Vec::new(),
            accuracy: None,
            progress: None,
            waiting: Some(("a worker", Instant::now())),
            last_line: Instant::now(),
        }
    }

    fn wait_for(&mut self, what: &'static str) {
        self.waiting.get_or_insert_with(|| (what, Instant::now()));
    }

    /// Reports what the job waits for, if nothing else was printed for a while.
    fn tick(&mut self) {
        let Some((what, since)) = self.waiting else { return };
        let text = format!("waiting for {what}, {} s", since.elapsed().as_secs());
        if let Some(bar) = &self.bar {
            bar.set_message(text.clone());
        }
        if self.is_plain && self.last_line.elapsed() > SILENCE_MAX {
            self.line(&text);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.waiting = None;
        self.progress = Some(*progress);
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("{}/{}", progress.epoch, progress.epochs));
            bar.set_position((progress.fraction * 1_000.0) as u64);
            bar.set_message(format!("{:>3.0} %{}", progress.fraction * 100.0, self.figures(progress)));
        }
        if self.is_plain && self.last_line.elapsed() > SILENCE_MAX {
            self.line(&format!(
                "epoch {}/{}  {}{}",
                progress.epoch,
                progress.epochs,
                step(progress),
                rate_and_time(progress)
            ));
        }
    }

    fn epoch(&mut self, epoch: &Epoch) {
        self.waiting = None;
        self.losses.push(epoch.train_loss);
        self.accuracy = epoch.validation_accuracy;
        if self.is_plain {
            let accuracy = self.accuracy.map(|accuracy| format!("  val {:.2} %", accuracy * 100.0));
            let (of, steps, left) = self.progress.as_ref().map_or_else(Default::default, |progress| {
                let progress = at_end_of(epoch.epoch, progress);
                (format!("/{}", progress.epochs), format!("  {}", step(&progress)), time_left(&progress))
            });
            self.line(&format!(
                "epoch {}{of}{steps}  loss {:.4}{}  {} images/s{left}",
                epoch.epoch,
                epoch.train_loss,
                accuracy.unwrap_or_default(),
                thousands(epoch.images_per_second),
            ));
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }

    fn line(&mut self, line: &str) {
        self.last_line = Instant::now();
        say(line);
    }

    fn figures(&self, progress: &Progress) -> String {
        let is_wide = console::Term::stderr().size().1 >= COLUMNS_WIDE;
        let step = if is_wide { format!("  {}", step(progress)) } else { String::new() };
        let curve = if is_wide { format!(" {}", sparkline(&self.losses)) } else { String::new() };
        let loss = self.losses.last().map(|loss| format!("  loss {loss:.3}{curve}"));
        let accuracy = self.accuracy.map(|accuracy| format!("  val {:.1} %", accuracy * 100.0));
        format!(
            "{step}{}{}{}",
            loss.unwrap_or_default(),
            accuracy.unwrap_or_default(),
            rate_and_time(progress)
        )
    }
}

/// Estimates the progress at the end of an epoch from the progress at a nearby step.
fn at_end_of(epoch: u32, progress: &Progress) -> Progress {
    let steps = progress.steps / u64::from(progress.epochs.max(1)) * u64::from(epoch);
    let left = progress.steps.saturating_sub(steps) as f64
        / progress.steps.saturating_sub(progress.step).max(1) as f64;
    Progress { step: steps, eta_seconds: progress.eta_seconds.map(|seconds| seconds * left), ..*progress }
}

fn step(progress: &Progress) -> String {
    format!("step {}/{}", progress.step, progress.steps)
}

fn rate_and_time(progress: &Progress) -> String {
    let rate = progress.images_per_second.map(|rate| format!("  {} images/s", thousands(rate)));
    format!("{}{}", rate.unwrap_or_default(), time_left(progress))
}

fn time_left(progress: &Progress) -> String {
    let left = progress.eta_seconds.map(|seconds| {
        let seconds = seconds.ceil() as u64;
        format!("  {}:{:02} left", seconds / 60, seconds % 60)
    });
    left.unwrap_or_default()
}

fn thousands(rate: f64) -> String {
    if rate >= 10_000.0 { format!("{:.0}k", rate / 1_000.0) } else { format!("{rate:.0}") }
}

/// Draws the newest values as bars. The largest value fills a bar.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(SPARKLINE)..];
    let most = shown.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    shown.iter().map(|value| BARS[((value / most * 7.0).round() as usize).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_loss_looks_like_one() {
        assert_eq!(sparkline(&[0.8, 0.4, 0.1]), "█▅▂");
    }

    #[test]
    fn rates_are_short_and_times_in_minutes() {
        let progress =
            Progress { images_per_second: Some(310_000.0), eta_seconds: Some(61.2), ..Progress::default() };
        assert_eq!(rate_and_time(&progress), "  310k images/s  1:02 left");
    }
}
