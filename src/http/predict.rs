use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use ndarray::{Array2, ArrayView1, s};
use serde::{Deserialize, Serialize};

use super::extract::{ModelPath, Params, invalid, invalid_json};
use super::receive::{Body, Client};
use super::{Problem, Wanted, busy, client_gone, images, model, priced_in_turns, worked};
use crate::admission::{Lane, Price, Stop};
use crate::app::App;
use crate::data::picture::{self, PictureError, PictureLimits, PicturePrice};
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::fields::shown;
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

/// Multiplications of a prediction, and bytes of its request, that are done in some ten microseconds.
const INSTANT_MULTIPLICATIONS: f64 = 1e6;
const INSTANT_BYTES: usize = 16 << 10;

/// Bytes of the weights of a model whose predictions are answered beside others: those of a larger model are read from memory, not from a cache, and take that from others.
const QUICK_MODEL_BYTES: usize = 16 << 20;

/// Bytes of a body that is read beside predictions; a longer one takes longer to look through, whatever it holds.
const QUICK_BYTES: usize = 64 << 10;

/// The same for pictures, and pixels of those that are prepared there; larger ones wait in a lane of their own.
const QUICK_PICTURE_BYTES: usize = 256 << 10;
const QUICK_PIXELS: u64 = 1 << 16;

/// Times that a form is held besides itself while its files are copied out of it.
const FORM_COPIES: usize = 2;

/// Bytes of JSON that the answer for an image takes, and for each of its classes.
const ANSWER_BYTES: usize = 256;
const CLASS_BYTES: usize = 32;

/// A batch looks after this many multiplications or images, whichever come first, whether another client waits or its own
/// has gone.
const TURN_MULTIPLICATIONS: f64 = 5e9;
const TURN_ROWS_MAX: usize = 1_024;

/// What a request holds.
pub enum Input {
    /// Images in JSON, and how many they can be at most.
    Json(Body, usize),
    /// A byte for each pixel.
    Pixels(Body),
    /// Pictures as files, and what their memory is charged to.
    Pictures(Vec<Bytes>, Arc<dyn Send + Sync>),
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
    let model = model(&app, client, &reference).await?;
    let classes = model.classes.len();
    if params.top.is_some_and(|top| !(1..=classes).contains(&top)) {
        let detail = format!("top must be from 1 to {classes}");
        return Err(invalid(detail));
    }
    let wanted = Wanted::new(&model);
    drop(model);
    let input = Input::of(&app, client, body).await?.prepared(&app, client, params.prepare).await?;
    let images_max = app.config().limits.images_max;
    let price = price(&app, &input, &*wanted.held(&app).await?)?;
    let mut batch = Batch::new(input, images_max, params.top);
    let work = {
        let app = app.clone();
        move |model: &Model, stop: &Stop| {
            let predictions = batch.go_on(app.registry(), model, price.lane, stop)?;
            Ok(predictions.map(|predictions| {
                app.metrics().predictions(&model.name, predictions.len());
                JsonResponse(Predictions { model: model.name.clone(), version: model.version, predictions })
            }))
        }
    };
    priced_in_turns(&app, client, price, &wanted, work).await
}

/// What it takes to read these images.
///
/// # Errors
/// 422 with the estimate if it is beyond what the server gives.
fn price(app: &App, input: &Input, model: &Model) -> Result<Price, Problem> {
    let limits = &app.config().limits;
    let images = input.images_max().min(limits.images_max);
    let (predictor, classes) = (&model.predictor, model.classes.len());
    let of_image =
        IMAGE_PIXELS * size_of::<f32>() + ANSWER_BYTES + classes * (CLASS_BYTES + size_of::<f32>());
    let multiplications = predictor.multiplications() * images as f64;
    let (flops, flops_max) = (2.0 * multiplications, limits.predict_flops_max);
    if flops > flops_max {
        let detail = format!(
            "reading {images} images takes about {flops:.1e} floating-point operations, this server gives {flops_max:.1e}; \
             send fewer at a time"
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "prediction_too_large", detail));
    }
    let is_quick = multiplications <= QUICK_MULTIPLICATIONS
        && predictor.memory_bytes() <= QUICK_MODEL_BYTES
        && input.bytes() <= QUICK_BYTES;
    let lane = if is_quick { Lane::Predict } else { Lane::Batch };
    let parsed = input.parsed_bytes(limits.images_max);
    let working = predictor.working_bytes(images, app.registry().threads());
    let is_instant = is_quick && multiplications <= INSTANT_MULTIPLICATIONS && input.bytes() <= INSTANT_BYTES;
    Ok(Price::new(lane, parsed + images * of_image + working).instant(is_instant))
}

