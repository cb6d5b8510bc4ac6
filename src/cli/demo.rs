use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser};
use serde_json::json;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::client::Client;
use super::follow::{ProgressChoice, end_line, follow};
use super::serve::stop_signal;
use super::train::judge;
use super::{CliError, Output, digit, print, print_json, say, style};
use crate::api::{Example, Prediction, Predictions};
use crate::config::{Config, LogFormat};
use crate::server::Server;
use crate::telemetry;

const EXAMPLES: &str = "\
Examples:
  chainrule demo          train, read ten digits, then serve until Ctrl-C
  chainrule demo --exit   the same, but exit after the digits; status 0 if all went well";

/// How many test digits are read.
const DIGITS: usize = 10;

/// The demo fails below this accuracy.
const TEST_ACCURACY_LEAST: f64 = 0.95;

/// Arguments of `chainrule demo`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Exit after the digits instead of serving until Ctrl-C
    #[arg(long)]
    exit: bool,

    /// Folder for the database, checkpoints and models; created if missing
    #[arg(long, env = "CHAINRULE_DATA_DIR", default_value = "./chainrule-data", value_name = "FOLDER")]
    data_dir: PathBuf,

    /// How to show progress
    #[arg(long, default_value = "auto", value_name = "HOW")]
    progress: ProgressChoice,
}

/// Parses an empty command line, to get the defaults of all flags.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    config: Config,
}

/// Starts a server on a free port and uses it through its HTTP API.
pub async fn run(args: DemoArgs, output: Output) -> Result<(), CliError> {
    let is_colored = style::is_colored(output.color, &std::io::stderr());
    telemetry::log(LogFormat::Human, Targets::new().with_default(LevelFilter::WARN), is_colored)
        .map_err(|error| CliError::failed("can't set up the log", error))?;
    let stop = stop_signal()?;
    let again = args.exit.then(|| args.data_dir.clone());
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data_dir: args.data_dir,
        ..Defaults::parse_from(["chainrule"]).config
    };
    let server = Server::start(config).await?;
    let address = server.address().map_err(|error| CliError::failed("can't determine the address", error))?;
    let url = format!("http://{address}");
    let serving = tokio::spawn(server.run(stop.clone()));

    let shown = tokio::select! {
        shown = show(&url, args.progress, again, output) => shown,
        () = stop.cancelled() => Err(CliError::Interrupted("interrupted".to_owned())),
    };
    if shown.is_ok() && !args.exit {
        if !output.quiet {
            say(format!("\nserving on {url}; Ctrl-C ends it"));
        }
        stop.cancelled().await;
    }
    stop.cancel();
    serving.await.map_err(|error| CliError::failed("the server failed", error))?;
    shown
}

/// Trains, reads the digits and prints the curl commands. If this server will stop, `again` is the data
/// folder, and the curl commands are for a new server on it.
async fn show(
    url: &str,
    progress: ProgressChoice,
    again: Option<PathBuf>,
    output: Output,
) -> Result<(), CliError> {
    let client = Client::new(url)?;
    let is_chatty = !output.json && !output.quiet;
    if is_chatty {
        say(format!("serving on {url}"));
        say("POST /v1/jobs {}: the default job, MNIST's 60,000 digits");
    }
    let job = client.create_job(&json!({})).await?;
    let job = follow(&client, job.id, progress, output).await?;
    judge(&job, Some(TEST_ACCURACY_LEAST), output)?;

    let mut read = Vec::with_capacity(DIGITS);
    for index in 0..DIGITS {
        let example: Example = client.get(&format!("/v1/datasets/mnist/test/{index}")).await?;
        let body = json!({ "image": example.image }).to_string();
        let answer: Predictions = client.post("/v1/models/digits/predict", "application/json", body).await?;
        let prediction = answer.predictions.into_iter().next();
        let prediction = prediction.ok_or_else(|| {
            CliError::failed("the server's response can't be read", "it holds no prediction")
        })?;
        read.push((example, prediction));
    }
    if output.json {
        for (index, (example, prediction)) in read.iter().enumerate() {
            let line = json!({ "event": "prediction", "index": index, "truth": example.label, "prediction": prediction });
            print_json(&line)?;
        }
        return end_line(&job);
    }
    if output.quiet {
        return Ok(());
    }
    print(format!("\nthe first {DIGITS} digits of the test split:\n"))?;
    draw(&read, output)?;
    match again {
        None => print(format!("the same with curl:\n{}", curl_lines(url))),
        Some(folder) => print(format!(
            "the same with curl, while `chainrule serve --data-dir {}` runs:\n{}",
            folder.display(),
            curl_lines("http://127.0.0.1:8080"),
        )),
    }
}

/// Draws the digits side by side, as many as fit, each with its prediction below.
fn draw(read: &[(Example, Prediction)], output: Output) -> Result<(), CliError> {
    let stdout = std::io::stdout();
    let is_colored = style::is_colored(output.color, &stdout);
    if !stdout.is_terminal() {
        for (index, (example, prediction)) in read.iter().enumerate() {
            print(format!("  test {index}: {}", verdict(example, prediction, false)))?;
        }
        return Ok(());
    }
    let columns = usize::from(console::Term::stdout().size().1);
    let gap = 2;
    let in_a_row = ((columns + gap) / (digit::WIDTH + gap)).clamp(1, DIGITS / 2);
    for row in read.chunks(in_a_row) {
        let digits: Vec<Vec<String>> =
            row.iter().map(|(example, _)| digit::draw(&example.image.concat(), is_colored)).collect();
        for line in 0..digits[0].len() {
            let line: Vec<&str> = digits.iter().map(|digit| digit[line].as_str()).collect();
            print(line.join("  "))?;
        }
        let captions: Vec<String> =
            row.iter().map(|(example, prediction)| caption(example, prediction, is_colored)).collect();
        print(captions.join("  "))?;
        print("")?;
    }
    Ok(())
}

fn is_right(example: &Example, prediction: &Prediction) -> bool {
    prediction.label == usize::from(example.label)
}

fn verdict(example: &Example, prediction: &Prediction, is_colored: bool) -> String {
    let verdict = if is_right(example, prediction) {
        style::green("right", is_colored)
    } else {
        style::red(&format!("wrong, it is a {}", example.label), is_colored)
    };
    format!("{}, {:.1} %, {verdict}", prediction.class, prediction.confidence * 100.0)
}

/// Returns a short form of [`verdict`], padded to the width of a drawn digit.
fn caption(example: &Example, prediction: &Prediction, is_colored: bool) -> String {
    let is_right = is_right(example, prediction);
    let word = if is_right { "right" } else { "wrong" };
    let percent = prediction.confidence * 100.0;
    let percent = if percent < 99.95 { format!("{percent:.1}") } else { "100".to_owned() };
    let padding = digit::WIDTH.saturating_sub(prediction.class.len() + percent.len() + word.len() + 4);
    let paint = if is_right { style::green } else { style::red };
    let class = style::bold(&prediction.class, is_colored);
    format!("{class} {percent} % {}{}", paint(word, is_colored), " ".repeat(padding))
}

fn curl_lines(url: &str) -> String {
    format!(
        "curl -s {url}/v1/jobs -H 'Content-Type: application/json' -d '{{}}'\n\
         curl -s '{url}/v1/jobs?limit=1'\n\
         curl -s {url}/v1/datasets/mnist/test/0 -H 'Accept: image/png' | \
         curl -s {url}/v1/models/digits/predict -H 'Content-Type: image/png' --data-binary @-"
    )
}
