use axum::Json as JsonResponse;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ndarray::Array2;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::{ModelParam, ModelPath, Params, invalid_json};
use super::receive::Body;
use super::{Problem, images, paid, worked};
use crate::admission::{Lane, Price, Stop};
use crate::api::{self, Code};
use crate::app::App;
use crate::data::picture::{self, Preparation};
use crate::data::to_unit;
use crate::fields::shown;
use crate::nn::Shape;
use crate::service::{
    Caller, Pictures, Predictions, QUICK_BYTES, QUICK_PICTURE_BYTES, UnreadImages, Wanted, check_top,
};

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

impl From<Prepare> for Preparation {
    fn from(prepare: Prepare) -> Self {
        match prepare {
            Prepare::Mnist => Self::Mnist,
            Prepare::None => Self::AsIs,
        }
    }
}

/// Memory to copy the files out of a form, as a multiple of its length.
const FORM_COPIES: usize = 2;

/// The images in the body of a request, before they are parsed.
pub struct Input {
    /// The input of the network that the images are for.
    shape: Shape,
    images: Unread,
}

/// Images that are not parsed yet.
enum Unread {
    /// Images in JSON, and the most images that the body can contain.
    Json(Body, usize),
    /// A byte per pixel.
    Pixels(Body),
    /// Pictures as files.
    Pictures(Pictures),
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
    check_top(&model, params.top)?;
    let (wanted, shape) = (Wanted::new(&model), model.predictor.network().input());
    drop(model);
    let input = Input::of(&app, &caller, shape, body).await?.prepared(&app, &caller, params.prepare).await?;
    let answer = |predictions: Predictions| JsonResponse(api::Predictions::from(predictions)).into_response();
    let (response, charge) = service.predict(&caller, &wanted, input, params.top, answer).await?;
    Ok(paid(charge, response))
}

impl Input {
    /// Extracts the images from the body of a request, for a network with this input.
    ///
    /// # Errors
    /// Returns 400 or 422 for an invalid form.
    pub async fn of(app: &App, caller: &Caller, shape: Shape, body: Body) -> Result<Self, Problem> {
        let images = match body.media_type.as_deref() {
            Some("application/json") => {
                let images = if body.bytes.len() <= QUICK_BYTES {
                    images_at_most(&body.bytes, shape)
                } else {
                    let body = body.clone();
                    let count = move |_: &Stop| Ok(images_at_most(&body.bytes, shape));
                    worked(app, caller, Price::new(Lane::Text, 0), count).await?.0
                };
                Unread::Json(body, images)
            }
            Some("application/octet-stream") => Unread::Pixels(body),
            Some("multipart/form-data") => {
                let pictures_max = app.config().limits.pictures_max;
                let (files, charge) = if body.bytes.len() <= QUICK_PICTURE_BYTES {
                    let charge = app.admission().charge(caller.peer(), FORM_COPIES * body.bytes.len());
                    let charge = charge?;
                    (files(&body, pictures_max).await?, charge)
                } else {
                    // The form is in memory, so `block_on` never waits for input.
                    let runtime = tokio::runtime::Handle::current();
                    let price = Price::new(Lane::Pictures, FORM_COPIES * body.bytes.len());
                    let read = move |_: &Stop| runtime.block_on(files(&body, pictures_max));
                    worked(app, caller, price, read).await?
                };
                Unread::Pictures(Pictures::new(files, charge))
            }
            _ => Unread::Pictures(Pictures::new(vec![body.bytes.clone()], body)),
        };
        Ok(Self { shape, images })
    }

    /// Converts pictures to values.
    ///
    /// # Errors
    /// Returns 422 for an invalid picture, or an error if there is no room to decode it.
    pub async fn prepared(self, app: &App, caller: &Caller, prepare: Prepare) -> Result<Self, Problem> {
        let images = match self.images {
            Unread::Pictures(pictures) => {
                Unread::Values(app.service().images_of(caller, pictures, prepare.into(), self.shape).await?)
            }
            unchanged => unchanged,
        };
        Ok(Self { images, ..self })
    }
}