/// Images on their way through a model.
struct Batch {
    /// Those that are still to be parsed.
    input: Option<Input>,
    images_max: usize,
    top: Option<usize>,
    x: Array2<f32>,
    predictions: Vec<Prediction>,
}

impl Batch {
    fn new(input: Input, images_max: usize, top: Option<usize>) -> Self {
        let x = Array2::zeros((0, IMAGE_PIXELS));
        Self { input: Some(input), images_max, top, x, predictions: Vec::new() }
    }

    /// Reads images until all are read; `None` if it has made way to others before.
    fn go_on(
        &mut self,
        registry: &Registry,
        model: &Model,
        lane: Lane,
        stop: &Stop,
    ) -> Result<Option<Vec<Prediction>>, Problem> {
        if let Some(input) = self.input.take() {
            self.x = input.images(self.images_max)?;
            self.predictions.reserve_exact(self.x.nrows());
        }
        let rows_at_a_time = (TURN_MULTIPLICATIONS / model.predictor.multiplications()) as usize;
        let rows_at_a_time = rows_at_a_time.clamp(1, TURN_ROWS_MAX);
        while self.predictions.len() < self.x.nrows() {
            if stop.is_set() {
                return Err(client_gone());
            }
            let begin = self.predictions.len();
            let end = self.x.nrows().min(begin + rows_at_a_time);
            let x = self.x.slice(s![begin..end, ..]);
            let probabilities = match lane {
                Lane::Batch => registry.probabilities(model, x),
                _ => model.predictor.probabilities(x),
            };
            let top = self.top;
            self.predictions.extend(probabilities.rows().into_iter().map(|row| prediction(model, row, top)));
            if end < self.x.nrows() && stop.is_place_wanted() {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.predictions)))
    }
}

impl Input {
    /// What the body of a request holds.
    ///
    /// # Errors
    /// If it is a form that can't be read.
    pub async fn of(app: &App, client: Client, body: Body) -> Result<Self, Problem> {
        match body.media_type.as_deref() {
            Some("application/json") => {
                let images = if body.bytes.len() <= QUICK_BYTES {
                    images_at_most(&body.bytes)
                } else {
                    let body = body.clone();
                    let count = move |_: &Stop| Ok(images_at_most(&body.bytes));
                    worked(app, client, Price::new(Lane::Text, 0), count).await?.0
                };
                Ok(Self::Json(body, images))
            }
            Some("application/octet-stream") => Ok(Self::Pixels(body)),
            Some("multipart/form-data") => {
                let pictures_max = app.config().limits.pictures_max;
                let pictures = if body.bytes.len() <= QUICK_PICTURE_BYTES {
                    let charge = app.admission().charge(client.peer, FORM_COPIES * body.bytes.len());
                    let charge = charge.map_err(busy)?;
                    (pictures(&body, pictures_max).await?, charge)
                } else {
                    // All of it is in memory, so that nothing is waited for but the work.
                    let runtime = tokio::runtime::Handle::current();
                    let price = Price::new(Lane::Pictures, FORM_COPIES * body.bytes.len());
                    let read = move |_: &Stop| runtime.block_on(pictures(&body, pictures_max));
                    worked(app, client, price, read).await?
                };
                Ok(Self::Pictures(pictures.0, Arc::new(pictures.1)))
            }
            _ => Ok(Self::Pictures(vec![body.bytes.clone()], Arc::new(body))),
        }
    }

    /// Images that it holds at most.
    pub fn images_max(&self) -> usize {
        match self {
            Self::Json(_, images) => *images,
            Self::Pixels(Body { bytes, .. }) => bytes.len() / IMAGE_PIXELS,
            Self::Pictures(pictures, ..) => pictures.len(),
            Self::Values(values) => values.len() / IMAGE_PIXELS,
        }
    }

