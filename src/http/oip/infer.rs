use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::ModelInPath;
use super::answer::{Rendered, render};
use super::tensors::{Divided, Tensors};
use crate::admission::{Lane, Price, Stop};
use crate::api::{self, Code};
use crate::app::App;
use crate::http::receive::Body;
use crate::http::{Problem, paid, worked};
use crate::oip::{InferError, InferLimits, Interface, Output, answer, check};
use crate::service::{Caller, Predictions, QUICK_BYTES, Wanted};

/// Infers the classes of images.
///
/// The input `image` is declared as UINT8 with values from 0 to 255. FP32 and FP64 are accepted as well, and with the
/// parameter `scale: "unit"` values are from 0 to 1. An image can also be sent flat. Elements of BYTES are PNG or JPEG
/// pictures, in base64 if the tensor is JSON; the parameter `prepare: "none"` uses them as they are. Tensors can be sent
/// and received as bytes (the extension `binary_tensor_data`): the header `Inference-Header-Content-Length` then has the
/// length of the JSON. With the length 0, the body is the bytes of one image. The body can be compressed with gzip or
/// deflate. The media type of the body is ignored.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/infer",
    operation_id = "infer",
    tag = "inference",
    params(("name" = String, Path, description = "Name of the model.")),
    request_body(content(
        (api::InferRequest = "application/json", examples(
            ("digit" = (summary = "one image, and its two most probable classes", value = json!(api::example_inference())))
        )),
        (api::Tensors = "application/octet-stream", example = json!(api::example_inference().to_string()))
    )),
    responses((status = 200, description = "The outputs.", content(
        (api::InferResponse = "application/json"), (api::Tensors = "application/octet-stream")
    ))),
    extensions(("x-codes" = json!([
        Code::SERVED, Code::LOADED, Code::PICTURES, Code::PredictionTooLarge, Code::InvalidTensor, Code::InvalidInferenceHeader
    ])))
)]
pub async fn infer(
    State(app): State<App>,
    caller: Caller,
    ModelInPath(reference): ModelInPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let service = app.service();
    let divided = Divided::new(&headers, body)?;
    let model = service.loaded(&caller, &reference).await?;
    let (wanted, interface) = (Wanted::new(&model), Interface::of(&model));
    drop(model);
    let Tensors { request, binary } = parsed(&app, &caller, divided, &interface).await?;
    let is_classified = request.outputs.iter().any(|output| output.parameters.contains_key("classification"));
    let classes = if is_classified { service.held(&wanted).await?.classes.clone() } else { Vec::new() };
    let limits = &app.config().limits;
    let limits = InferLimits { images_max: limits.images_max, pictures_max: limits.pictures_max };
    let name_bytes_max = classes.iter().map(String::len).max().unwrap_or(0);
    let inference = check(request, &interface, name_bytes_max, limits)?;
    let images = inference.images.prepared(service, &caller).await?;
    let (id, outputs) = (inference.id, inference.outputs);
    let answer =
        move |predictions: Predictions| rendered(id.clone(), predictions, &outputs, &classes, &binary);
    let (response, charge) = service.predict(&caller, &wanted, images, None, answer).await?;
    Ok(paid(charge, response?))
}

/// Parses the head of a request: here if it is short, or else in the lane of texts.
async fn parsed(
    app: &App,
    caller: &Caller,
    divided: Divided,
    interface: &Interface,
) -> Result<Tensors, Problem> {
    let price = divided.price();
    if divided.json_bytes() <= QUICK_BYTES {
        let _charge = app.admission().charge(caller.peer(), price)?;
        return divided.parse(interface);
    }
    let interface = interface.clone();
    let parse = move |_: &Stop| divided.parse(&interface);
    Ok(worked(app, caller, Price::new(Lane::Text, price), parse).await?.0)
}

fn rendered(
    id: Option<String>,
    predictions: Predictions,
    outputs: &[Output],
    classes: &[String],
    binary: &super::tensors::Binary,
) -> Result<Rendered, Problem> {
    let response = answer(id, predictions, outputs, classes)?;
    render(&response, binary).map_err(|error| {
        tracing::error!(%error, "a response can't be written");
        InferError::NotFinite.into()
    })
}
