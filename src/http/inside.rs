//! Looking into a published network: one image, and what happens to it.

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::{Json, ModelPath, NoParams, Params, PathWords, accepts, asked_for, invalid, path_text};
use super::lab::{answer_as, lab_price};
use super::predict::{self, Input, Prepare};
use super::receive::Body;
use super::{Problem, client_gone, datasets, images, priced_with};
use crate::admission::Stop;
use crate::app::App;
use crate::data::{self, SplitName};
use crate::fields::{Bounds, Fault, Fields, parsed};
use crate::lab::{self, AnswerCost, Explanation, LayerWeights, Microscope, ParameterPlace, Trace};
use crate::model::ModelRef;
use crate::nn::{LayerSpec, LossKind, Network};
use crate::registry::Model;
use crate::service::{Caller, UnreadImages, Wanted};

const PNG: &str = "image/png";
const TEXT: &str = "text/plain";

/// An answer about a model.
#[derive(Serialize)]
pub struct About<T> {
    /// Its name.
    model: String,
    /// Its version.
    version: u32,
    #[serde(flatten)]
    answer: T,
}

impl<T> About<T> {
    fn new(model: &Model, answer: T) -> Self {
        Self { model: model.name.clone(), version: model.version, answer }
    }
}

/// Query of [`trace`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceParams {
    #[serde(default)]
    arrays: bool,
    layer: Option<String>,
}

/// `POST /v1/models/{ref}/trace`
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
    let asked = Asked::of(&app, &caller, &reference).await?;
    let (shown, (learning_rate, loss)) = take(&app, request, &asked.wanted, |fields, _| {
        let rate = fields.number("learning_rate", Bounds::above(0.0).to(1e6)).unwrap_or(0.1);
        Some((rate, loss(fields)))
    })
    .await?;
    if wants_picture {
        let model = app.service().held(&asked.wanted).await?;
        let layer = layer(model.predictor.network(), params.layer.as_deref().unwrap_or("0"))?;
        drop(model);
        let cost = lab::feature_maps_cost(&asked.layers, layer);
        let draw = move |model: &Model, _: &Stop| {
            Ok(answer_as(PNG, lab::feature_maps(model.predictor.network(), &shown.image, layer)))
        };
        return asked.answer(&app, &caller, cost, draw).await;
    }
    let cost = lab::trace_cost(&asked.layers, params.arrays);
    let ask = move |model: &Model, stop: &Stop| {
        let (network, image) = (model.predictor.network(), (shown.image.as_slice(), shown.label));
        let trace: Trace = lab::trace(network, loss, image, learning_rate, params.arrays, &|| !stop.is_set())
            .map_err(|_| client_gone())?;
        if !trace.loss_after.is_finite() {
            let detail =
                format!("a learning rate of {learning_rate} takes the loss out of the finite numbers");
            return Err(Problem::invalid(vec![Fault { pointer: "/learning_rate".to_owned(), detail }]));
        }
        Ok(match wants_text {
            true => answer_as(TEXT, trace.text()),
            false => JsonResponse(About::new(model, trace)).into_response(),
        })
    };
    asked.answer(&app, &caller, cost, ask).await
}

/// `POST /v1/models/{ref}/microscope`
pub async fn microscope(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    request: Json,
) -> Result<Response, Problem> {
    let wants_text = accepts(&headers, TEXT);
    let asked = Asked::of(&app, &caller, &reference).await?;
    let (shown, (place, loss)) = take(&app, request, &asked.wanted, |fields, network| {
        let (place, loss) = (parameter(fields, network), loss(fields));
        Some((place?, loss))
    })
    .await?;
    let cost = lab::microscope_cost(&asked.layers, &place);
    let ask = move |model: &Model, stop: &Stop| {
        let (network, image) = (model.predictor.network(), (shown.image.as_slice(), shown.label));
        let found: Microscope =
            lab::microscope(network, loss, image, &place, &|| !stop.is_set()).map_err(|_| client_gone())?;
        Ok(match wants_text {
            true => answer_as(TEXT, found.text),
            false => JsonResponse(About::new(model, found)).into_response(),
        })
    };
    asked.answer(&app, &caller, cost, ask).await
}