    /// Bytes that are looked through to find the images.
    fn bytes(&self) -> usize {
        match self {
            Self::Json(Body { bytes, .. }, _) | Self::Pixels(Body { bytes, .. }) => bytes.len(),
            Self::Pictures(pictures, ..) => pictures.iter().map(Bytes::len).sum(),
            Self::Values(_) => 0,
        }
    }

    /// Bytes that are held while the images are read out of it, besides theirs.
    pub fn parsed_bytes(&self, images_max: usize) -> usize {
        match self {
            Self::Json(body, _) => images::price(body.bytes.len(), images_max),
            Self::Pixels(_) | Self::Pictures(..) | Self::Values(_) => 0,
        }
    }

    /// The same with pictures brought to values, each of them in its turn: a form of many large ones holds up no other.
    ///
    /// # Errors
    /// If a picture can't be read, or there is no room to read it.
    pub async fn prepared(self, app: &App, client: Client, prepare: Prepare) -> Result<Self, Problem> {
        let Self::Pictures(pictures, held) = self else { return Ok(self) };
        let bytes: usize = pictures.iter().map(Bytes::len).sum();
        let limits = app.config().limits.pictures();
        let named = |index: usize, error: PictureError| {
            let problem = Problem::from(error);
            match pictures.len() {
                1 => problem,
                count => problem.within(format!("picture {} of {count}", index + 1)),
            }
        };
        let price = {
            let (pictures, held) = (pictures.clone(), Arc::clone(&held));
            move || -> Vec<_> {
                let _held = held;
                pictures.iter().map(|bytes| picture::price(bytes, &limits)).collect()
            }
        };
        let prices = match bytes {
            ..=QUICK_PICTURE_BYTES => price(),
            _ => worked(app, client, Price::new(Lane::Pictures, 0), move |_| Ok(price())).await?.0,
        };
        let named_all = prices.into_iter().enumerate();
        let prices: Vec<PicturePrice> = named_all
            .map(|(index, price)| price.map_err(|error| named(index, error)))
            .collect::<Result<_, _>>()?;
        let pixels: u64 = prices.iter().map(|price| price.pixel_passes).sum();
        let most = app.config().limits.pictures_pixels_max;
        if pixels > most {
            let detail =
                format!("the pictures have {pixels} pixels to decode, at most {most} are taken at a time");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "picture_too_large", detail));
        }
        let is_quick = pixels <= QUICK_PIXELS && bytes <= QUICK_PICTURE_BYTES;
        let lane = if is_quick { Lane::Predict } else { Lane::Pictures };
        let mut values = Vec::with_capacity(pictures.len() * IMAGE_PIXELS);
        for (index, (bytes, price)) in pictures.iter().zip(&prices).enumerate() {
            let (bytes, held) = (bytes.clone(), Arc::clone(&held));
            let price = Price::new(lane, price.memory_bytes as usize);
            let read = move |_: &Stop| {
                let _held = held;
                Ok(read_picture(&bytes, prepare, &limits))
            };
            let (image, _) = worked(app, client, price, read).await?;
            values.extend(from_pixels(&image.map_err(|error| named(index, error))?));
        }
        Ok(Self::Values(values))
    }

    /// The images as rows of 784 values from 0 to 1.
    ///
    /// # Errors
    /// If they can't be read, or are more than `images_max`.
    pub fn images(self, images_max: usize) -> Result<Array2<f32>, Problem> {
        let (values, count) = match self {
            Self::Json(Body { bytes: body, .. }, _) => {
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

/// Images that a body in JSON can hold at most: numbers are as many as commas, and one more.
fn images_at_most(body: &[u8]) -> usize {
    body.iter().filter(|&&byte| byte == b',').count() / IMAGE_PIXELS + 1
}

/// The files called `image` of a form.
async fn pictures(body: &Body, pictures_max: usize) -> Result<Vec<Bytes>, Problem> {
    let problem = |error: axum::extract::multipart::MultipartError| {
        Problem::malformed("invalid_multipart", error.body_text())
    };
    let mut form = body.form().await?;
    let mut pictures = Vec::new();
    while let Some(field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("image") {
            let name = shown(field.name().unwrap_or_default());
            let detail = format!("unknown form field {name:?}; send files as image");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail));
        }
        if pictures.len() >= pictures_max {
            let detail = format!("a form may hold {pictures_max} pictures at most");
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
