//! Inspections of a published network with one image.

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::extract::{
    Json, ModelParam, ModelPath, NoParams, Params, PathWords, accepts, asked_for, invalid, path_text,
};
use super::lab::{TEXT, answer_as};
use super::predict::{Input, Prepare};
use super::receive::Body;
use super::{Problem, images, paid, rendered};
use crate::api::{self, About, Code};
use crate::app::App;
use crate::data::{self, SplitName};
use crate::fields::{Fault, Fields, Interval, parsed, unknown};
use crate::lab::{self, Explanation, LayerWeights, Microscope, ParameterPlace, Trace};
use crate::model::ModelRef;
use crate::nn::{LossKind, Network, Shape};
use crate::registry::Model;
use crate::service::{Caller, DatasetExample, LabelledImage, Service, TraceRequest, Wanted};

const PNG: &str = "image/png";

/// Returns the part of a response that names the model.
fn about(model: &Model) -> About {
    About { model: model.name.clone(), version: model.version }
}

/// Query of [`trace`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TraceParams {
    /// Whether to return all values in addition to their statistics.
    #[serde(default)]
    #[param(default = false)]
    arrays: bool,
    /// The layer whose feature maps the picture shows, such as `0.dense` or `0`; only with `Accept: image/png`.
    layer: Option<String>,
}

/// Traces one step of backpropagation on one image, layer by layer.
#[utoipa::path(
    post,
    path = "/v1/models/{ref}/trace",
    operation_id = "trace",
    tag = "models",
    params(ModelParam, TraceParams),
    request_body(content = api::TraceRequest, examples(
        ("example" = (summary = "a test example", value = json!({"example": {"index": 0}, "learning_rate": 0.05}))),
        ("image" = (summary = "an image", value = json!({"image": api::example_image(), "label": 1, "loss": "cross_entropy"})))
    )),
    responses((status = 200, description = "The trace, a table of it, or the feature maps of a layer.", content(
        (api::Trace = "application/json"), (String = "text/plain"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::UnknownLayer])))
)]
pub async fn trace(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<TraceParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let wanted = asked_for(&headers, &[PNG, TEXT]);
    let (wants_picture, wants_text) = (wanted == Some(PNG), wanted == Some(TEXT));
    if params.layer.is_some() && !wants_picture {
        let detail = "layer chooses what a picture shows: send Accept: image/png as well";
        return Err(invalid(detail));
    }
    let service = app.service();
    let inspected = service.inspected(&caller, &reference).await?;
    let (shown, (learning_rate, loss)) = take(&app, &caller, request, inspected.wanted(), |fields, _| {
        let rate = fields.number("learning_rate", Interval::above(0.0).to(1e6)).unwrap_or(0.1);
        Some((rate, loss(fields)))
    })
    .await?;
    if wants_picture {
        let layer = params.layer.as_deref().unwrap_or("0");
        let (picture, charge) = service.feature_maps(&caller, &inspected, shown.image, layer).await?;
        return Ok(paid(charge, answer_as(PNG, picture)));
    }
    let request = TraceRequest { shown, loss, learning_rate, arrays: params.arrays };
    let render = move |model: &Model, trace: Trace| match wants_text {
        true => answer_as(TEXT, trace.text()),
        false => JsonResponse(api::Trace::new(about(model), trace)).into_response(),
    };
    rendered(service.trace(&caller, &inspected, request, render).await)
}

/// Works out the chain rule of one weight.
#[utoipa::path(
    post,
    path = "/v1/models/{ref}/microscope",
    operation_id = "microscope",
    tag = "models",
    params(ModelParam),
    request_body(content = api::MicroscopeRequest, examples(
        ("weight" = (summary = "a weight of the first layer", value = json!({"example": {"split": "train", "index": 0}, "layer": "0", "index": [350, 3]}))),
        ("bias" = (summary = "a bias, on an image", value = json!({"image": api::example_image(), "label": 1, "layer": "0.dense", "parameter": "bias", "index": 5})))
    )),
    responses((status = 200, description = "The chain rule of the parameter, or its text only.", content(
        (api::Microscope = "application/json"), (String = "text/plain")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED])))
)]
pub async fn microscope(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let wants_text = accepts(&headers, TEXT);
    let inspected = app.service().inspected(&caller, &reference).await?;
    let (shown, (place, loss)) = take(&app, &caller, request, inspected.wanted(), |fields, network| {
        let (place, loss) = (parameter(fields, network), loss(fields));
        Some((place?, loss))
    })
    .await?;
    let render = move |model: &Model, found: Microscope| match wants_text {
        true => answer_as(TEXT, found.text),
        false => JsonResponse(api::Microscope::new(about(model), found)).into_response(),
    };
    rendered(app.service().microscope(&caller, &inspected, shown, loss, place, render).await)
}

