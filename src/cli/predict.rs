use std::path::{Path, PathBuf};

use clap::Args;

use super::client::Client;
use super::input::{each, is_standard, named, read};
use super::{CliError, Output, ServerArgs, print, print_json};
use crate::api::Predictions;
use crate::data::{IMAGE_PIXELS, picture};
use crate::model::ModelRef;

const EXAMPLES: &str = "\
Examples:
  chainrule predict digit.png
  chainrule predict --model digits@3 scans/*.jpg
  chainrule predict --json - < digit.png

A file is a PNG or JPEG picture of any size, or raw pixels, 784 bytes per image. A file that can't be
read is reported and the next one is read; the exit status is then 1.";

/// The most bytes that are read from a file. A server accepts less, unless its --body-bytes-max is
/// raised.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Arguments of `chainrule predict`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PredictArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(long, default_value = "digits", value_name = "REF")]
    model: ModelRef,

    /// Use 28x28 pictures as they are, without cropping and centring
    #[arg(long)]
    as_is: bool,

    /// Pictures to read; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Predicts each file in a separate request.
pub async fn run(args: PredictArgs, output: Output) -> Result<(), CliError> {
    if args.files.iter().filter(|file| is_standard(file)).count() > 1 {
        return Err(CliError::Usage {
            what: "- is given twice, and standard input can be read once".to_owned(),
            hint: "name files, or give - once".to_owned(),
        });
    }
    let client = Client::new(&args.server.server)?;
    let query = if args.as_is { "?prepare=none" } else { "" };
    let path = format!("/v1/models/{}/predict{query}", args.model);
    let is_of_model = |error: &CliError| matches!(error, CliError::Problem(problem) if problem.status == 404);
    let predict = async |file: &PathBuf| {
        let bytes = read(file, FILE_BYTES_MAX)?;
        let media_type = media_type(file, &bytes)?;
        let answer: Predictions = match client.post(&path, media_type, bytes).await {
            Ok(answer) => answer,
            Err(error) if is_of_model(&error) => return Err(error),
            Err(error) => return Err(error.of(named(file))),
        };
        show(file, &answer, output)
    };
    each(&args.files, output, is_of_model, predict).await
}

fn show(file: &Path, answer: &Predictions, output: Output) -> Result<(), CliError> {
    for (index, prediction) in answer.predictions.iter().enumerate() {
        if output.json {
            print_json(&serde_json::json!({
                "file": file.to_string_lossy(), "index": index, "model": answer.model, "version": answer.version,
                "prediction": prediction,
            }))?;
        } else if output.quiet {
            print(&prediction.class)?;
        } else {
            let percent = prediction.confidence * 100.0;
            print(format!("{}  {}  {percent:.1} %", file.display(), prediction.class))?;
        }
    }
    Ok(())
}

/// Returns the media type of a file from the signatures of PNG (RFC 2083) and JPEG (JFIF).
fn media_type(file: &Path, bytes: &[u8]) -> Result<&'static str, CliError> {
    match picture::looks_like(bytes) {
        Some("png") => return Ok("image/png"),
        Some("jpeg") => return Ok("image/jpeg"),
        _ => {}
    }
    let refused = |what: String, why| Err(CliError::Failed { what, why, hint: None });
    match bytes.len() {
        0 => refused(format!("{} is empty", named(file)), None),
        count if count.is_multiple_of(IMAGE_PIXELS) => Ok("application/octet-stream"),
        count => refused(
            format!("{} is neither PNG nor JPEG, nor raw pixels", named(file)),
            Some(format!("it has {count} bytes; raw pixels take {IMAGE_PIXELS} bytes per image")),
        ),
    }
}
