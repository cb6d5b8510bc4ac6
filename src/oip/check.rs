use super::images::Scale;
use super::{
    Contents, Datatype, INPUT, ImageTensor, InferError, InferInput, InferRequest, Interface, LABEL,
    PROBABILITIES, Parameter, Parameters, RequestedOutput,
};
use crate::data::picture::Preparation;
use crate::fields::shown;

/// The datatypes of images.
const DATATYPES: [Datatype; 4] = [Datatype::Uint8, Datatype::Fp32, Datatype::Fp64, Datatype::Bytes];

/// Bytes of an element of a classification, without the name of its class, while it is made and sent.
const CLASSIFICATION_BYTES: usize = 64;

/// The limits of a request for inference.
#[derive(Clone, Copy, Debug)]
pub struct InferLimits {
    /// The most images.
    pub images_max: usize,
    /// The most pictures, which are images as files.
    pub pictures_max: usize,
}

/// A request that fits its model.
pub struct Inference {
    /// The client's name for the request.
    pub id: Option<String>,
    /// The images.
    pub images: ImageTensor,
    /// The outputs of the response, in order.
    pub outputs: Vec<Output>,
}

/// An output of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The probability of each class.
    Probabilities,
    /// The best classes as texts: their probabilities, numbers and names. The number is how many.
    Classification(usize),
    /// The number of the most probable class.
    Label,
}

/// Checks a request for a model. Nothing is allocated that depends on the shapes in the request.
///
/// # Errors
/// Returns every fault of names, datatypes, shapes, sizes and parameters.
pub fn check(
    request: InferRequest,
    model: &Interface,
    class_name_bytes_max: usize,
    limits: InferLimits,
) -> Result<Inference, InferError> {
    let mut faults = Vec::new();
    let outputs = outputs(&request.outputs, model, &mut faults);
    let scale =
        choice(&request.parameters, "scale", [("byte", Scale::Byte), ("unit", Scale::Unit)], &mut faults);
    let preparation = choice(
        &request.parameters,
        "prepare",
        [("mnist", Preparation::Mnist), ("none", Preparation::AsIs)],
        &mut faults,
    );
    let input = only_input(request.inputs, model, &mut faults);
    let checked =
        input.and_then(|input| Some((checked(&input, model, limits, &mut faults)?, input.contents)));
    let Some(((datatype, count), contents)) = checked.filter(|_| faults.is_empty()) else {
        return Err(InferError::of(&faults));
    };
    let classes = outputs.iter().map(|output| match output {
        Output::Classification(best) => *best,
        _ => 0,
    });
    let answer_bytes = classes.sum::<usize>() * (CLASSIFICATION_BYTES + 2 * class_name_bytes_max);
    let images = ImageTensor {
        image: model.image,
        count,
        datatype,
        contents,
        scale,
        preparation,
        answer_bytes,
        held: request.held,
    };
    Ok(Inference { id: request.id, images, outputs })
}

/// Returns the value of a parameter that is one of two words, the first of which is the default.
fn choice<T: Copy>(
    parameters: &Parameters,
    name: &str,
    words: [(&str, T); 2],
    faults: &mut Vec<String>,
) -> T {
    let [(first, default), (second, other)] = words;
    match parameters.get(name) {
        None => default,
        Some(Parameter::String(word)) if word == first => default,
        Some(Parameter::String(word)) if word == second => other,
        Some(found) => {
            faults.push(format!("parameter '{name}' must be \"{first}\" or \"{second}\", not {found}"));
            default
        }
    }
}

/// Returns the input called `image`, which must be the only one.
fn only_input(inputs: Vec<InferInput>, model: &Interface, faults: &mut Vec<String>) -> Option<InferInput> {
    let Interface { model, .. } = model;
    for input in inputs.iter().filter(|input| input.name != INPUT) {
        let name = shown(&input.name);
        faults.push(format!(
            "unexpected inference input '{name}' for model '{model}'; it takes one input, '{INPUT}'"
        ));
    }
    let mut images = inputs.into_iter().filter(|input| input.name == INPUT);
    let first = images.next();
    if first.is_none() && faults.is_empty() {
        faults.push(format!("no inference input for model '{model}'; it takes one input, '{INPUT}'"));
    }
    if images.next().is_some() {
        faults.push(format!("input '{INPUT}' is given twice; send several images as one tensor"));
    }
    first
}