/// Parses the loss to differentiate, which is cross-entropy by default.
fn loss(fields: &mut Fields) -> LossKind {
    fields.one_of("loss", &LossKind::NAMED).unwrap_or(LossKind::CrossEntropy)
}

/// Parses the parameter that `layer`, `parameter` and `index` name.
fn parameter(fields: &mut Fields, network: &Network<f32>) -> Option<ParameterPlace> {
    let name = fields.required_string("layer");
    let is_bias = fields.one_of("parameter", &[("weight", false), ("bias", true)]).unwrap_or(false);
    let index = match fields.take("index") {
        None => {
            fields.fault("index", "is missing: the place along each axis, or in row order".to_owned());
            None
        }
        Some(Value::Array(places)) => {
            places.iter().map(|place| place.as_u64().map(|place| place as usize)).collect::<Option<Vec<_>>>()
        }
        Some(place) => place.as_u64().map(|place| vec![place as usize]),
    };
    if index.is_none() && fields.take("index").is_some() {
        fields.fault(
            "index",
            "must be whole numbers from 0, one for each axis, or one in row order".to_owned(),
        );
    }
    let layer = lab::layer_named(network, &name?).map_err(|detail| fields.fault("layer", detail)).ok()?;
    ParameterPlace::new(network, layer, is_bias, &index?)
        .map_err(|(field, detail)| fields.fault(field, detail))
        .ok()
}

/// Shows the weights of a layer, as JSON or a picture.
#[utoipa::path(
    get,
    path = "/v1/models/{ref}/layers/{name}/weights",
    operation_id = "show_weights",
    tag = "models",
    params(ModelParam, ("name" = String, Path, description = "A layer, such as `0.dense` or `0`.")),
    responses((status = 200, description = "Statistics of the weights, or a picture of them.", content(
        (api::LayerWeights = "application/json"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED, Code::UnknownLayer, Code::NoParameters, Code::InvalidRequest, Code::RequestTooLarge])))
)]
pub async fn weights(
    State(app): State<App>,
    caller: Caller,
    PathWords((reference, name)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let reference: ModelRef = reference.parse()?;
    let service = app.service();
    let (inspected, layer) = (service.inspected(&caller, &reference).await?, path_text(&name));
    if accepts(&headers, PNG) {
        let (picture, charge) = service.weight_picture(&caller, &inspected, &layer).await?;
        return Ok(paid(charge, answer_as(PNG, picture)));
    }
    let render = |model: &Model, weights: LayerWeights| {
        JsonResponse(api::LayerWeights::new(about(model), weights)).into_response()
    };
    rendered(service.layer_weights(&caller, &inspected, &layer, render).await)
}

/// Query of [`explain`].
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainParams {
    /// How pictures are prepared: `mnist` crops, scales and centres them as in MNIST, `none` uses them as they are.
    #[serde(default)]
    #[param(inline)]
    prepare: Prepare,
    /// The class whose score is explained; by default the predicted one.
    #[param(minimum = 0)]
    class: Option<usize>,
}

/// Explains which pixels count for a class.
///
/// At most 16 images at a time.
#[utoipa::path(
    post,
    path = "/v1/models/{ref}/explain",
    operation_id = "explain",
    tag = "models",
    params(ModelParam, ExplainParams),
    request_body(content(
        (api::ImagesRequest = "application/json", example = json!({"image": api::example_image()})),
        (api::Pixels = "application/octet-stream", example = json!(api::example_bytes())),
        (api::Picture = "image/png", examples(("digit" = (summary = "a test digit, sent with Accept: image/png", external_value = "/v1/datasets/mnist/test/0")))),
        (api::Picture = "image/jpeg"),
        (api::PicturesRequest = "multipart/form-data", example = json!({"image": ["digit.png", "another.png"]}))
    )),
    responses((status = 200, description = "An explanation for each image, or a picture of all explanations.", content(
        (api::Explanations = "application/json"), (api::Picture = "image/png")
    ))),
    extensions(("x-codes" = json!([Code::MODEL, Code::LOADED])))
)]
pub async fn explain(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<ExplainParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wants_picture = accepts(&headers, PNG);
    let inspected = app.service().inspected(&caller, &reference).await?;
    inspected.check_class(params.class)?;
    let input = Input::of(&app, &caller, inspected.input(), body)
        .await?
        .prepared(&app, &caller, params.prepare)
        .await?;
    let render = move |model: &Model, images: &[&[f32]], explanations: Vec<Explanation>| match wants_picture {
        true => answer_as(PNG, lab::pictures(images, &explanations)),
        false => JsonResponse(api::Explanations::new(about(model), explanations)).into_response(),
    };
    let answer = app.service().explain(&caller, &inspected, input, params.class, wants_picture, render);
    rendered(answer.await)
}

