use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ndarray::Array2;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{ModelParam, ModelPath, Params, invalid, invalid_json};
use super::receive::Body;
use super::{Problem, images, paid, worked};
use crate::admission::{Lane, Price, Stop};
use crate::api::{self, Code};
use crate::app::App;
use crate::data::picture::{self, PictureError, PictureLimits, PicturePrice};
use crate::data::{IMAGE_PIXELS, IMAGE_SIDE};
use crate::fields::shown;
use crate::service::{Caller, Predictions, QUICK_BYTES, UnreadImages, Wanted};

/// Query of [`predict`].
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PredictParams {
    /// How pictures are prepared: `mnist` crops, scales and centres them as in MNIST, `none` uses them as they are.
    #[serde(default)]
    #[param(inline)]
    prepare: Prepare,
    /// How many of the most probable classes `probabilities` has; by default all.
    #[param(minimum = 1)]
    top: Option<usize>,
}

/// How pictures are prepared.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(default = json!("mnist"))]
pub enum Prepare {
    /// They are cropped, scaled and centred as in MNIST.
    #[default]
    Mnist,
    /// They are used as they are.
    None,
}

/// Pictures with at most this many bytes and pixels are prepared in the lane of predictions. Larger pictures
/// have their own lane.
const QUICK_PICTURE_BYTES: usize = 256 << 10;
const QUICK_PIXELS: u64 = 1 << 16;

/// Memory to copy the files out of a form, as a multiple of its length.
const FORM_COPIES: usize = 2;

/// The images in the body of a request, before they are parsed.
pub enum Input {
    /// Images in JSON, and the most images that the body can contain.
    Json(Body, usize),
    /// A byte per pixel.
    Pixels(Body),
    /// Pictures as files, and the value that holds the charge for their memory.
    Pictures(Vec<Bytes>, Arc<dyn Send + Sync>),
    /// Parsed pixels from 0 to 1.
    Values(Vec<f32>),
}

/// Predicts the classes of images.
///
/// A body has one or more images: JSON, bytes, a picture, or a form with several pictures.
#[utoipa::path(
    post,
    path = "/v1/models/{ref}/predict",
    operation_id = "predict",
    tag = "models",
    params(ModelParam, PredictParams),
    request_body(content(
        (api::ImagesRequest = "application/json", examples(
            ("rows" = (summary = "one image, 28 rows of 28 numbers", value = json!({"image": api::example_image()}))),
            ("numbers" = (summary = "two images of 784 numbers from 0 to 1", value = json!({"images": [vec![0.5; 784], vec![0; 784]], "scale": "unit"})))
        )),
        (api::Pixels = "application/octet-stream", example = json!(api::example_bytes())),
        (api::Picture = "image/png", examples(("digit" = (summary = "a test digit, sent with Accept: image/png", external_value = "/v1/datasets/mnist/test/0")))),
        (api::Picture = "image/jpeg"),
        (api::PicturesRequest = "multipart/form-data", example = json!({"image": ["digit.png"]}))
    )),
    responses((status = 200, description = "The prediction for each image.", body = api::Predictions)),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::PredictionTooLarge])))
)]
pub async fn predict(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<PredictParams>,
    body: Body,
) -> Result<Response, Problem> {
    let service = app.service();
    let model = service.loaded(&caller, &reference).await?;
    let classes = model.classes.len();
    if params.top.is_some_and(|top| !(1..=classes).contains(&top)) {
        return Err(invalid(format!("top must be from 1 to {classes}")));
    }
    let wanted = Wanted::new(&model);
    drop(model);
    let input = Input::of(&app, &caller, body).await?.prepared(&app, &caller, params.prepare).await?;
    let answer = |predictions: Predictions| JsonResponse(api::Predictions::from(predictions)).into_response();
    let (response, charge) = service.predict(&caller, &wanted, input, params.top, answer).await?;
    Ok(paid(charge, response))
}

impl Input {
    /// Extracts the images from the body of a request.
    ///
    /// # Errors
    /// Returns 400 or 422 for an invalid form.
    pub async fn of(app: &App, caller: &Caller, body: Body) -> Result<Self, Problem> {
        match body.media_type.as_deref() {
            Some("application/json") => {
                let images = if body.bytes.len() <= QUICK_BYTES {
                    images_at_most(&body.bytes)
                } else {
                    let body = body.clone();
                    let count = move |_: &Stop| Ok(images_at_most(&body.bytes));
                    worked(app, caller, Price::new(Lane::Text, 0), count).await?.0
                };
                Ok(Self::Json(body, images))
            }
            Some("application/octet-stream") => Ok(Self::Pixels(body)),
            Some("multipart/form-data") => {
                let pictures_max = app.config().limits.pictures_max;
                let pictures = if body.bytes.len() <= QUICK_PICTURE_BYTES {
                    let charge = app.admission().charge(caller.peer(), FORM_COPIES * body.bytes.len());
                    let charge = charge?;
                    (pictures(&body, pictures_max).await?, charge)
                } else {
                    // The form is in memory, so `block_on` never waits for input.
                    let runtime = tokio::runtime::Handle::current();
                    let price = Price::new(Lane::Pictures, FORM_COPIES * body.bytes.len());
                    let read = move |_: &Stop| runtime.block_on(pictures(&body, pictures_max));
                    worked(app, caller, price, read).await?
                };
                Ok(Self::Pictures(pictures.0, Arc::new(pictures.1)))
            }
            _ => Ok(Self::Pictures(vec![body.bytes.clone()], Arc::new(body))),
        }
    }

