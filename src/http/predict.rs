use axum::Json as JsonResponse;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::extract::{
    Body, ModelPath, Params, invalid_json, media_type, room, too_large, unsupported_media_type, within,
};
use super::{Problem, blocking, images};
use crate::app::App;
use crate::data::picture::{self, PictureError, PictureLimits};
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::nn::argmax;
use crate::registry::{Model, Registry};

/// Query of [`predict`].
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictParams {
    #[serde(default)]
    prepare: Prepare,
    top: Option<usize>,
}

/// What is done to a picture before it is read.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepare {
    /// It is brought to the form of MNIST.
    #[default]
    Mnist,
    /// Nothing.
    None,
}

/// What a model takes images for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Predictions {
    /// The model that answered.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// One for each image, in order.
    pub predictions: Vec<Prediction>,
}

/// What an image is taken for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prediction {
    /// Number of the class.
    pub label: usize,
    /// Name of the class.
    pub class: String,
    /// Its probability.
    pub confidence: f32,
    /// Probability of every class in order; with `top` those of the best alone, best first.
    pub probabilities: Vec<f32>,
    /// With `top`, the classes that `probabilities` are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<usize>>,
}

/// What a request holds.
pub enum Input {
    Json(Body),
    Pixels(Body),
    Picture(Body),
    Pictures(Vec<Bytes>, OwnedSemaphorePermit),
}

const MEDIA_TYPES: [&str; 5] =
    ["application/json", "application/octet-stream", "image/png", "image/jpeg", "multipart/form-data"];

/// `POST /v1/models/{ref}/predict`
pub async fn predict(
    State(app): State<App>,
    ModelPath(reference): ModelPath,
    Params(params): Params<PredictParams>,
    request: Request,
) -> Result<JsonResponse<Predictions>, Problem> {
    let model = app.registry().get(&reference).await?;
    let classes = model.classes.len();
    if params.top.is_some_and(|top| !(1..=classes).contains(&top)) {
        let detail = format!("top must be from 1 to {classes}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail));
    }
    let input = read(&app, request).await?;
    let limits = &app.config().limits;
    let (images_max, pictures) = (limits.images_max, limits.pictures());
    let permit = app.prediction_permit().await;
    let answer = blocking(move || {
        let _permit = permit;
        let x = input.prepare(params.prepare, images_max, &pictures)?;
        let predictions = answer(app.registry(), &model, x, params.top);
        app.metrics().predictions(&model.name, predictions.len());
        Ok(Predictions { model: model.name.clone(), version: model.version, predictions })
    });
    answer.await.map(JsonResponse)
}

/// Reads what there is to predict.
pub async fn read(app: &App, request: Request) -> Result<Input, Problem> {
    let media_type = media_type(request.headers());
    match media_type.as_deref() {
        Some("application/json") => Body::from_request(request, app).await.map(Input::Json),
        Some("application/octet-stream") => Body::from_request(request, app).await.map(Input::Pixels),
        Some("image/png" | "image/jpeg") => Body::from_request(request, app).await.map(Input::Picture),
        Some("multipart/form-data") => {
            let room = room(request.headers(), app, app.config().limits.body_bytes_max)?;
            let multipart = Multipart::from_request(request, app)
                .await
                .map_err(|rejection| Problem::malformed("invalid_multipart", rejection.body_text()))?;
            let pictures =
                within(app.config().limits.body_timeout_seconds, pictures(app, multipart)).await??;
            Ok(Input::Pictures(pictures, room))
        }
        other => Err(unsupported_media_type(other, &MEDIA_TYPES)),
    }
}

/// The files called `image` of a form.
async fn pictures(app: &App, mut form: Multipart) -> Result<Vec<Bytes>, Problem> {
    let limits = &app.config().limits;
    let problem = |error: axum::extract::multipart::MultipartError| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            too_large(limits.body_bytes_max)
        } else {
            Problem::malformed("invalid_multipart", error.body_text())
        }
    };
    let mut pictures = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("image") {
            let name: String = field.name().unwrap_or_default().chars().take(64).collect();
            let detail = format!("unknown form field {name:?}; send files as image");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
        }
        if pictures.len() >= limits.pictures_max {
            let detail = format!("a form may hold {} pictures at most", limits.pictures_max);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_pictures", detail));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = field.chunk().await.map_err(problem)? {
            bytes.extend_from_slice(&chunk);
        }
        pictures.push(bytes.freeze());
    }
    if pictures.is_empty() {
        let detail = "the form holds no file called image";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
    }
    Ok(pictures)
}

