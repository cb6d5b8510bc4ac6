use std::f64::consts::FRAC_1_SQRT_2;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute, element,
};
use super::{BATCH, IMAGE, LABEL, PROBABILITIES};
use crate::nn::{
    Activation, Conv2d, LEAK, Layer, LayerKind, NORM_EPS, Network, Pooling, PoolingKind, Shape, Window,
};

/// The oldest operators that have softmax along an axis, and the format of files at that time plus one, so that old
/// readers take the file.
const OPSET: i64 = 13;
const IR: i64 = 8;

/// What pixels are divided by.
const PIXEL_MAX: f32 = 255.0;

/// The graph of a network and the file around it. The metadata is added later.
pub(super) fn model(network: &Network<f32>, name: &str, version: u32) -> ModelProto {
    let input = network.input();
    let mut writer = Writer::new(input);
    for (index, layer) in network.layers().iter().enumerate() {
        writer.layer(layer, network.layer_name(index), index, network.shapes()[index + 1]);
    }
    let image = [input.height, input.width].into_iter().chain((input.channels > 1).then_some(input.channels));
    let outputs =
        [(PROBABILITIES, element::FLOAT, vec![network.outputs()]), (LABEL, element::INT64, Vec::new())];
    ModelProto {
        ir_version: IR,
        producer_name: "chainrule".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_version: i64::from(version),
        graph: Some(GraphProto {
            name: name.to_owned(),
            input: vec![value(IMAGE, element::UINT8, image)],
            output: outputs.map(|(name, kind, sides)| value(name, kind, sides)).to_vec(),
            ..writer.finished()
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: Vec::new(),
    }
}

/// An entry of the metadata.
pub(super) fn entry((key, value): (&str, String)) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value }
}

/// An input or output with a free batch.
fn value(name: &str, elem_type: i32, sides: impl IntoIterator<Item = usize>) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: None, dim_param: Some(BATCH.to_owned()) };
    let side = |side: usize| DimensionProto { dim_value: Some(side as i64), dim_param: None };
    let dim = std::iter::once(batch).chain(sides.into_iter().map(side)).collect();
    let kind = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(kind) }) }
}

/// A graph that grows by one layer after the other.
struct Writer {
    graph: GraphProto,
    /// Name of the value that the next node takes.
    last: String,
    /// Its shape for one image.
    shape: Shape,
    /// Whether it is a matrix with one row for each image. Otherwise it is a batch of images, channels first.
    is_flat: bool,
}

impl Writer {
    fn new(input: Shape) -> Self {
        let mut writer =
            Self { graph: GraphProto::default(), last: IMAGE.to_owned(), shape: input, is_flat: false };
        writer.node("Cast", "pixels", [], [int("to", element::FLOAT.into())]);
        writer.constant("pixel_max", &[], vec![PIXEL_MAX]);
        writer.node("Div", "unit", ["pixel_max"], []);
        let Shape { height, width, channels } = input;
        if channels == 1 {
            writer.integers("image_shape", [0, 1, height as i64, width as i64]);
            writer.node("Reshape", "channels_first", ["image_shape"], []);
        } else {
            writer.node("Transpose", "channels_first", [], [ints("perm", [0, 3, 1, 2])]);
        }
        writer
    }

    /// Adds the nodes of a layer with this output.
    fn layer(&mut self, layer: &Layer<f32>, name: String, index: usize, output: Shape) {
        let (weight, bias) = (format!("{index}.weight"), format!("{index}.bias"));
        match layer {
            Layer::Dense(dense) => {
                self.flatten_for(&name);
                self.constant(
                    &weight,
                    &[dense.weight.nrows(), dense.bias.len()],
                    dense.weight.iter().copied().collect(),
                );
                self.constant(&bias, &[dense.bias.len()], dense.bias.to_vec());
                self.node("Gemm", &name, [&weight, &bias].map(String::as_str), []);
            }
            Layer::Conv2d(conv) => self.convolution(conv, layer.kind(), &name, [&weight, &bias]),
            Layer::BatchNorm(norm) => {
                let channels = norm.channels();
                let (mean, variance) = (format!("{index}.running_mean"), format!("{index}.running_var"));
                let parameters = [
                    (&weight, norm.weight.iter().copied().collect()),
                    (&bias, norm.bias.to_vec()),
                    (&mean, norm.running_mean.to_vec()),
                    (&variance, norm.running_var.to_vec()),
                ];
                parameters.into_iter().for_each(|(name, values)| self.constant(name, &[channels], values));
                let names = [&weight, &bias, &mean, &variance].map(String::as_str);
                self.node("BatchNormalization", &name, names, [float("epsilon", NORM_EPS as f32)]);
            }
            // A square of one pixel changes nothing, and a matrix has no pixels.
            Layer::Pooling(_) if self.is_flat => self.node("Identity", &name, [], []),
            Layer::Pooling(pooling) => self.pooling(*pooling, &name),
            Layer::Dropout(dropout) => {
                let ratio = format!("{index}.ratio");
                self.constant(&ratio, &[], vec![dropout.rate as f32]);
                self.node("Dropout", &name, [ratio.as_str()], []);
            }
            Layer::Flatten => {
                self.channels_last(&name);
                self.node("Flatten", &name, [], [int("axis", 1)]);
                self.is_flat = true;
            }
            Layer::Activation(activation) => self.activation(*activation, &name),
        }
        self.shape = output;
    }

