use std::collections::{HashMap, HashSet};

use super::OnnxError;
use super::evaluate::{evaluate, length};
use super::operator::Operator;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, element};
use super::tensor::Tensor;

/// Largest number of pixels of an image.
const PIXELS_MAX: usize = 1 << 16;

/// The versions of the standard operators that are understood.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// A graph with one input and one output whose operators are understood. Nodes and constants that the output does not
/// depend on are left out.
#[derive(Debug)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub constants: HashMap<String, Tensor>,
    pub input: Input,
    pub output: String,
}

/// The input of a graph: a batch of images.
#[derive(Debug)]
pub(super) struct Input {
    pub name: String,
    /// Whether the pixels are bytes. Otherwise they are floating-point numbers.
    pub is_bytes: bool,
    /// Sides of one image.
    pub image: Vec<usize>,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Node {
    pub operator: Operator,
    /// Names of the inputs. An input that is left out has no name.
    pub inputs: Vec<String>,
    pub output: String,
    label: String,
}

impl Node {
    /// The error of this node.
    pub fn fault(&self, detail: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.label.clone(), detail: detail.into() }
    }
}

impl Graph {
    /// Checks the graph of a file.
    ///
    /// # Errors
    /// If a name is undefined or defined twice, a node or tensor that is needed is not understood, or there is not exactly
    /// one input and one output.
    pub fn of(model: &ModelProto) -> Result<Self, OnnxError> {
        let standard = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let version = standard.map_or(1, |set| set.version);
        if !OPSETS.contains(&version) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            return Err(OnnxError::Graph(format!(
                "opset {version} is not supported, only {first} to {last}"
            )));
        }
        let proto = model.graph.as_ref().ok_or_else(|| OnnxError::Malformed("it has no graph".to_owned()))?;
        let initializers: HashMap<&str, &TensorProto> =
            proto.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let input = input(proto, &initializers)?;
        let producers = producers(proto, &initializers, &input.name)?;
        let output = output(proto, &producers)?;
        let needed = needed(proto, &producers, &output);

        let mut nodes = Vec::new();
        let mut constants = HashMap::new();
        for (index, node) in proto.node.iter().enumerate() {
            if !needed.contains(&index) {
                continue;
            }
            let label = label(node);
            let operator =
                Operator::of(node).map_err(|detail| OnnxError::Node { node: label.clone(), detail })?;
            for name in &node.input {
                if let Some(tensor) =
                    initializers.get(name.as_str()).filter(|_| !constants.contains_key(name))
                {
                    let error = |detail| OnnxError::Tensor { tensor: name.clone(), detail };
                    constants.insert(name.clone(), Tensor::read(tensor).map_err(error)?);
                }
            }
            let output = node.output.first().cloned().unwrap_or_default();
            nodes.push(Node { operator, inputs: node.input.clone(), output, label });
        }
        Ok(Self { nodes, constants, input, output })
    }

    /// Computes the output for one image. `pixels` are the values of the input, and `values_max` limits the elements of
    /// each value between two nodes.
    ///
    /// # Errors
    /// If a node does not fit its inputs, or `go_on` returns `false`.
    pub fn run(
        &self,
        pixels: Vec<f64>,
        values_max: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Tensor, OnnxError> {
        let shape = std::iter::once(1).chain(self.input.image.iter().copied()).collect();
        let input = Tensor { is_integer: self.input.is_bytes, ..Tensor::new(shape, pixels) };
        let mut values: HashMap<&str, Tensor> = HashMap::from([(self.input.name.as_str(), input)]);
        let uses = self.nodes.iter().enumerate();
        let last_use: HashMap<&str, usize> = uses
            .flat_map(|(index, node)| node.inputs.iter().map(move |name| (name.as_str(), index)))
            .collect();
        for (index, node) in self.nodes.iter().enumerate() {
            if !go_on() {
                return Err(OnnxError::Stopped);
            }
            let found = |name: &String| values.get(name.as_str()).or_else(|| self.constants.get(name));
            let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(found).collect();
            let output =
                evaluate(&node.operator, &inputs, values_max).map_err(|detail| node.fault(detail))?;
            values.retain(|name, _| last_use.get(name).is_some_and(|&last| last > index));
            values.insert(&node.output, output);
        }
        let output = values.remove(self.output.as_str());
        output.ok_or_else(|| OnnxError::Graph("no node gives its output".to_owned()))
    }
}

