//! Models as files: exports, and uploads that become versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{ModelParam, ModelPath, Params, PathWords};
use super::receive::Body;
use super::{Problem, paid};
use crate::api::{self, Code};
use crate::app::App;
use crate::artifact::ModelFormat;
use crate::artifact::onnx::Pixels;
use crate::model::{ModelRef, Selector};
use crate::service::{Caller, UploadedFile};

/// The digest of a file (RFC 9530).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The algorithm of a digest that is computed.
const SHA_256: &str = "sha-256";

/// Query of [`export`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// The format of the file: `safetensors` is this program's own, `onnx` is for other programs.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// The format of a file.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(default = json!("safetensors"))]
pub enum Format {
    /// A model file of this program, which Python's safetensors reads too.
    #[default]
    Safetensors,
    /// ONNX, opset 13.
    Onnx,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Onnx => "onnx",
        }
    }
}

impl From<Format> for ModelFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Safetensors => Self::Safetensors,
            Format::Onnx => Self::Onnx,
        }
    }
}

/// Downloads a model as safetensors or ONNX.
///
/// The metadata of the file has a receipt: what is known about the training. An ONNX file takes images as bytes and gives
/// probabilities and labels. It is refused if a probability differs from that of the model by more than 1e-5.
#[utoipa::path(
    get,
    path = "/v1/models/{ref}/export",
    operation_id = "export_model",
    tag = "models",
    params(ModelParam, ExportParams),
    responses((status = 200, description = "The file; `ETag` and `Repr-Digest` are its SHA-256.", content((Vec<u8> = "application/octet-stream")))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::ClientGone, Code::DiskFull, Code::ExportDiffers, Code::PredictionTooLarge, Code::RequestTooLarge])))
)]
pub async fn export(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<ExportParams>,
) -> Result<Response, Problem> {
    let (file, charge) = app.service().export_model(&caller, &reference, params.format.into()).await?;
    let name = format!("{}-{}.{}", file.model, file.version, params.format.word());
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ETAG, format!("\"{}\"", file.sha256)),
        (REPR_DIGEST, format!("{SHA_256}=:{}:", STANDARD.encode(bytes_of(&file.sha256)))),
    ];
    Ok(paid(charge, (head, file.bytes)))
}

/// Returns the bytes of a digest in hex.
fn bytes_of(hex: &str) -> Vec<u8> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}

/// Query of [`upload`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadParams {
    /// The pixels that an ONNX file takes: from 0 to 255 (`byte`) or from 0 to 1 (`unit`). By default `byte` if it takes
    /// uint8 or divides them by 64 or more, and `unit` otherwise.
    #[param(inline)]
    scale: Option<Scale>,
}

/// The value of the brightest pixel: 255 (`byte`) or 1 (`unit`).
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// From 0 to 255.
    Byte,
    /// From 0 to 1.
    Unit,
}

impl From<Scale> for Pixels {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Byte => Self::Byte,
            Scale::Unit => Self::Unit,
        }
    }
}

/// Publishes a network from a file as a version.
///
/// The file is a safetensors or ONNX export, or an ONNX file as PyTorch and Keras write it. It is checked and tried before
/// it is published. The format of `application/octet-stream` is told by the first bytes.
#[utoipa::path(
    post,
    path = "/v1/models/{name}/versions",
    operation_id = "upload_version",
    tag = "models",
    params(
        ("name" = String, Path, description = "Name of the model. It may be new.", pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"),
        ("Repr-Digest" = Option<String>, Header, description = "The SHA-256 of the file (RFC 9530), as `sha-256=:base64:`."),
        UploadParams
    ),
    request_body(content(
        (api::NetworkFile = "application/octet-stream", examples(("export" = (summary = "an export of a model", external_value = "/v1/models/digits/export")))),
        (api::NetworkFile = "application/vnd.safetensors", examples(("export" = (summary = "an export of a model", external_value = "/v1/models/digits/export")))),
        (api::NetworkFile = "application/onnx", examples(("export" = (summary = "an export of a model", external_value = "/v1/models/digits/export?format=onnx"))))
    )),
    responses((status = 201, description = "The version.", body = api::ModelVersion, headers(("Location" = String, description = "Path of the version.")))),
    extensions(("x-codes" = json!([Code::DigestMismatch, Code::InvalidModel, Code::InvalidModelReference, Code::TooManyVersions, Code::ROWS])))
)]
pub async fn upload(
    State(app): State<App>,
    caller: Caller,
    PathWords(name): PathWords<String>,
    Params(params): Params<UploadParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<api::ModelVersion>), Problem> {
    let reference: ModelRef = name.parse()?;
    if reference.selector != Selector::Default {
        let detail = format!("{reference} names a version; send the file to the model {}", reference.name);
        return Err(Problem::new(Code::InvalidModelReference, detail));
    }
    if body.bytes.is_empty() {
        return Err(Problem::new(Code::EmptyBody, "the body is empty; send a safetensors or ONNX file"));
    }
    let format = match body.media_type.as_deref() {
        Some("application/vnd.safetensors") => Some(ModelFormat::Safetensors),
        Some("application/onnx") => Some(ModelFormat::Onnx),
        _ => None,
    };
    let file = UploadedFile {
        bytes: body.bytes.clone(),
        format,
        pixels: params.scale.map(Into::into),
        sha256: announced_digest(&headers)?,
        held: Arc::new(body),
    };
    let version = app.service().upload_model(&caller, reference.name.clone(), file).await?;
    let location = format!("/v1/models/{}@{}", reference.name, version.version);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(version.into())))
}

/// Returns the SHA-256 that `Repr-Digest` announces, in hex. Other algorithms are ignored.
///
/// # Errors
/// Returns 400 if it is not a digest.
fn announced_digest(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let lines = headers.get_all(REPR_DIGEST).into_iter();
    let entries = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut digests = entries.filter_map(|entry| {
        let (algorithm, value) = entry.trim().split_once('=')?;
        algorithm.eq_ignore_ascii_case(SHA_256).then_some(value)
    });
    let Some(value) = digests.next() else { return Ok(None) };
    let encoded = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
    let digest =
        encoded.and_then(|encoded| STANDARD.decode(encoded).ok()).filter(|digest| digest.len() == 32);
    let digest = digest.ok_or_else(|| {
        let detail = "Repr-Digest must have the form sha-256=:base64: with the 32 bytes of a SHA-256";
        Problem::new(Code::DigestMismatch, detail)
    })?;
    Ok(Some(digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}