/// Parses the image and label of a request, or its example, and other fields with `more`.
async fn take<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    request: Json,
    wanted: &Wanted,
    more: impl FnOnce(&mut Fields, &Network<f32>) -> Option<T> + Send + 'static,
) -> Result<(LabelledImage, T), Problem> {
    if request.has_at_hand("example") {
        app.service().dataset(caller, data::mnist::NAME.to_owned()).await?;
    }
    let (service, asker) = (app.service().clone(), caller.clone());
    let example = move |fields: &mut Fields| example(&service, &asker, fields);
    request.read_with(app, wanted, |request, model| shown(request, model, example, more)).await
}

fn shown<T>(
    request: &Value,
    model: &Model,
    example: impl FnOnce(&mut Fields) -> Result<Option<DatasetExample>, ()>,
    more: impl FnOnce(&mut Fields, &Network<f32>) -> Option<T>,
) -> Result<(LabelledImage, T), Vec<Fault>> {
    parsed(request, |mut fields| {
        let more = more(&mut fields, model.predictor.network());
        let classes = model.classes.len() as u64;
        let label = fields.integer("label", 0..=classes - 1).map(|label| label as u16);
        let has_label = fields.take("label").is_some();
        let (scale, example) = (fields.take("scale"), example(&mut fields));
        let image = match (fields.take("image"), example) {
            (Some(_), Ok(Some(_)) | Err(())) => {
                fields.fault("", "send image or example, not both".to_owned());
                None
            }
            (Some(image), Ok(None)) => {
                own_image(image, scale, model.predictor.network().input(), fields.faults)
            }
            (None, Ok(Some(example))) => {
                if scale.is_some() {
                    fields.fault("scale", "belongs to image; an example has its own".to_owned());
                }
                fields.refuse_unknown();
                let label = label.or((!has_label).then(|| example.label()));
                let image = data::to_unit(example.pixels()).collect();
                return Some((LabelledImage { image, label: label? }, more?));
            }
            (None, Err(())) => None,
            (None, Ok(None)) => {
                fields.fault("image", "is missing; send image, or example with its index".to_owned());
                None
            }
        };
        if !has_label && fields.take("example").is_none() {
            fields.fault("label", format!("is missing: the class of the image, 0 to {}", classes - 1));
        }
        fields.refuse_unknown();
        Some((LabelledImage { image: image?, label: label? }, more?))
    })
}

/// Parses an image of the request itself, in the forms that [`predict`](super::predict::predict) accepts.
fn own_image(
    image: &Value,
    scale: Option<&Value>,
    shape: Shape,
    faults: &mut Vec<Fault>,
) -> Option<Vec<f32>> {
    images::from_value(image, scale, shape.into()).map_err(|found| faults.extend(found)).ok()
}

/// Parses an example such as `{"dataset": "mnist", "split": "test", "index": 0}`.
fn example(service: &Service, caller: &Caller, fields: &mut Fields) -> Result<Option<DatasetExample>, ()> {
    if fields.take("example").is_none() {
        return Ok(None);
    }
    let mut example = fields.object("example").ok_or(())?;
    let name = example.string("dataset").unwrap_or_else(|| data::mnist::NAME.to_owned());
    let splits = [("train", SplitName::Train), ("test", SplitName::Test)];
    let split = example.one_of("split", &splits).unwrap_or(SplitName::Test);
    let Ok(examples) = service.examples_now(caller, &name, split) else {
        let (shapes, _) = service.datasets(caller, None, u32::MAX);
        let known: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        example.fault("dataset", unknown("dataset", &name, &known));
        return Err(());
    };
    let last = examples.last();
    let index = example.integer("index", 0..=last as u64);
    if example.take("index").is_none() {
        example.fault("index", format!("is missing: 0 to {last}"));
    }
    example.refuse_unknown();
    index.and_then(|index| examples.at(index as usize)).map(Some).ok_or(())
}
