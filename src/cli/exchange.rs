//! `chainrule models export` and `import`: models as files.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::{Client, parsed};
use super::input::{self, is_standard, named};
use super::{CliError, Output, name, print, print_json};
use crate::api::ModelVersion;
use crate::model::ModelRef;

/// Largest file that is imported, in bytes. The server has a lower limit.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Arguments of `chainrule models export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The model: NAME, NAME@VERSION or NAME@ALIAS
    #[arg(value_name = "REF")]
    model: ModelRef,

    /// The file to write; `-` is standard output
    file: PathBuf,

    /// The format [default: onnx if the name of the file ends with .onnx, else safetensors]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,
}

/// Arguments of `chainrule models import`.
#[derive(Args)]
pub struct ImportArgs {
    /// Name of the model; it may be new
    #[arg(value_parser = name)]
    name: String,

    /// The safetensors or ONNX file; `-` is standard input
    file: PathBuf,

    /// The pixels that an ONNX file takes: 0 to 255 (byte) or 0 to 1 (unit) [default: as the file suggests]
    #[arg(long, value_name = "SCALE")]
    scale: Option<Scale>,
}

/// The format of a file.
#[derive(Clone, Copy, ValueEnum)]
enum FileFormat {
    Safetensors,
    Onnx,
}

impl FileFormat {
    fn of(file: &Path) -> Self {
        let is_onnx = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        if is_onnx { Self::Onnx } else { Self::Safetensors }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Onnx => "onnx",
        }
    }
}

/// The value of the brightest pixel.
#[derive(Clone, Copy, ValueEnum)]
enum Scale {
    Byte,
    Unit,
}

/// Downloads a model and writes it to a file.
pub async fn export(client: &Client, args: ExportArgs, output: Output) -> Result<(), CliError> {
    let ExportArgs { model, file, format } = args;
    let format = format.unwrap_or_else(|| FileFormat::of(&file)).word();
    let (bytes, digest) = client.download(&format!("/v1/models/{model}/export?format={format}")).await?;
    let sha256 = Sha256::digest(&bytes);
    if digest.is_some_and(|digest| digest != repr_digest(&sha256)) {
        let what = format!("the file of {model} does not have the digest that the server announced");
        return Err(CliError::Failed { what, why: None, hint: Some("try again".to_owned()) });
    }
    if is_standard(&file) {
        return super::print_bytes(&bytes);
    }
    std::fs::write(&file, &bytes)
        .map_err(|error| CliError::failed(format!("can't write {}", named(&file)), error))?;
    let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = file.display().to_string();
    match output {
        Output { json: true, .. } => print_json(&json!({
            "model": model.to_string(),
            "file": shown,
            "format": format,
            "size_bytes": bytes.len(),
            "sha256": sha256,
        })),
        Output { quiet: true, .. } => print(shown),
        _ => print(format!("{model} is in {shown}: {format}, {} bytes, SHA-256 {sha256}", bytes.len())),
    }
}

/// Uploads a file as a version of a model.
pub async fn import(client: &Client, args: ImportArgs, output: Output) -> Result<(), CliError> {
    let ImportArgs { name, file, scale } = args;
    let bytes = input::read(&file, FILE_BYTES_MAX)?;
    let query = match scale {
        None => "",
        Some(Scale::Byte) => "?scale=byte",
        Some(Scale::Unit) => "?scale=unit",
    };
    let digest = repr_digest(&Sha256::digest(&bytes));
    let answer: Value = client.upload(&format!("/v1/models/{name}/versions{query}"), bytes, &digest).await?;
    if output.json {
        return print_json(&answer);
    }
    let version: ModelVersion = parsed(answer)?;
    let reference = format!("{name}@{}", version.version);
    match output {
        Output { quiet: true, .. } => print(reference),
        _ => print(format!(
            "{} is {reference}: {} layers, {} parameters, {} classes",
            named(&file),
            version.layers.len(),
            version.parameters,
            version.classes.len()
        )),
    }
}

/// The value of the header `Repr-Digest`.
fn repr_digest(sha256: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256))
}
