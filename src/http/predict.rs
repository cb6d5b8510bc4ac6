use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use ndarray::{Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use super::extract::{ModelPath, Params, invalid_json};
use super::receive::{Body, Client};
use super::{Problem, busy, client_gone, images, priced};
use crate::admission::{Charge, Lane, Price, Stop};
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

/// Multiplications of a prediction that is answered beside others; a longer one waits in a lane of its own.
const QUICK_MULTIPLICATIONS: f64 = 1e8;

/// Pixels of pictures that are prepared beside predictions; larger ones wait in a lane of their own.
const QUICK_PIXELS: u64 = 1 << 16;

/// Bytes of JSON that the answer for an image takes, and for each of its classes.
const ANSWER_BYTES: usize = 256;
const CLASS_BYTES: usize = 32;

/// Images of a batch between two looks whether its client is still there.
const ROWS_AT_A_TIME: usize = 1_024;

/// What a request holds.
pub enum Input {
    /// Images in JSON.
    Json(Body),
    /// A byte for each pixel.
    Pixels(Body),
    /// Pictures as files, and the memory of those that were copied out of a form.
    Pictures(Vec<Bytes>, Body, Option<Charge>),
    /// Values from 0 to 1.
    Values(Vec<f32>),
}

/// `POST /v1/models/{ref}/predict`
pub async fn predict(
    State(app): State<App>,
    client: Client,
    ModelPath(reference): ModelPath,
    Params(params): Params<PredictParams>,
    body: Body,
) -> Result<Response, Problem> {
    let model = app.registry().get(&reference).await?;
    let classes = model.classes.len();
    if params.top.is_some_and(|top| !(1..=classes).contains(&top)) {
        let detail = format!("top must be from 1 to {classes}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail));
    }
    let input = Input::of(&app, client, body).await?.prepared(&app, client, params.prepare).await?;
    let images_max = app.config().limits.images_max;
    let price = price(&input, &model, images_max);
    let work = {
        let app = app.clone();
        move |stop: &Stop| {
            let x = input.images(images_max)?;
            let predictions = answer(app.registry(), &model, x, params.top, (price.lane, stop))?;
            app.metrics().predictions(&model.name, predictions.len());
            Ok(JsonResponse(Predictions { model: model.name.clone(), version: model.version, predictions }))
        }
    };
    priced(&app, client, price, work).await
}

/// What it takes to read these images.
fn price(input: &Input, model: &Model, images_max: usize) -> Price {
    let images = input.images_max().min(images_max);
    let (predictor, classes) = (&model.predictor, model.classes.len());
    let of_image =
        IMAGE_PIXELS * size_of::<f32>() + ANSWER_BYTES + classes * (CLASS_BYTES + size_of::<f32>());
    let multiplications = predictor.multiplications() * images as f64;
    let lane = if multiplications <= QUICK_MULTIPLICATIONS { Lane::Predict } else { Lane::Batch };
    let parsed = input.parsed_bytes(images_max);
    Price::new(lane, parsed + images * of_image + predictor.working_bytes(images))
}

impl Input {
    /// What the body of a request holds.
    ///
    /// # Errors
    /// If it is a form that can't be read.
    pub async fn of(app: &App, client: Client, body: Body) -> Result<Self, Problem> {
        match body.media_type.as_deref() {
            Some("application/json") => Ok(Self::Json(body)),
            Some("application/octet-stream") => Ok(Self::Pixels(body)),
            Some("multipart/form-data") => {
                // The parts are copied out of the form.
                let charge = app.admission().charge(client.peer, body.bytes.len()).map_err(busy)?;
                let pictures = pictures(app, &body).await?;
                Ok(Self::Pictures(pictures, Body::default(), Some(charge)))
            }
            _ => Ok(Self::Pictures(vec![body.bytes.clone()], body, None)),
        }
    }

    /// Images that it holds at most.
    pub fn images_max(&self) -> usize {
        match self {
            Self::Json(Body { bytes, .. }) => {
                // Numbers are as many as commas, and one more.
                bytes.iter().filter(|&&byte| byte == b',').count() / IMAGE_PIXELS + 1
            }
            Self::Pixels(Body { bytes, .. }) => bytes.len() / IMAGE_PIXELS,
            Self::Pictures(pictures, ..) => pictures.len(),
            Self::Values(values) => values.len() / IMAGE_PIXELS,
        }
    }

    /// Bytes that are held while the images are read out of it, besides theirs.
    pub fn parsed_bytes(&self, images_max: usize) -> usize {
        match self {
            Self::Json(body) => images::price(body.bytes.len(), images_max),
            Self::Pixels(_) | Self::Pictures(..) | Self::Values(_) => 0,
        }
    }

    /// The same with pictures brought to values, each of them in its turn: a form of many large ones holds up no other.
    ///
    /// # Errors
    /// If a picture can't be read, or there is no room to read it.
    pub async fn prepared(self, app: &App, client: Client, prepare: Prepare) -> Result<Self, Problem> {
        let Self::Pictures(pictures, body, charge) = self else { return Ok(self) };
        let limits = app.config().limits.pictures();
        let named = |index: usize, error: PictureError| {
            let problem = Problem::from(error);
            match pictures.len() {
                1 => problem,
                count => problem.within(format!("picture {} of {count}", index + 1)),
            }
        };
        let mut prices = Vec::with_capacity(pictures.len());
        for (index, bytes) in pictures.iter().enumerate() {
            prices.push(picture::price(bytes, &limits).map_err(|error| named(index, error))?);
        }
        let pixels: u64 = prices.iter().map(|price| price.pixel_passes).sum();
        let most = app.config().limits.pictures_pixels_max;
        if pixels > most {
            let detail =
                format!("the pictures have {pixels} pixels to decode, at most {most} are taken at a time");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "picture_too_large", detail));
        }
        let lane = if pixels <= QUICK_PIXELS { Lane::Predict } else { Lane::Pictures };
        let mut values = Vec::with_capacity(pictures.len() * IMAGE_PIXELS);
        for (index, (bytes, price)) in pictures.iter().zip(&prices).enumerate() {
            let bytes = bytes.clone();
            let price = Price::new(lane, price.memory_bytes as usize);
            let ticket = app.admission().admit(price, client.peer).await.map_err(busy)?;
            let read = ticket.run(move |_| read_picture(&bytes, prepare, &limits)).await;
            let (image, _) = read.map_err(|_| Problem::internal())?;
            values.extend(from_pixels(&image.map_err(|error| named(index, error))?));
        }
        drop((body, charge));
        Ok(Self::Values(values))
    }

    /// The images as rows of 784 values from 0 to 1.
    ///
    /// # Errors
    /// If they can't be read, or are more than `images_max`.
    pub fn images(self, images_max: usize) -> Result<Array2<f32>, Problem> {
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
                if let Some(format) = picture::looks_like(&bytes) {
                    let detail = format!(
                        "the body begins like a {format} picture; send it as image/{format}, and bytes of pixels alone as \
                         application/octet-stream"
                    );
                    return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_image_size", detail));
                }
                if bytes.is_empty() || bytes.len() % IMAGE_PIXELS != 0 || count > images_max {
                    let detail = format!(
                        "the body has {} bytes; it must be 1 to {images_max} images of {IMAGE_PIXELS} bytes",
                        bytes.len(),
                    );
                    return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_image_size", detail));
                }
                (from_pixels(&bytes).collect(), count)
            }
            Self::Values(values) => {
                let count = values.len() / IMAGE_PIXELS;
                (values, count)
            }
            Self::Pictures(..) => return Err(Problem::internal()),
        };
        Array2::from_shape_vec((count, IMAGE_PIXELS), values).map_err(|error| {
            tracing::error!(%error, side = IMAGE_SIDE, "images of another size were let through");
            Problem::internal()
        })
    }
}

