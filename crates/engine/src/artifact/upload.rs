use super::export::read_parts;
use super::onnx::{OnnxError, Pixels, onnx_bytes, read_onnx};
use super::receipt::split;
use super::{ArtifactError, ModelHeader, read_model};
use crate::data::CLASSES_MAX;
use crate::nn::{Layer, LayerSpec, Network, Predictor, Shape, kinds, shapes};

/// The format of a file with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// A model file of this program.
    Safetensors,
    /// See [`onnx`](super::onnx).
    Onnx,
}

impl ModelFormat {
    /// The format that the first bytes of a file tell.
    pub fn of(file: &[u8]) -> Self {
        let is_json = split(file).is_some_and(|(header, _)| header.starts_with(b"{"));
        if is_json { Self::Safetensors } else { Self::Onnx }
    }
}

/// Limits of a network that comes from outside.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Largest number of layers.
    pub layers_max: usize,
    /// Largest number of units or filters in a layer.
    pub units_max: usize,
    /// Largest number of floating-point operations for one image.
    pub flops_max: f64,
}

/// A network from outside that has been checked.
#[derive(Debug)]
pub struct Upload {
    /// The layers in order.
    pub layers: Vec<LayerSpec>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// The network, ready to predict.
    pub predictor: Predictor,
    /// For ONNX, the largest difference of a probability between the file and the network.
    pub difference: Option<f64>,
}