/// The loss that is differentiated, cross-entropy unless told.
fn loss(fields: &mut Fields) -> LossKind {
    fields.one_of("loss", &LossKind::NAMED).unwrap_or(LossKind::CrossEntropy)
}

/// The parameter that `layer`, `parameter` and `index` name.
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

/// `GET /v1/models/{ref}/layers/{name}/weights`
pub async fn weights(
    State(app): State<App>,
    caller: Caller,
    PathWords((reference, name)): PathWords<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let reference: ModelRef = reference.parse()?;
    let wants_picture = accepts(&headers, PNG);
    let asked = Asked::of(&app, &caller, &reference).await?;
    let model = app.service().held(&asked.wanted).await?;
    let layer = layer(model.predictor.network(), &path_text(&name))?;
    let cost = lab::weights_cost(model.predictor.network(), layer, wants_picture);
    drop(model);
    let ask = move |model: &Model, _: &Stop| {
        let network = model.predictor.network();
        let without = || {
            let detail = format!("layer {} has no parameters", network.layer_name(layer));
            Problem::not_found("no_parameters", detail)
        };
        if wants_picture {
            return Ok(answer_as(PNG, lab::weight_picture(network, layer).ok_or_else(without)?));
        }
        let weights: LayerWeights = lab::layer_weights(network, layer).ok_or_else(without)?;
        Ok(JsonResponse(About::new(model, weights)).into_response())
    };
    asked.answer(&app, &caller, cost, ask).await
}

/// Query of [`explain`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainParams {
    #[serde(default)]
    prepare: Prepare,
    class: Option<usize>,
}

/// Images that are explained at once.
const EXPLAINED_MAX: usize = 16;

/// Why images are taken for what they are.
#[derive(Serialize)]
struct Explanations {
    explanations: Vec<Explanation>,
}

/// `POST /v1/models/{ref}/explain`
pub async fn explain(
    State(app): State<App>,
    caller: Caller,
    ModelPath(reference): ModelPath,
    Params(params): Params<ExplainParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wants_picture = accepts(&headers, PNG);
    let asked = Asked::of(&app, &caller, &reference).await?;
    let classes = app.service().held(&asked.wanted).await?.classes.len();
    if params.class.is_some_and(|class| class >= classes) {
        let detail = format!("class must be from 0 to {}", classes - 1);
        return Err(invalid(detail));
    }
    let Asked { wanted, layers } = asked;
    let input = Input::of(&app, &caller, body).await?.prepared(&app, &caller, params.prepare).await?;
    let images = input.images_max().clamp(1, EXPLAINED_MAX);
    let mut cost = lab::explain_cost(&layers, images, wants_picture);
    cost.memory_bytes += input.parsed_bytes(EXPLAINED_MAX) as f64;
    let ask = move |model: &Model, stop: &Stop| {
        let x = input.read(EXPLAINED_MAX)?;
        let images: Vec<Vec<f32>> = x.rows().into_iter().map(|row| row.to_vec()).collect();
        let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let network = model.predictor.network();
        let explanations: Vec<Explanation> =
            lab::explain_all(network, &images, params.class, &|| !stop.is_set())
                .map_err(|_| client_gone())?;
        if wants_picture {
            return Ok(answer_as(PNG, lab::pictures(&images, &explanations)));
        }
        Ok(JsonResponse(About::new(model, Explanations { explanations })).into_response())
    };
    let price = lab_price(&app, cost)?;
    priced_with(&app, &caller, price, &wanted, ask).await
}

/// The model that is asked about, and its layers, by which the answer is priced.
struct Asked {
    wanted: Wanted,
    layers: Vec<LayerSpec>,
}

impl Asked {
    async fn of(app: &App, caller: &Caller, reference: &ModelRef) -> Result<Self, Problem> {
        let layers = app.registry().version(reference)?.layers;
        Ok(Self { wanted: Wanted::new(&app.service().loaded(caller, reference).await?), layers })
    }