/// The files called `image` of a form.
async fn pictures(app: &App, body: &Body) -> Result<Vec<Bytes>, Problem> {
    let limits = &app.config().limits;
    let problem = |error: axum::extract::multipart::MultipartError| {
        Problem::malformed("invalid_multipart", error.body_text())
    };
    let mut form = body.form(app).await?;
    let mut pictures = Vec::new();
    while let Some(field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("image") {
            let name: String = field.name().unwrap_or_default().chars().take(64).collect();
            let detail = format!("unknown form field {name:?}; send files as image");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
        }
        if pictures.len() >= limits.pictures_max {
            let detail = format!("a form may hold {} pictures at most", limits.pictures_max);
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_pictures", detail));
        }
        pictures.push(field.bytes().await.map_err(problem)?);
    }
    if pictures.is_empty() {
        let detail = "the form holds no file called image";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
    }
    Ok(pictures)
}

/// The image that a picture holds.
fn read_picture(
    bytes: &[u8],
    prepare: Prepare,
    limits: &PictureLimits,
) -> Result<[u8; IMAGE_PIXELS], PictureError> {
    let picture = picture::decode(bytes, limits)?;
    match prepare {
        Prepare::Mnist => picture::prepare(&picture),
        Prepare::None => picture::as_is(&picture),
    }
}

/// Pixels as a network takes them.
pub fn from_pixels(pixels: &[u8]) -> impl Iterator<Item = f32> {
    pixels.iter().map(|&pixel| f32::from(pixel) / 255.0)
}

fn answer(
    registry: &Registry,
    model: &Model,
    x: Array2<f32>,
    top: Option<usize>,
    (lane, stop): (Lane, &Stop),
) -> Result<Vec<Prediction>, Problem> {
    let mut predictions = Vec::with_capacity(x.nrows());
    for x in x.axis_chunks_iter(Axis(0), ROWS_AT_A_TIME) {
        if stop.is_set() {
            return Err(client_gone());
        }
        let probabilities = match lane {
            Lane::Batch => registry.probabilities(model, x),
            _ => model.predictor.probabilities(x),
        };
        predictions.extend(probabilities.rows().into_iter().map(|row| prediction(model, row, top)));
    }
    Ok(predictions)
}

fn prediction(model: &Model, row: ArrayView1<f32>, top: Option<usize>) -> Prediction {
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
}