/// Returns datatype and number of images of an input whose shape and size fit the model.
fn checked(
    input: &InferInput,
    model: &Interface,
    limits: InferLimits,
    faults: &mut Vec<String>,
) -> Option<(Datatype, usize)> {
    let datatype = Datatype::named(&input.datatype).filter(|datatype| DATATYPES.contains(datatype));
    let Some(datatype) = datatype else {
        faults.push(format!(
            "unexpected datatype for input '{INPUT}' for model '{}': expected UINT8, FP32, FP64 or BYTES, got '{}'",
            model.model,
            shown(&input.datatype)
        ));
        return None;
    };
    let (count, count_max) = match datatype {
        Datatype::Bytes => (pictures(&input.shape), limits.pictures_max),
        _ => (model.images(&input.shape), limits.images_max),
    };
    let Some(count) = count else {
        faults.push(wrong_shape(&input.shape, datatype, model));
        return None;
    };
    if !(1..=count_max).contains(&count) {
        faults.push(format!(
            "inference request batch-size must be from 1 to {count_max} for '{}' and {datatype}, got {count}",
            model.model
        ));
        return None;
    }
    if let (Contents::Raw(bytes), Some(size)) = (&input.contents, datatype.size()) {
        // A shape is checked before, so the product is known to be small.
        let wanted = count.checked_mul(model.image.len()).and_then(|elements| elements.checked_mul(size));
        if wanted != Some(bytes.len()) {
            let wanted = wanted.map_or_else(|| "too many".to_owned(), |wanted| wanted.to_string());
            faults.push(format!(
                "unexpected size for input '{INPUT}': shape {} of {datatype} has {wanted} bytes, got {}",
                list(&input.shape),
                bytes.len()
            ));
            return None;
        }
    }
    Some((datatype, count))
}

/// Returns how many pictures a tensor of BYTES has.
fn pictures(shape: &[i64]) -> Option<usize> {
    match shape {
        [count] | [count, 1] => usize::try_from(*count).ok(),
        _ => None,
    }
}

fn list(shape: &[i64]) -> String {
    let sides: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!("[{}]", sides.join(","))
}

/// Describes a shape that is not accepted, and the shape to send instead if the number of elements allows a guess.
fn wrong_shape(shape: &[i64], datatype: Datatype, model: &Interface) -> String {
    let expected = match datatype {
        Datatype::Bytes => "[-1]".to_owned(),
        _ => {
            let with_batch = |layout: &Vec<i64>| list(&[&[-1], layout.as_slice()].concat());
            let layouts: Vec<String> = model.layouts().iter().take(2).map(with_batch).collect();
            layouts.join(" or ")
        }
    };
    let elements =
        shape.iter().try_fold(1_i64, |product, &side| product.checked_mul(side).filter(|_| side > 0));
    let of_image = if datatype == Datatype::Bytes { 1 } else { model.image.len() as i64 };
    let guess = elements.filter(|elements| *elements > 0 && elements % of_image == 0);
    let hint = match guess {
        Some(elements) if datatype == Datatype::Bytes => format!("; send [{elements}]"),
        Some(elements) => {
            format!("; the first number counts the images: send [{},{of_image}]", elements / of_image)
        }
        None => String::new(),
    };
    format!(
        "unexpected shape for input '{INPUT}' for model '{}'. Expected {expected}, got {}{hint}",
        model.model,
        list(shape)
    )
}

/// Returns the outputs that a request asks for, or all of them.
fn outputs(requested: &[RequestedOutput], model: &Interface, faults: &mut Vec<String>) -> Vec<Output> {
    if requested.is_empty() {
        return vec![Output::Probabilities, Output::Label];
    }
    let mut outputs = Vec::new();
    for (index, RequestedOutput { name, parameters }) in requested.iter().enumerate() {
        if requested[..index].iter().any(|earlier| earlier.name == *name) {
            faults.push(format!("output '{}' is requested twice", shown(name)));
        }
        let classification = parameters.get("classification");
        outputs.push(match (name.as_str(), classification) {
            (PROBABILITIES, None) => Output::Probabilities,
            (PROBABILITIES, Some(&Parameter::Int64(best @ 1..))) => {
                Output::Classification(usize::try_from(best).unwrap_or(usize::MAX).min(model.classes))
            }
            (PROBABILITIES, Some(other)) => {
                faults.push(format!(
                    "parameter 'classification' of output '{name}' must be a whole number of at least 1, not {other}"
                ));
                continue;
            }
            (LABEL, None) => Output::Label,
            (LABEL, Some(_)) => {
                faults.push(format!("output '{name}' has no classification; request that of '{PROBABILITIES}'"));
                continue;
            }
            _ => {
                faults.push(format!(
                    "unexpected inference output '{}' for model '{}'; it has '{PROBABILITIES}' and '{LABEL}'",
                    shown(name),
                    model.model
                ));
                continue;
            }
        });
    }
    outputs
}
