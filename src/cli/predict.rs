use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::client::Client;
use super::{CliError, Output, ServerArgs, print, print_json};
use crate::data::IMAGE_PIXELS;
use crate::http::Predictions;
use crate::model::ModelRef;

const EXAMPLES: &str = "\
Examples:
  chainrule predict digit.png
  chainrule predict --model digits@3 scans/*.jpg
  chainrule predict --json - < digit.png

A file is a PNG or JPEG picture of any size, or raw pixels, 784 bytes an image.";

/// Flags of `predict`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PredictArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(long, default_value = "digits", value_name = "REF")]
    model: ModelRef,

    /// Take 28x28 pictures as they are
    #[arg(long)]
    as_is: bool,

    /// Pictures to read; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Reads digits from pictures.
pub async fn run(args: PredictArgs, output: Output) -> Result<(), CliError> {
    let client = Client::new(&args.server.server)?;
    let query = if args.as_is { "?prepare=none" } else { "" };
    let path = format!("/v1/models/{}/predict{query}", args.model);
    for file in &args.files {
        let bytes = read(file)?;
        let media_type = media_type(&bytes).ok_or_else(|| CliError::Failed {
            what: format!("{} is neither PNG nor JPEG, nor raw pixels", file.display()),
            why: Some(format!(
                "it has {} bytes, raw pixels come in {IMAGE_PIXELS} bytes an image",
                bytes.len()
            )),
            hint: None,
        })?;
        let answer: Predictions = client.post(&path, media_type, bytes).await?;
        for (index, prediction) in answer.predictions.iter().enumerate() {
            if output.json {
                print_json(&serde_json::json!({
                    "file": file, "index": index, "model": answer.model, "version": answer.version,
                    "prediction": prediction,
                }))?;
            } else if output.quiet {
                print(&prediction.class)?;
            } else {
                print(format!(
                    "{}  {}  {:.1} %",
                    file.display(),
                    prediction.class,
                    prediction.confidence * 100.0
                ))?;
            }
        }
    }
    Ok(())
}

fn read(file: &PathBuf) -> Result<Vec<u8>, CliError> {
    let failed = |error| CliError::failed(format!("can't read {}", file.display()), error);
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes);
    }
    std::fs::read(file).map_err(failed)
}

/// The media type of a file by its content: the signatures of PNG (RFC 2083) and JPEG (JFIF).
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if !bytes.is_empty() && bytes.len().is_multiple_of(IMAGE_PIXELS) {
        Some("application/octet-stream")
    } else {
        None
    }
}