    /// Converts pictures to values. Each picture is a separate piece of work, so that a form of many large
    /// pictures does not block other clients.
    ///
    /// # Errors
    /// Returns 422 for an invalid picture, or an error if there is no room to decode it.
    pub async fn prepared(self, app: &App, caller: &Caller, prepare: Prepare) -> Result<Self, Problem> {
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
            _ => worked(app, caller, Price::new(Lane::Pictures, 0), move |_| Ok(price())).await?.0,
        };
        let named_all = prices.into_iter().enumerate();
        let prices: Vec<PicturePrice> = named_all
            .map(|(index, price)| price.map_err(|error| named(index, error)))
            .collect::<Result<_, _>>()?;
        let pixels: u64 = prices.iter().map(|price| price.pixel_passes).sum();
        let most = app.config().limits.pictures_pixels_max;
        if pixels > most {
            let detail =
                format!("the pictures have {pixels} pixels to decode; a request may have at most {most}");
            return Err(Problem::new(Code::PictureTooLarge, detail));
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
            let (image, _) = worked(app, caller, price, read).await?;
            values.extend(from_pixels(&image.map_err(|error| named(index, error))?));
        }
        Ok(Self::Values(values))
    }
}

impl UnreadImages for Input {
    type Error = Problem;

    fn images_max(&self) -> usize {
        match self {
            Self::Json(_, images) => *images,
            Self::Pixels(Body { bytes, .. }) => bytes.len() / IMAGE_PIXELS,
            Self::Pictures(pictures, ..) => pictures.len(),
            Self::Values(values) => values.len() / IMAGE_PIXELS,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Json(Body { bytes, .. }, _) | Self::Pixels(Body { bytes, .. }) => bytes.len(),
            Self::Pictures(pictures, ..) => pictures.iter().map(Bytes::len).sum(),
            Self::Values(_) => 0,
        }
    }

    fn parsed_bytes(&self, images_max: usize) -> usize {
        match self {
            Self::Json(body, _) => images::price(body.bytes.len(), images_max),
            Self::Pixels(_) | Self::Pictures(..) | Self::Values(_) => 0,
        }
    }

    fn read(self, images_max: usize) -> Result<Array2<f32>, Problem> {
        let (values, count) = match self {
            Self::Json(Body { bytes: body, .. }, _) => {
                if body.is_empty() {
                    return Err(Problem::new(Code::EmptyBody, "the body is empty; send image or images"));
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
                    return Err(Problem::new(Code::InvalidImageSize, detail));
                }
                if bytes.is_empty() || bytes.len() % IMAGE_PIXELS != 0 || count > images_max {
                    let detail = format!(
                        "the body has {} bytes; it must be 1 to {images_max} images of {IMAGE_PIXELS} bytes",
                        bytes.len(),
                    );
                    return Err(Problem::new(Code::InvalidImageSize, detail));
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
            tracing::error!(%error, side = IMAGE_SIDE, "images of the wrong size were not refused earlier");
            Problem::internal()
        })
    }
}

/// Returns the most images that a JSON body can contain. The body has at most one number more than it has
/// commas.
fn images_at_most(body: &[u8]) -> usize {
    body.iter().filter(|&&byte| byte == b',').count() / IMAGE_PIXELS + 1
}

/// Returns the files called `image` of a form.
async fn pictures(body: &Body, pictures_max: usize) -> Result<Vec<Bytes>, Problem> {
    let problem = |error: axum::extract::multipart::MultipartError| {
        Problem::new(Code::InvalidMultipart, error.body_text())
    };
    let mut form = body.form().await?;
    let mut pictures = Vec::new();
    while let Some(field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("image") {
            let name = shown(field.name().unwrap_or_default());
            let detail = format!("unknown form field {name:?}; send files as image");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        if pictures.len() >= pictures_max {
            let detail = format!("a form may hold {pictures_max} pictures at most");
            return Err(Problem::new(Code::TooManyPictures, detail));
        }
        pictures.push(field.bytes().await.map_err(problem)?);
    }
    if pictures.is_empty() {
        let detail = "the form holds no file called image";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(pictures)
}

/// Decodes and prepares a picture.
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

/// Converts pixels from 0–255 to 0–1.
pub fn from_pixels(pixels: &[u8]) -> impl Iterator<Item = f32> {
    pixels.iter().map(|&pixel| f32::from(pixel) / 255.0)
}