    /// Answers by `ask`, which takes what `cost` says.
    async fn answer(
        self,
        app: &App,
        caller: &Caller,
        cost: AnswerCost,
        ask: impl FnOnce(&Model, &Stop) -> Result<Response, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        priced_with(app, caller, lab_price(app, cost)?, &self.wanted, ask).await
    }
}

fn layer(network: &Network<f32>, name: &str) -> Result<usize, Problem> {
    lab::layer_named(network, name).map_err(|detail| Problem::not_found("unknown_layer", detail))
}

/// An image and what it should be taken for.
struct Shown {
    /// Of pixel / 255.
    image: Vec<f32>,
    label: u8,
}

/// The image or example and the label of a request, and what else `more` takes of it.
async fn take<T: Send + 'static>(
    app: &App,
    request: Json,
    wanted: &Wanted,
    more: impl FnOnce(&mut Fields, &Network<f32>) -> Option<T> + Send + 'static,
) -> Result<(Shown, T), Problem> {
    if request.has_at_hand("example") {
        datasets::loaded(data::mnist::NAME.to_owned()).await?;
    }
    request.read_with(app, wanted, |request, model| shown(request, model, more)).await
}

fn shown<T>(
    request: &Value,
    model: &Model,
    more: impl FnOnce(&mut Fields, &Network<f32>) -> Option<T>,
) -> Result<(Shown, T), Vec<Fault>> {
    parsed(request, |mut fields| {
        let more = more(&mut fields, model.predictor.network());
        let classes = model.classes.len() as u64;
        let label = fields.integer("label", 0..=classes - 1).map(|label| label as u8);
        let has_label = fields.take("label").is_some();
        let (scale, example) = (fields.take("scale"), example(&mut fields));
        let image = match (fields.take("image"), example) {
            (Some(_), Ok(Some(_)) | Err(())) => {
                fields.fault("", "send image or example, not both".to_owned());
                None
            }
            (Some(image), Ok(None)) => own_image(image, scale, fields.faults),
            (None, Ok(Some((pixels, own)))) => {
                if scale.is_some() {
                    fields.fault("scale", "belongs to image; an example has its own".to_owned());
                }
                fields.refuse_unknown();
                let label = label.or((!has_label).then_some(own));
                return Some((Shown { image: pixels, label: label? }, more?));
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
        Some((Shown { image: image?, label: label? }, more?))
    })
}

/// One image as [`predict`](predict::predict) takes it.
fn own_image(image: &Value, scale: Option<&Value>, faults: &mut Vec<Fault>) -> Option<Vec<f32>> {
    images::from_value(image, scale).map_err(|found| faults.extend(found)).ok()
}

/// The pixels and the label of `{"dataset": "mnist", "split": "test", "index": 0}`.
fn example(fields: &mut Fields) -> Result<Option<(Vec<f32>, u8)>, ()> {
    if fields.take("example").is_none() {
        return Ok(None);
    }
    let mut example = fields.object("example").ok_or(())?;
    let name = example.string("dataset").unwrap_or_else(|| data::mnist::NAME.to_owned());
    let splits = [("train", SplitName::Train), ("test", SplitName::Test)];
    let split = example.one_of("split", &splits).unwrap_or(SplitName::Test);
    let Some(dataset) = data::named(&name) else {
        let shapes = data::shapes();
        let known: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        example.fault("dataset", crate::fields::unknown("dataset", &name, &known));
        return Err(());
    };
    let examples = dataset.split(split);
    let most = examples.labels().len() as u64 - 1;
    let index = example.integer("index", 0..=most);
    if example.take("index").is_none() {
        example.fault("index", format!("is missing: 0 to {most}"));
    }
    example.refuse_unknown();
    let index = index.ok_or(())? as usize;
    Ok(Some((predict::from_pixels(examples.image(index)).collect(), examples.labels()[index])))
}
