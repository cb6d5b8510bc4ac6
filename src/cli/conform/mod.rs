//! `chainrule conform`: runs cases of the Open Inference Protocol v2 against any server, and shows what it does.

mod binary;
mod cases;
mod endpoints;
mod infer;
mod packing;
mod repository;
mod seen;
mod subject;

use clap::Args;
use serde_json::{Value, json};

use self::cases::{Case, Need};
use self::subject::Subject;
use super::table::table;
use super::{CliError, Output, print, print_json};

const EXAMPLES: &str = "\
Examples:
  chainrule conform http://127.0.0.1:8080
  chainrule conform http://127.0.0.1:8000 --model mnist --json | jq '.cases[] | select(.result == \"failed\")'

Each case is one request. The requests adapt to the model's metadata: its inputs, datatypes and shapes. A case of an
extension that the server does not claim can't fail; it is \"absent\". Exit status: 0 if no case failed, 1 otherwise, 5 if
no server answers.";

/// Arguments of `chainrule conform`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ConformArgs {
    /// Address of the server, whichever it is
    #[arg(value_name = "URL")]
    url: String,

    /// Model to ask; it gets zeros as input [default: the first one in the index]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Also unload the model and load it again
    #[arg(long)]
    unload: bool,
}

/// The result of a case.
struct Result {
    case: &'static str,
    word: &'static str,
    seen: String,
}

/// Runs all cases and prints their results.
pub async fn run(args: ConformArgs, output: Output) -> std::result::Result<(), CliError> {
    let mut subject = Subject::find(&args.url, args.model.as_deref()).await?;
    let mut cases = cases::all();
    if args.unload {
        cases.extend(repository::unloading());
    }
    let mut results = Vec::new();
    for case in &cases {
        results.push(result(&mut subject, case).await);
    }
    let failed = results.iter().filter(|result| result.word == "failed").count();
    let (server, model) = (subject.server.clone(), subject.model.clone());
    if output.json {
        let cases: Vec<Value> = results
            .iter()
            .map(|Result { case, word, seen }| json!({ "case": case, "result": word, "seen": seen }))
            .collect();
        print_json(&json!({ "server": server, "model": model, "failed": failed, "cases": cases }))?;
    } else {
        let rows: Vec<[String; 3]> = results
            .iter()
            .map(|Result { case, word, seen }| [(*case).to_owned(), (*word).to_owned(), seen.clone()])
            .collect();
        table(["case", "result", "seen"], &rows, output)?;
        print(format!("\n{server}, model {model}: {failed} of {} cases failed", rows.len()))?;
    }
    if failed == 0 {
        return Ok(());
    }
    let what = format!("{failed} of {} cases failed", results.len());
    Err(CliError::Failed { what, why: None, hint: None })
}

/// Runs a case.
async fn result(subject: &mut Subject, case: &Case) -> Result {
    let done = |word, seen| Result { case: case.name, word, seen };
    let request = match (case.request)(subject) {
        Ok(request) => request,
        Err(why) => return done("skipped", why),
    };
    let seen = match subject.send(request).await {
        Ok(seen) => seen,
        Err(why) => return done("failed", format!("no answer: {why}")),
    };
    let is_refused = (400..500).contains(&seen.status);
    match ((case.check)(subject, &seen), case.need) {
        (Ok(()), _) => done("ok", seen.summary()),
        (Err(_), Need::Extension(name)) if !subject.extensions.iter().any(|claimed| claimed == name) => {
            done("absent", format!("not claimed; {}", seen.summary()))
        }
        (Err(_), Need::Option) if is_refused => done("absent", seen.summary()),
        (Err(why), _) => done("failed", format!("{why}; {}", seen.summary())),
    }
}
