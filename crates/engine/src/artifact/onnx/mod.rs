//! Networks as ONNX files, which other programs run, and networks of other programs from such files.
//!
//! A written file takes the bytes of images as they are, of any number, and gives their probabilities and labels. A read
//! file may hold the operators that PyTorch and Keras write for small classifiers. Both are checked by computing the graph
//! with an interpreter (`evaluate`) that shares no code with the layers.

mod check;
mod evaluate;
mod graph;
mod operator;
mod proto;
mod read;
mod rearrange;
mod scan;
mod tensor;
mod write;

use prost::Message;

pub use check::seeded_images;

use self::graph::Graph;
use self::proto::ModelProto;
use crate::nn::{LayerSpec, Network, Predictor};

/// The names of the inputs and outputs of a written file: images of type uint8, probabilities of type float32, and labels
/// of type int64.
const IMAGE: &str = "image";
const PROBABILITIES: &str = "probabilities";
const LABEL: &str = "label";

/// The name of the free dimension.
const BATCH: &str = "batch";

/// The key of the names of the classes in the metadata of a file, as JSON.
const CLASSES: &str = "classes";

/// The key of the check of a written file in its metadata.
const CHECK: &str = "check";

/// The largest difference between a probability of a network and of its written file.
pub const EXPORT_DIFFERENCE_MAX: f64 = 1e-5;

/// The largest difference between a probability of a read file and of the network that it became. It is larger, because
/// the scaling of pixels becomes part of weights.
pub const IMPORT_DIFFERENCE_MAX: f64 = 1e-4;

/// The reason why an ONNX file can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The bytes are not an ONNX file.
    #[error("not an ONNX file: {0}")]
    Malformed(String),
    /// The file exceeds a limit.
    #[error("the ONNX file is too large: {0}")]
    Limit(String),
    /// The graph as a whole is not supported.
    #[error("the graph can't be used: {0}")]
    Graph(String),
    /// A constant is not supported.
    #[error("tensor {tensor:?} {detail}")]
    Tensor {
        /// Name of the constant.
        tensor: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A node is not supported.
    #[error("node {node}: {detail}")]
    Node {
        /// Name and operator of the node.
        node: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The network and the graph disagree.
    #[error(
        "a probability of the graph differs by {difference:.1e} from that of the network; {most:.0e} is allowed"
    )]
    Differs {
        /// The largest difference.
        difference: f64,
        /// The largest that is allowed.
        most: f64,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

/// The values of the pixels that a graph takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// From 0 to 255.
    Byte,
    /// From 0 to 1.
    Unit,
}

impl Pixels {
    /// The value of the brightest pixel.
    fn largest(self) -> f64 {
        match self {
            Self::Byte => 255.0,
            Self::Unit => 1.0,
        }
    }
}

/// What a written file says about the network, besides its layers.
pub struct Labels<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Version of the model.
    pub version: u32,
    /// Names of the classes, in the order of the outputs.
    pub classes: &'a [String],
    /// Further entries of the metadata.
    pub metadata: &'a [(&'a str, String)],
}

/// The images that a file was compared with its network on.
pub struct Samples<'a> {
    /// Where they come from.
    pub source: &'a str,
    /// Their pixels, row by row.
    pub images: &'a [&'a [u8]],
}

/// Writes the network of `predictor` as ONNX. Equal networks and labels give equal bytes. Also returns the largest
/// difference of a probability that was measured.
///
/// # Errors
/// If a probability of the file, computed by the interpreter, differs by more than [`EXPORT_DIFFERENCE_MAX`] from that of
/// `predictor` for one of the samples, or `go_on` returns `false`.
pub fn write_onnx(
    predictor: &Predictor,
    labels: &Labels,
    samples: &Samples,
    go_on: &dyn Fn() -> bool,
) -> Result<(Vec<u8>, f64), OnnxError> {
    let mut model = write::model(predictor.network(), labels.model, labels.version);
    let graph = Graph::of(&model)?;
    let difference = check::difference(&graph, predictor, (samples.images, Pixels::Byte, true), go_on)?;
    drop(graph);
    within(difference, EXPORT_DIFFERENCE_MAX)?;
    let check = serde_json::json!({
        "images": samples.images.len(),
        "source": samples.source,
        "largest_difference": difference,
        "allowed": EXPORT_DIFFERENCE_MAX,
    });
    let own = [(CLASSES, serde_json::json!(labels.classes).to_string()), (CHECK, check.to_string())];
    model.metadata_props = own.into_iter().chain(labels.metadata.iter().cloned()).map(write::entry).collect();
    Ok((model.encode_to_vec(), difference))
}

/// A network of another program.
#[derive(Debug)]
pub struct ReadOnnx {
    /// The layers in order.
    pub layers: Vec<LayerSpec>,
    /// The network, for pixels from 0 to 1.
    pub network: Network<f32>,
    /// Names of the classes, if the file has them.
    pub classes: Option<Vec<String>>,
    /// The values that the graph takes.
    pub pixels: Pixels,
    graph: Graph,
    has_softmax: bool,
}

/// Upper bound of the bytes that [`read_onnx`] and [`ReadOnnx::check`] allocate, without the values between layers.
/// Nothing is allocated to find it.
///
/// # Errors
/// If the bytes are not a file of ONNX, or it has too many nodes.
pub fn onnx_bytes(bytes: &[u8]) -> Result<usize, OnnxError> {
    /// A number of 4 bytes is held as `f64` by the graph and by the builder, and as `f32` on its way, by the network, and
    /// twice by its predictor.
    const TIMES: usize = 9;
    Ok(scan::decoded_bytes(bytes)?.saturating_mul(TIMES))
}

/// Reads a network. `pixels` is what its input takes. If it is not given, it is uint8 or divided by 64 or more for pixels
/// from 0 to 255, and anything else for pixels from 0 to 1.
///
/// # Errors
/// If the file is malformed, or has anything that is not supported.
pub fn read_onnx(bytes: &[u8], pixels: Option<Pixels>) -> Result<ReadOnnx, OnnxError> {
    scan::decoded_bytes(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|error| OnnxError::Malformed(error.to_string()))?;
    let graph = Graph::of(&model)?;
    let classes = model.metadata_props.iter().find(|entry| entry.key == CLASSES);
    let classes = classes.and_then(|entry| serde_json::from_str(&entry.value).ok());
    drop(model);
    let read::Converted { layers, network, pixels, has_softmax } = read::convert(&graph, pixels)?;
    Ok(ReadOnnx { layers, network, classes, pixels, graph, has_softmax })
}

impl ReadOnnx {
    /// Compares the graph, computed by the interpreter, with `predictor` on these images. Returns the largest difference
    /// of a probability.
    ///
    /// # Errors
    /// If it exceeds [`IMPORT_DIFFERENCE_MAX`], if the graph can't be computed, or `go_on` returns `false`.
    pub fn check(
        &self,
        predictor: &Predictor,
        images: &[&[u8]],
        go_on: &dyn Fn() -> bool,
    ) -> Result<f64, OnnxError> {
        let how = (images, self.pixels, self.has_softmax);
        within(check::difference(&self.graph, predictor, how, go_on)?, IMPORT_DIFFERENCE_MAX)
    }
}

fn within(difference: f64, most: f64) -> Result<f64, OnnxError> {
    if difference <= most { Ok(difference) } else { Err(OnnxError::Differs { difference, most }) }
}