impl Input {
    /// The images as rows of 784 values from 0 to 1.
    pub fn prepare(
        self,
        prepare: Prepare,
        images_max: usize,
        limits: &PictureLimits,
    ) -> Result<Array2<f32>, Problem> {
        let (values, count) = match self {
            Self::Json(Body { bytes: body, .. }) => {
                if body.is_empty() {
                    return Err(Problem::malformed("empty_body", "the body is empty; send image or images"));
                }
                let images = images::parse(&body, images_max).map_err(|error| invalid_json(&error))?;
                let images = images.map_err(Problem::invalid)?;
                (images.values, images.count)
            }
            Self::Pixels(Body { bytes, .. }) => {
                let count = bytes.len() / IMAGE_PIXELS;
                if bytes.is_empty() || bytes.len() % IMAGE_PIXELS != 0 || count > images_max {
                    let detail = format!(
                        "the body has {} bytes; it must be 1 to {images_max} images of {IMAGE_PIXELS} bytes",
                        bytes.len(),
                    );
                    return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_image_size", detail));
                }
                (from_pixels(&bytes).collect(), count)
            }
            Self::Picture(Body { bytes, .. }) => (pixels(&bytes, prepare, limits)?, 1),
            Self::Pictures(pictures, _room) => {
                let mut values = Vec::with_capacity(pictures.len() * IMAGE_PIXELS);
                for (index, bytes) in pictures.iter().enumerate() {
                    let part = format!("picture {} of {}", index + 1, pictures.len());
                    let pixels = pixels(bytes, prepare, limits);
                    values.extend(pixels.map_err(|error| Problem::from(error).within(part))?);
                }
                (values, pictures.len())
            }
        };
        Array2::from_shape_vec((count, IMAGE_PIXELS), values).map_err(|error| {
            tracing::error!(%error, side = IMAGE_SIDE, "images of another size were let through");
            Problem::internal()
        })
    }
}

/// The image that a picture holds.
fn pixels(bytes: &[u8], prepare: Prepare, limits: &PictureLimits) -> Result<Vec<f32>, PictureError> {
    let picture = picture::decode(bytes, limits)?;
    let pixels = match prepare {
        Prepare::Mnist => picture::prepare(&picture)?,
        Prepare::None => picture::as_is(&picture)?,
    };
    Ok(from_pixels(&pixels).collect())
}

/// Pixels as a network takes them.
pub fn from_pixels(pixels: &[u8]) -> impl Iterator<Item = f32> {
    pixels.iter().map(|&pixel| f32::from(pixel) / 255.0)
}

fn answer(registry: &Registry, model: &Model, x: Array2<f32>, top: Option<usize>) -> Vec<Prediction> {
    let probabilities = registry.probabilities(model, x.view());
    let one = |row: ndarray::ArrayView1<f32>| {
        let label = argmax(row.iter());
        let mut labels: Vec<usize> = (0..row.len()).collect();
        if let Some(top) = top {
            labels.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            labels.truncate(top);
        }
        Prediction {
            label,
            class: model.classes[label].clone(),
            confidence: row[label],
            probabilities: labels.iter().map(|&label| row[label]).collect(),
            labels: top.map(|_| labels),
        }
    };
    probabilities.rows().into_iter().map(one).collect()
}