/// Why a network from outside is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file is not a model file of this program.
    #[error(transparent)]
    Safetensors(#[from] ArtifactError),
    /// The file is not an ONNX file, or holds something that is not supported.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The network exceeds a limit, or can't be used.
    #[error("{0}")]
    Network(String),
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Longest header of a model file, in bytes.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Bytes in memory for each byte of such a header.
const HEADER_TIMES: usize = 16;

/// Bytes in memory for each byte of a model file: one tensor, the network, its folded and packed weights, and the file
/// that is written from it.
const SAFETENSORS_TIMES: usize = 7;

/// Largest number of pixels of an image, and of values between two layers for one image.
const PIXELS_MAX: usize = 1 << 16;
const VALUES_MAX: usize = 1 << 19;

/// Bytes of the values between layers while a network is tried.
const WORKING_BYTES: usize = 6 * size_of::<f64>() * VALUES_MAX;

/// Largest number of bytes of the names of all classes.
const NAMES_BYTES_MAX: usize = 16 << 10;

/// Upper bound of the bytes that [`read_upload`] allocates for a file, which is found without allocating them.
///
/// # Errors
/// If the head of the file is malformed or exceeds a limit.
pub fn upload_bytes(file: &[u8], format: ModelFormat) -> Result<usize, UploadError> {
    let bytes = match format {
        ModelFormat::Safetensors => {
            checked_head(file)?;
            SAFETENSORS_TIMES * file.len() + HEADER_TIMES * HEADER_BYTES_MAX
        }
        ModelFormat::Onnx => onnx_bytes(file)?,
    };
    Ok(bytes.saturating_add(WORKING_BYTES))
}

fn checked_head(file: &[u8]) -> Result<(), UploadError> {
    let fault = |detail: String| UploadError::Safetensors(ArtifactError::Metadata(detail));
    let (header, _) = split(file).ok_or_else(|| fault("the header is longer than the file".to_owned()))?;
    if header.len() > HEADER_BYTES_MAX {
        return Err(fault(format!("the header has {} bytes, more than {HEADER_BYTES_MAX}", header.len())));
    }
    Ok(())
}

/// Reads a network from outside, and tries it on `images`, each of which has the pixels of its input. `images` gets the
/// shape of the input. `pixels` is what the input of an ONNX file takes, if it is known.
///
/// # Errors
/// If the file can't be read, if the network exceeds a limit or gives no probabilities, or `go_on` returns `false`.
pub fn read_upload(
    file: &[u8],
    format: ModelFormat,
    limits: &UploadLimits,
    pixels: Option<Pixels>,
    images: impl FnOnce(Shape) -> Vec<Vec<u8>>,
    go_on: &dyn Fn() -> bool,
) -> Result<Upload, UploadError> {
    match format {
        ModelFormat::Safetensors => {
            checked_head(file)?;
            let (ModelHeader { input, layers, classes }, _) = read_parts(file)?;
            check_layers(input, &layers, &classes, limits, file.len())?;
            let (_, network) = read_model(file)?;
            check_numbers(&network)?;
            let predictor = Predictor::new(network);
            try_out(&predictor, &images(input), go_on)?;
            Ok(Upload { layers, classes, predictor, difference: None })
        }
        ModelFormat::Onnx => {
            let read = read_onnx(file, pixels)?;
            let numbered = (0..read.network.outputs()).map(|class| class.to_string()).collect();
            let classes = read.classes.clone().unwrap_or(numbered);
            check_layers(read.network.input(), &read.layers, &classes, limits, usize::MAX)?;
            check_numbers(&read.network)?;
            let predictor = Predictor::new(read.network.clone());
            let images = images(read.network.input());
            try_out(&predictor, &images, go_on)?;
            let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            let difference = read.check(&predictor, &images, go_on).map_err(|error| match error {
                OnnxError::Stopped => UploadError::Stopped,
                error => error.into(),
            })?;
            Ok(Upload { layers: read.layers, classes, predictor, difference: Some(difference) })
        }
    }
}

/// Checks the layers of a network before it is allocated. Its parameters must fit into `bytes`.
fn check_layers(
    input: Shape,
    layers: &[LayerSpec],
    classes: &[String],
    limits: &UploadLimits,
    bytes: usize,
) -> Result<(), UploadError> {
    let refuse = |detail: String| Err(UploadError::Network(detail));
    let Shape { height, width, channels } = input;
    let pixels = height.checked_mul(width).filter(|pixels| (1..=PIXELS_MAX).contains(pixels));
    if pixels.is_none() || channels != 1 {
        return refuse(format!(
            "its input is {height}×{width}×{channels}; grey images of at most {PIXELS_MAX} pixels are served"
        ));
    }
    if layers.is_empty() || layers.len() > limits.layers_max {
        return refuse(format!("it has {} layers; 1 to {} are accepted", layers.len(), limits.layers_max));
    }
    for (index, layer) in layers.iter().enumerate() {
        if !is_within(*layer, height.max(width), limits.units_max) {
            return refuse(format!(
                "layer {index}.{} has a size that is not accepted: {layer:?}",
                layer.name()
            ));
        }
    }
    let shapes = shapes(input, layers).map_err(|error| UploadError::Network(error.to_string()))?;
    match layers.last() {
        Some(LayerSpec::Dense { units, .. }) if *units == classes.len() && *units <= CLASSES_MAX => {}
        _ => {
            let classes = classes.len();
            return refuse(format!(
                "its last layer must be dense, with one unit for each of its {classes} classes, at most {CLASSES_MAX}"
            ));
        }
    }
    let names: usize = classes.iter().map(String::len).sum();
    if names > NAMES_BYTES_MAX || classes.iter().any(String::is_empty) {
        return refuse(format!("its classes must have names, of at most {NAMES_BYTES_MAX} bytes together"));
    }
    let kinds = kinds(layers, &shapes);
    let parameters: f64 = kinds.iter().map(|kind| kind.parameters()).sum();
    if parameters * size_of::<f32>() as f64 > bytes as f64 {
        return refuse(format!("its layers have {parameters:.0} parameters, more than the file"));
    }
    if let Some(widest) = shapes.iter().find(|shape| shape.len() > VALUES_MAX) {
        return refuse(format!("a value of {widest} between two layers is larger than {VALUES_MAX}"));
    }
    let flops: f64 = kinds.iter().zip(&shapes[1..]).map(|(kind, &output)| 2.0 * kind.products(output)).sum();
    if flops > limits.flops_max {
        let most = limits.flops_max;
        return refuse(format!(
            "an image takes {flops:.1e} floating-point operations; {most:.1e} are accepted"
        ));
    }
    Ok(())
}

/// Whether the sizes of a layer are those that a request could have.
fn is_within(layer: LayerSpec, side_max: usize, units_max: usize) -> bool {
    let side = |side: usize| (1..=side_max).contains(&side);
    let units = |units: usize| (1..=units_max).contains(&units);
    match layer {
        LayerSpec::Dense { units: count, .. } => units(count),
        LayerSpec::Conv2d { filters, kernel, stride, .. } => units(filters) && side(kernel) && side(stride),
        LayerSpec::MaxPool2d { size } | LayerSpec::AvgPool2d { size } => side(size),
        LayerSpec::Dropout { rate } => (0.0..1.0).contains(&rate),
        LayerSpec::BatchNorm | LayerSpec::Flatten => true,
        LayerSpec::Relu | LayerSpec::LeakyRelu | LayerSpec::Gelu | LayerSpec::Sigmoid | LayerSpec::Tanh => {
            true
        }
    }
}

/// Checks that every parameter is finite, and no variance negative.
fn check_numbers(network: &Network<f32>) -> Result<(), UploadError> {
    for (name, _, values) in network.tensors() {
        if values.iter().any(|value| !value.is_finite()) {
            return Err(UploadError::Network(format!("tensor {name} has an infinite number or NaN")));
        }
    }
    let is_negative = |layer: &Layer<f32>| match layer {
        Layer::BatchNorm(norm) => norm.running_var.iter().any(|&variance| variance < 0.0),
        _ => false,
    };
    match network.layers().iter().position(is_negative) {
        Some(index) => {
            Err(UploadError::Network(format!("tensor {index}.running_var has a negative variance")))
        }
        None => Ok(()),
    }
}

/// Predicts these images. Each must get a probability for each class.
fn try_out(predictor: &Predictor, images: &[Vec<u8>], go_on: &dyn Fn() -> bool) -> Result<(), UploadError> {
    for image in images {
        if !go_on() {
            return Err(UploadError::Stopped);
        }
        let pixels: Vec<f32> = crate::data::to_unit(image).collect();
        let row = ndarray::ArrayView2::from_shape((1, pixels.len()), &pixels);
        let row = row.map_err(|error| UploadError::Network(error.to_string()))?;
        if predictor.probabilities(row).iter().any(|probability| !probability.is_finite()) {
            return Err(UploadError::Network("it gives no finite probabilities for an image".to_owned()));
        }
    }
    Ok(())
}