    fn convolution(&mut self, conv: &Conv2d<f32>, kind: LayerKind, name: &str, names: [&String; 2]) {
        let LayerKind::Conv2d { window, filters } = kind else { unreachable!("the kind of a convolution") };
        let Window { input, padded, kernel, stride, .. } = window;
        let [weight, bias] = names;
        self.constant(bias, &[filters], conv.bias.to_vec());
        let names = [weight, bias].map(String::as_str);
        if self.is_flat {
            // A filter of 1 × 1 on a vector is a dense layer.
            self.constant(weight, &[input.channels, filters], conv.weight.iter().copied().collect());
            return self.node("Gemm", name, names, []);
        }
        let taps = kernel * kernel;
        let of_filter = |filter: usize| {
            let of_channel =
                move |channel: usize| (0..taps).map(move |tap| [tap * input.channels + channel, filter]);
            (0..input.channels).flat_map(of_channel)
        };
        let values = (0..filters).flat_map(of_filter).map(|place| conv.weight[place]).collect();
        self.constant(weight, &[filters, input.channels, kernel, kernel], values);
        let (rows, columns) = (padded.height - input.height, padded.width - input.width);
        let pads = [rows / 2, columns / 2, rows - rows / 2, columns - columns / 2].map(|side| side as i64);
        let (kernel, stride) = (kernel as i64, stride as i64);
        let settings = [ints("kernel_shape", [kernel; 2]), ints("strides", [stride; 2]), ints("pads", pads)];
        self.node("Conv", name, names, settings);
    }

    fn pooling(&mut self, pooling: Pooling, name: &str) {
        let operator = match pooling.kind {
            PoolingKind::Max => "MaxPool",
            PoolingKind::Average => "AveragePool",
        };
        let size = pooling.size() as i64;
        self.node(operator, name, [], [ints("kernel_shape", [size; 2]), ints("strides", [size; 2])]);
    }

    fn activation(&mut self, activation: Activation, name: &str) {
        match activation {
            Activation::Relu => self.node("Relu", name, [], []),
            Activation::LeakyRelu => self.node("LeakyRelu", name, [], [float("alpha", LEAK as f32)]),
            Activation::Sigmoid => self.node("Sigmoid", name, [], []),
            Activation::Tanh => self.node("Tanh", name, [], []),
            Activation::Gelu => {
                // x (erf(x / √2) + 1) / 2. There is an operator for it from opset 20 on.
                let x = self.last.clone();
                let part = |part: &str| format!("{name}.{part}");
                for (constant, value) in [("root", FRAC_1_SQRT_2 as f32), ("one", 1.0), ("half", 0.5)] {
                    self.constant(&part(constant), &[], vec![value]);
                }
                self.node("Mul", &part("scaled"), [part("root").as_str()], []);
                self.node("Erf", &part("erf"), [], []);
                self.node("Add", &part("sum"), [part("one").as_str()], []);
                self.node("Mul", &part("product"), [x.as_str()], []);
                self.node("Mul", name, [part("half").as_str()], []);
            }
        }
    }

    /// Makes images a matrix, as the input of a dense layer.
    fn flatten_for(&mut self, name: &str) {
        if self.is_flat {
            return;
        }
        self.channels_last(name);
        let shape = format!("{name}.shape");
        self.integers(&shape, [0, -1]);
        self.node("Reshape", &format!("{name}.flat"), [shape.as_str()], []);
        self.is_flat = true;
    }

    /// Orders the values of images as the network does, with the channels of a pixel next to each other.
    fn channels_last(&mut self, name: &str) {
        if !self.is_flat && self.shape.channels > 1 && self.shape.places() > 1 {
            self.node("Transpose", &format!("{name}.channels_last"), [], [ints("perm", [0, 2, 3, 1])]);
        }
    }

    /// Adds a node on the last value and these constants. Its output has its name.
    fn node<'a>(
        &mut self,
        operator: &str,
        name: &str,
        others: impl IntoIterator<Item = &'a str>,
        attributes: impl IntoIterator<Item = AttributeProto>,
    ) {
        let last = std::mem::replace(&mut self.last, name.to_owned());
        self.graph.node.push(NodeProto {
            input: std::iter::once(last).chain(others.into_iter().map(str::to_owned)).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes.into_iter().collect(),
            domain: String::new(),
        });
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, shape, element::FLOAT, raw_data);
    }

    fn integers<const N: usize>(&mut self, name: &str, values: [i64; N]) {
        self.initializer(
            name,
            &[N],
            element::INT64,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        );
    }

    fn initializer(&mut self, name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) {
        let dims = shape.iter().map(|&side| side as i64).collect();
        self.graph.initializer.push(TensorProto {
            dims,
            data_type,
            raw_data,
            name: name.to_owned(),
            ..TensorProto::default()
        });
    }

    /// Adds softmax and the label.
    fn finished(mut self) -> GraphProto {
        self.flatten_for("scores");
        self.node("Softmax", PROBABILITIES, [], [int("axis", 1)]);
        self.node("ArgMax", LABEL, [], [int("axis", 1), int("keepdims", 0)]);
        self.graph
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: attribute::INT, i, ..AttributeProto::default() }
}

fn ints<const N: usize>(name: &str, values: [i64; N]) -> AttributeProto {
    let ints = values.to_vec();
    AttributeProto { name: name.to_owned(), kind: attribute::INTS, ints, ..AttributeProto::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: attribute::FLOAT, f, ..AttributeProto::default() }
}
