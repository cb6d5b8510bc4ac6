use super::{Datatype, InferError, LABEL, Output, PROBABILITIES};
use crate::service::{Prediction, Predictions};

/// The response to a request for inference.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// Name of the model.
    pub model_name: String,
    /// Number of the version.
    pub model_version: String,
    /// The client's name for the request.
    pub id: Option<String>,
    /// The output tensors.
    pub outputs: Vec<OutputTensor>,
}

/// An output tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTensor {
    /// Name of the output.
    pub name: &'static str,
    /// The shape, beginning with the number of images.
    pub shape: Vec<i64>,
    /// The elements.
    pub values: Values,
}

/// The elements of an output tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers of FP32.
    Fp32(Vec<f32>),
    /// Numbers of INT64.
    Int64(Vec<i64>),
    /// Texts of BYTES. Each begins with its length as 32 bits, little-endian.
    Bytes(Vec<u8>),
}

impl Values {
    /// Returns the type of the elements.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Fp32(_) => Datatype::Fp32,
            Self::Int64(_) => Datatype::Int64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Appends the elements as bytes: little-endian, without padding.
    pub fn write_raw(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Fp32(numbers) => {
                numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()))
            }
            Self::Int64(numbers) => {
                numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()))
            }
            Self::Bytes(texts) => bytes.extend_from_slice(texts),
        }
    }

    /// Returns the number of bytes that [`write_raw`](Self::write_raw) appends.
    pub fn raw_bytes(&self) -> usize {
        match self {
            Self::Fp32(numbers) => size_of_val(numbers.as_slice()),
            Self::Int64(numbers) => size_of_val(numbers.as_slice()),
            Self::Bytes(texts) => texts.len(),
        }
    }
}

/// Returns the elements of [`Values::Bytes`].
pub fn byte_elements(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(element)
    })
}

/// Makes the outputs of a response. `classes` are the names of the classes, which only a classification needs.
///
/// # Errors
/// Returns an error if a probability is not finite. JSON has no such number.
pub fn answer(
    id: Option<String>,
    predictions: Predictions,
    outputs: &[Output],
    classes: &[String],
) -> Result<InferResponse, InferError> {
    let Predictions { model, version, predictions } = predictions;
    if predictions.iter().flat_map(|one| &one.probabilities).any(|value| !value.is_finite()) {
        return Err(InferError::NotFinite);
    }
    let outputs = outputs.iter().map(|&output| tensor(output, &predictions, classes)).collect();
    Ok(InferResponse { model_name: model, model_version: version.to_string(), id, outputs })
}

fn tensor(output: Output, predictions: &[Prediction], classes: &[String]) -> OutputTensor {
    let images = predictions.len() as i64;
    let of_image = predictions.first().map_or(0, |prediction| prediction.probabilities.len());
    match output {
        Output::Probabilities => {
            let mut values = Vec::with_capacity(predictions.len() * of_image);
            predictions.iter().for_each(|prediction| values.extend_from_slice(&prediction.probabilities));
            OutputTensor {
                name: PROBABILITIES,
                shape: vec![images, of_image as i64],
                values: Values::Fp32(values),
            }
        }
        Output::Label => {
            let labels = predictions.iter().map(|prediction| prediction.label as i64).collect();
            OutputTensor { name: LABEL, shape: vec![images], values: Values::Int64(labels) }
        }
        Output::Classification(best) => {
            let mut bytes = Vec::new();
            predictions.iter().for_each(|prediction| classify(prediction, best, classes, &mut bytes));
            OutputTensor {
                name: PROBABILITIES,
                shape: vec![images, best.min(of_image) as i64],
                values: Values::Bytes(bytes),
            }
        }
    }
}

/// Appends the best classes of an image as `value:index:name`. Of equal values, the lowest index comes first.
fn classify(prediction: &Prediction, best: usize, classes: &[String], bytes: &mut Vec<u8>) {
    let probabilities = &prediction.probabilities;
    let mut indices: Vec<usize> = (0..probabilities.len()).collect();
    indices.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    for index in indices.into_iter().take(best) {
        let name = classes.get(index).map(|name| format!(":{name}")).unwrap_or_default();
        let text = format!("{:.6}:{index}{name}", probabilities[index]);
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
}