impl UnreadImages for Input {
    type Error = Problem;

    fn images_max(&self) -> usize {
        match &self.images {
            Unread::Json(_, images) => *images,
            Unread::Pixels(Body { bytes, .. }) => bytes.len() / self.shape.len(),
            Unread::Pictures(pictures) => pictures.count(),
            Unread::Values(values) => values.len() / self.shape.len(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.images {
            Unread::Json(Body { bytes, .. }, _) | Unread::Pixels(Body { bytes, .. }) => bytes.len(),
            Unread::Pictures(pictures) => pictures.bytes(),
            Unread::Values(_) => 0,
        }
    }

    fn parsed_bytes(&self, images_max: usize) -> usize {
        match &self.images {
            Unread::Json(body, _) => images::price(body.bytes.len(), self.shape.into(), images_max),
            Unread::Pixels(_) | Unread::Pictures(..) | Unread::Values(_) => 0,
        }
    }

    fn read(self, images_max: usize) -> Result<Array2<f32>, Problem> {
        let numbers = self.shape.len();
        let values = match self.images {
            Unread::Json(Body { bytes: body, .. }, _) => {
                if body.is_empty() {
                    return Err(Problem::new(Code::EmptyBody, "the body is empty; send image or images"));
                }
                let images = images::parse(&body, self.shape.into(), images_max);
                images.map_err(|error| invalid_json(&error))?.map_err(Problem::invalid)?
            }
            Unread::Pixels(Body { bytes, .. }) => {
                check_pixels(&bytes, numbers, images_max)?;
                to_unit(&bytes).collect()
            }
            Unread::Values(values) => values,
            Unread::Pictures(..) => return Err(Problem::internal()),
        };
        Array2::from_shape_vec((values.len() / numbers, numbers), values).map_err(|error| {
            tracing::error!(%error, numbers, "images of the wrong size were not refused earlier");
            Problem::internal()
        })
    }
}

/// Checks that a body has 1 to `images_max` images of `pixels` bytes each.
fn check_pixels(bytes: &[u8], pixels: usize, images_max: usize) -> Result<(), Problem> {
    let detail = if let Some(format) = picture::looks_like(bytes) {
        format!(
            "the body begins like a {format} picture; send it as image/{format}, and bytes of pixels alone as \
             application/octet-stream"
        )
    } else if bytes.is_empty() || !bytes.len().is_multiple_of(pixels) || bytes.len() / pixels > images_max {
        format!("the body has {} bytes; it must be 1 to {images_max} images of {pixels} bytes", bytes.len())
    } else {
        return Ok(());
    };
    Err(Problem::new(Code::InvalidImageSize, detail))
}

/// Returns the most images that a JSON body can contain. The body has at most one number more than it has
/// commas.
fn images_at_most(body: &[u8], shape: Shape) -> usize {
    body.iter().filter(|&&byte| byte == b',').count() / shape.len() + 1
}

/// Returns the files called `image` of a form.
async fn files(body: &Body, pictures_max: usize) -> Result<Vec<Bytes>, Problem> {
    let problem = |error: axum::extract::multipart::MultipartError| {
        Problem::new(Code::InvalidMultipart, error.body_text())
    };
    let mut form = body.form().await?;
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("image") {
            let name = shown(field.name().unwrap_or_default());
            let detail = format!("unknown form field {name:?}; send files as image");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        if files.len() >= pictures_max {
            let detail = format!("a form may hold {pictures_max} pictures at most");
            return Err(Problem::new(Code::TooManyPictures, detail));
        }
        files.push(field.bytes().await.map_err(problem)?);
    }
    if files.is_empty() {
        let detail = "the form holds no file called image";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(files)
}