/// The only input that is no constant.
fn input(proto: &GraphProto, initializers: &HashMap<&str, &TensorProto>) -> Result<Input, OnnxError> {
    let inputs: Vec<&ValueInfoProto> =
        proto.input.iter().filter(|input| !initializers.contains_key(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        return Err(OnnxError::Graph(format!("it has {} inputs; one is supported", inputs.len())));
    };
    let fault = |detail: String| OnnxError::Graph(format!("its input {:?} {detail}", input.name));
    let kind = input.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let kind = kind.ok_or_else(|| fault("is no tensor".to_owned()))?;
    let is_bytes = match kind.elem_type {
        element::UINT8 => true,
        element::FLOAT | element::DOUBLE => false,
        other => {
            let name = element::name(other);
            return Err(fault(format!("is of {name}; uint8, float32 and float64 are supported")));
        }
    };
    let shape = kind.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let Some((batch, image)) = shape.split_first() else {
        return Err(fault("has no shape".to_owned()));
    };
    if let Some(images @ 2..) = batch.dim_value {
        return Err(fault(format!(
            "is always {images} images; export it with a free batch, or a batch of 1"
        )));
    }
    let side = |(axis, dim): (usize, &super::proto::DimensionProto)| {
        let side = dim.dim_value.and_then(|side| usize::try_from(side).ok()).filter(|&side| side > 0);
        side.ok_or_else(|| fault(format!("has a free dimension {}; only the batch may be free", axis + 1)))
    };
    let image = image.iter().enumerate().map(side).collect::<Result<Vec<usize>, _>>()?;
    length(&image, PIXELS_MAX)
        .map_err(|_| fault(format!("has more than {PIXELS_MAX} pixels for each image")))?;
    Ok(Input { name: input.name.clone(), is_bytes, image })
}

/// The node that gives each name.
fn producers<'a>(
    proto: &'a GraphProto,
    initializers: &HashMap<&'a str, &TensorProto>,
    input: &'a str,
) -> Result<HashMap<&'a str, usize>, OnnxError> {
    if initializers.len() < proto.initializer.len() {
        return Err(OnnxError::Graph("two of its constants have the same name".to_owned()));
    }
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in proto.node.iter().enumerate() {
        let fault = |detail: String| OnnxError::Node { node: label(node), detail };
        for name in node.input.iter().filter(|name| !name.is_empty()).map(String::as_str) {
            if name != input && !initializers.contains_key(name) && !producers.contains_key(name) {
                return Err(fault(format!("it uses {name:?}, which nothing before it gives")));
            }
        }
        let Some(output) = node.output.first().filter(|name| !name.is_empty()) else {
            return Err(fault("it has no output".to_owned()));
        };
        let is_taken = output == input || initializers.contains_key(output.as_str());
        if is_taken || producers.insert(output, index).is_some() {
            return Err(fault(format!("something before it already gives {output:?}")));
        }
    }
    Ok(producers)
}

/// The only output that is not the label of the most probable class.
fn output(proto: &GraphProto, producers: &HashMap<&str, usize>) -> Result<String, OnnxError> {
    let mut outputs = Vec::new();
    for output in &proto.output {
        let Some(&producer) = producers.get(output.name.as_str()) else {
            return Err(OnnxError::Graph(format!("no node gives its output {:?}", output.name)));
        };
        if proto.node[producer].op_type != "ArgMax" {
            outputs.push(&output.name);
        }
    }
    match outputs[..] {
        [output] => Ok(output.clone()),
        _ => Err(OnnxError::Graph(format!(
            "it has {} outputs besides labels; one is supported",
            outputs.len()
        ))),
    }
}

/// The nodes that `output` depends on. Each node comes after those that it uses.
fn needed(proto: &GraphProto, producers: &HashMap<&str, usize>, output: &str) -> HashSet<usize> {
    let mut needed: HashSet<usize> = producers.get(output).copied().into_iter().collect();
    for (index, node) in proto.node.iter().enumerate().rev() {
        if needed.contains(&index) {
            needed.extend(node.input.iter().filter_map(|name| producers.get(name.as_str())));
        }
    }
    needed
}

/// The name of a node and its operator. A node without a name is named after its output.
fn label(node: &NodeProto) -> String {
    let output = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() { output } else { &node.name };
    let short = |text: &str| text.chars().take(100).collect::<String>();
    format!("{:?} ({})", short(name), short(&node.op_type))
}
