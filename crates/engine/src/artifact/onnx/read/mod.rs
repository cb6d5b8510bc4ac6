//! Converts a graph to the layers of a network.
//!
//! The graph must be a chain: each operator takes what the one before it gives, and constants. Some layers consist of
//! several operators. Operators that only scale are not converted at once, but remembered as the [`Form`] of a value, until
//! the next operator shows what they are part of: `gelu`, the weights of a layer, or a normalisation.

mod axes;
mod builder;
mod convert;

use std::collections::HashMap;
use std::f64::consts::FRAC_1_SQRT_2;

use self::axes::Axes;
use self::builder::Builder;
use super::evaluate::evaluate;
use super::graph::{Graph, Node};
use super::operator::Operator;
use super::rearrange::{permutation, target_shape};
use super::tensor::Tensor;
use super::{OnnxError, Pixels};
use crate::nn::{LayerSpec, Network};

/// What a graph was converted to.
pub(super) struct Converted {
    pub layers: Vec<LayerSpec>,
    pub network: Network<f32>,
    /// The values that the graph takes.
    pub pixels: Pixels,
    /// Whether the graph ends with softmax.
    pub has_softmax: bool,
}

/// A value between two nodes.
#[derive(Clone)]
struct Value {
    /// The version of the network when the value was computed.
    version: usize,
    form: Form,
    axes: Axes,
    is_integer: bool,
}

/// How a value is computed from the output x of the last layer.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// `scale x + shift`.
    Affine { scale: f64, shift: f64 },
    /// `scale erf(x / √2) + shift`.
    Erf { scale: f64, shift: f64 },
    /// `x (scale erf(x / √2) + shift)`.
    Product { scale: f64, shift: f64 },
    /// `softmax(x)`.
    Softmax,
}

impl Form {
    const OUTPUT: Self = Self::Affine { scale: 1.0, shift: 0.0 };

    /// `factor · self`.
    fn times(self, factor: f64) -> Option<Self> {
        match self {
            Self::Affine { scale, shift } => {
                Some(Self::Affine { scale: scale * factor, shift: shift * factor })
            }
            Self::Erf { scale, shift } => Some(Self::Erf { scale: scale * factor, shift: shift * factor }),
            Self::Product { scale, shift } => {
                Some(Self::Product { scale: scale * factor, shift: shift * factor })
            }
            Self::Softmax => None,
        }
    }

    /// `self + term`.
    fn plus(self, term: f64) -> Option<Self> {
        match self {
            Self::Affine { scale, shift } => Some(Self::Affine { scale, shift: shift + term }),
            Self::Erf { scale, shift } => Some(Self::Erf { scale, shift: shift + term }),
            Self::Product { .. } | Self::Softmax => None,
        }
    }
}

/// How close a number must be to be taken for another. Files have constants in 32 bits.
const CLOSE: f64 = 1e-6;

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= CLOSE * b.abs().max(1.0)
}

/// A float input that is divided by this or more has pixels from 0 to 255.
const BYTE_DIVISOR: f64 = 64.0;

/// Converts a graph. `pixels` is what its input takes, if it is known.
///
/// # Errors
/// If an operator is not supported in its place.
pub(super) fn convert(graph: &Graph, pixels: Option<Pixels>) -> Result<Converted, OnnxError> {
    let (axes, shape) = Axes::of_input(&graph.input.image).map_err(OnnxError::Graph)?;
    let image = Value { version: 0, form: Form::OUTPUT, axes, is_integer: graph.input.is_bytes };
    let pixels = if graph.input.is_bytes { Some(Pixels::Byte) } else { pixels };
    let all: usize = graph.constants.values().map(Tensor::len).sum();
    let mut reader = Reader {
        graph,
        values: HashMap::from([(graph.input.name.as_str(), image)]),
        computed: HashMap::new(),
        numbers_left: all + SHAPE_NUMBERS,
        builder: Builder::new(shape),
        pixels,
    };
    for node in &graph.nodes {
        reader.node(node)?;
    }
    reader.finished()
}

/// Numbers that may be computed from constants, besides as many as there are.
const SHAPE_NUMBERS: usize = 1 << 16;

struct Reader<'a> {
    graph: &'a Graph,
    values: HashMap<&'a str, Value>,
    /// Constants that nodes compute.
    computed: HashMap<&'a str, Tensor>,
    /// How many numbers may still be computed from constants.
    numbers_left: usize,
    builder: Builder,
    pixels: Option<Pixels>,
}

impl<'a> Reader<'a> {
    fn constant(&self, name: &str) -> Option<&Tensor> {
        self.computed.get(name).or_else(|| self.graph.constants.get(name))
    }

    fn node(&mut self, node: &'a Node) -> Result<(), OnnxError> {
        let is_computed = |name: &String| self.values.contains_key(name.as_str());
        if !node.inputs.iter().any(is_computed) {
            let constant = self.folded(node).map_err(|detail| node.fault(detail))?;
            self.computed.insert(&node.output, constant);
        } else if let Operator::Shape = node.operator {
            let value = self.operand(node, 0).map_err(|detail| node.fault(detail))?;
            // 0 stands for the batch, since a reshape copies it.
            let sides = value.axes.sides(0).into_iter().map(|side| side as f64).collect();
            self.computed.insert(&node.output, Tensor::integers(sides));
        } else {
            let value = self.converted(node).map_err(|detail| node.fault(detail))?;
            self.values.insert(&node.output, value);
        }
        Ok(())
    }

    /// The value of a node that takes constants only.
    fn folded(&mut self, node: &Node) -> Result<Tensor, String> {
        if let Operator::Gemm { .. } | Operator::MatMul | Operator::Conv(_) = node.operator {
            return Err("it takes constants only".to_owned());
        }
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|name| self.constant(name)).collect();
        let value = evaluate(&node.operator, &inputs, self.numbers_left)?;
        self.numbers_left = self.numbers_left.saturating_sub(value.len());
        if value.values.iter().all(|value| value.is_finite()) {
            Ok(value)
        } else {
            Err("its value is not finite".to_owned())
        }
    }

    /// The value of a node that takes the images. Adds the layer that it stands for.
    fn converted(&mut self, node: &Node) -> Result<Value, String> {
        if let Operator::Add | Operator::Sub | Operator::Mul | Operator::Div = node.operator {
            return self.arithmetic(node);
        }
        let value = self.operand(node, 0)?.clone();
        if node.inputs.iter().skip(1).any(|name| self.values.contains_key(name.as_str())) {
            return Err("more than one of its inputs is computed from the images".to_owned());
        }
        if value.is_integer && !node.operator.takes_integers() {
            return Err("it takes integers; cast the pixels to floats first".to_owned());
        }
        match &node.operator {
            Operator::Identity => Ok(value),
            Operator::Cast { to } => match *to {
                to if to == i64::from(super::proto::element::FLOAT)
                    || to == i64::from(super::proto::element::DOUBLE) =>
                {
                    Ok(Value { is_integer: false, ..value })
                }
                _ => Err("the images are cast to integers".to_owned()),
            },
            Operator::Erf => self.erf(value),
            Operator::Softmax { axis } | Operator::LogSoftmax { axis } => self.softmax(value, *axis),
            Operator::Transpose { .. }
            | Operator::Reshape { .. }
            | Operator::Flatten { .. }
            | Operator::Squeeze { .. }
            | Operator::Unsqueeze { .. } => self.rearranged(node, value),
            _ => self.layer(node, value),
        }
    }

    /// The value that is input `index` of a node.
    fn operand(&self, node: &Node, index: usize) -> Result<&Value, String> {
        let value = node.inputs.get(index).and_then(|name| self.values.get(name.as_str()));
        value.ok_or_else(|| format!("its input {index} must be computed from the images"))
    }

    /// A constant that is input `index` of a node.
    fn parameter(&self, node: &Node, index: usize) -> Result<Option<&Tensor>, String> {
        match node.inputs.get(index).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => {
                self.constant(name).map(Some).ok_or_else(|| format!("its input {index} must be a constant"))
            }
        }
    }

    fn needed(&self, node: &Node, index: usize) -> Result<&Tensor, String> {
        self.parameter(node, index)?.ok_or_else(|| format!("its input {index} is missing"))
    }

    /// Sums, differences, products and quotients.
    fn arithmetic(&mut self, node: &Node) -> Result<Value, String> {
        let [a, b] = &node.inputs[..] else { return Err("it needs two inputs".to_owned()) };
        let of_values = (self.values.get(a.as_str()), self.values.get(b.as_str()));
        if let (Some(a), Some(b)) = of_values {
            let value = self.combined(&node.operator, a, b)?;
            return self.completed(value);
        }
        let is_first = of_values.0.is_some();
        let value = of_values.0.or(of_values.1).ok_or(CHAIN)?.clone();
        if value.is_integer {
            return Err("it takes integers; cast the pixels to floats first".to_owned());
        }
        let constant = self.constant(if is_first { b } else { a }).ok_or("a constant is missing")?;
        // The value as `scale · value + shift`, for each number of the constant.
        let affine = |number: f64| match (&node.operator, is_first) {
            (Operator::Add, _) => Ok((1.0, number)),
            (Operator::Sub, true) => Ok((1.0, -number)),
            (Operator::Sub, false) => Ok((-1.0, number)),
            (Operator::Mul, _) => Ok((number, 0.0)),
            (_, true) if number != 0.0 => Ok((1.0 / number, 0.0)),
            (_, true) => Err("it divides by 0".to_owned()),
            (_, false) => Err("it divides by the images".to_owned()),
        };
        if let Some(number) = constant.scalar().filter(|_| constant.shape.len() <= value.axes.rank()) {
            let (scale, shift) = affine(number)?;
            let form = value
                .form
                .times(scale)
                .and_then(|form| if shift == 0.0 { Some(form) } else { form.plus(shift) });
            return self
                .completed(Value { form: form.ok_or("it is not part of a layer that is known")?, ..value });
        }
        let numbers = self.of_channels(constant, &value.axes)?;
        let (scale, shift) = numbers.into_iter().map(affine).collect::<Result<(Vec<f64>, Vec<f64>), _>>()?;
        let value = self.settled(value)?;
        self.flatten_for(&value)?;
        self.builder.affine(scale, shift)?;
        Ok(Value { version: self.builder.version(), ..value })
    }

    /// Two values that are computed from the same one, which are parts of gelu.
    fn combined(&self, operator: &Operator, a: &Value, b: &Value) -> Result<Value, String> {
        if a.version != b.version || a.version != self.builder.version() || a.axes != b.axes {
            return Err(CHAIN.to_owned());
        }
        let form = match (operator, a.form, b.form) {
            (Operator::Mul, Form::Affine { scale: factor, shift: 0.0 }, Form::Erf { scale, shift })
            | (Operator::Mul, Form::Erf { scale, shift }, Form::Affine { scale: factor, shift: 0.0 }) => {
                Form::Product { scale: factor * scale, shift: factor * shift }
            }
            (Operator::Add, Form::Affine { scale: term, shift: 0.0 }, Form::Product { scale, shift })
            | (Operator::Add, Form::Product { scale, shift }, Form::Affine { scale: term, shift: 0.0 }) => {
                Form::Product { scale, shift: shift + term }
            }
            _ => return Err(CHAIN.to_owned()),
        };
        Ok(Value { form, ..a.clone() })
    }

    /// A value that is the output of gelu now, `x (1 + erf(x / √2)) / 2`, becomes that of a layer.
    fn completed(&mut self, value: Value) -> Result<Value, String> {
        match value.form {
            Form::Product { scale, shift } if is_close(scale, 0.5) && is_close(shift, 0.5) => {
                self.settled(value)
            }
            _ => Ok(value),
        }
    }

    fn erf(&mut self, value: Value) -> Result<Value, String> {
        self.is_current(&value)?;
        match value.form {
            Form::Affine { scale, shift: 0.0 }
                if is_close(scale, FRAC_1_SQRT_2) && !self.builder.is_input() =>
            {
                Ok(Value { form: Form::Erf { scale: 1.0, shift: 0.0 }, ..value })
            }
            _ => Err("it is supported as a part of gelu, x (1 + erf(x / √2)) / 2".to_owned()),
        }
    }

    fn softmax(&mut self, value: Value, axis: Option<i64>) -> Result<Value, String> {
        if value.axes.row().is_none() || !matches!(axis, None | Some(1 | -1)) {
            return Err("it is supported for the scores of each image, along axis 1".to_owned());
        }
        let value = self.settled(value)?;
        Ok(Value { form: Form::Softmax, ..value })
    }

    /// Operators that only change the axes. `Flatten` is a layer too.
    fn rearranged(&mut self, node: &Node, value: Value) -> Result<Value, String> {
        let sides = value.axes.sides(1);
        let sides = match &node.operator {
            Operator::Transpose { perm } => {
                let order = permutation(perm.as_deref(), sides.len())?;
                return Ok(Value { axes: value.axes.transposed(&order), ..value });
            }
            Operator::Flatten { axis: 1 } => vec![1, sides.iter().product()],
            Operator::Flatten { axis } => return Err(format!("axis is {axis}; only 1 is supported")),
            Operator::Reshape { copies_zero } => {
                let to = self.needed(node, 1)?.as_integers()?;
                let first = *to.first().ok_or("it has no sides")?;
                // The batch, copied, left over or counted.
                if !matches!(first, -1..=1) {
                    return Err(format!("it begins with {first} instead of the batch"));
                }
                let rest = [&[1], &to[1..]].concat();
                target_shape(&sides, &rest, *copies_zero)?
            }
            operator => {
                // A batch of two, so that it is not taken for an axis of one element.
                let sides = value.axes.sides(2);
                let x = Tensor::new(sides.clone(), vec![0.0; sides.iter().product()]);
                let axes = self.parameter(node, 1)?;
                evaluate(operator, &[Some(&x), axes], usize::MAX)?.shape
            }
        };
        let mut value = Value { axes: value.axes.reshaped(&sides)?, ..value };
        if let Operator::Flatten { .. } = node.operator {
            if self.builder.is_input() {
                // The scale of the pixels waits for a layer that can take it over.
                self.is_current(&value)?;
            } else {
                value = self.settled(value)?;
            }
            self.builder.plain(LayerSpec::Flatten)?;
            value.version = self.builder.version();
        }
        Ok(value)
    }

    fn is_current(&self, value: &Value) -> Result<(), String> {
        if value.version == self.builder.version() { Ok(()) } else { Err(CHAIN.to_owned()) }
    }

    /// The form of a value in terms of the pixels from 0 to 1 that a network takes, if it is computed from pixels.
    fn of_unit(&mut self, scale: f64, shift: f64) -> (f64, f64) {
        if !self.builder.is_input() {
            return (scale, shift);
        }
        let is_byte = scale.abs() <= 1.0 / BYTE_DIVISOR;
        let pixels = *self.pixels.get_or_insert(if is_byte { Pixels::Byte } else { Pixels::Unit });
        let scale = scale * pixels.largest();
        (if is_close(scale, 1.0) && shift == 0.0 { 1.0 } else { scale }, shift)
    }

    /// Makes a value the output of the last layer.
    fn settled(&mut self, value: Value) -> Result<Value, String> {
        self.is_current(&value)?;
        let channels = self.builder.shape().channels;
        let (scale, shift) = match value.form {
            Form::Affine { scale, shift } => self.of_unit(scale, shift),
            Form::Product { scale, shift } if is_close(scale, shift) && !self.builder.is_input() => {
                self.builder.plain(LayerSpec::Gelu)?;
                (2.0 * scale, 0.0)
            }
            Form::Erf { .. } | Form::Product { .. } => {
                return Err("what it takes is not a layer that is known".to_owned());
            }
            Form::Softmax => {
                return Err("it comes after softmax, which is supported at the end only".to_owned());
            }
        };
        if !(is_close(scale, 1.0) && shift == 0.0) {
            self.builder.affine(vec![scale; channels], vec![shift; channels])?;
        }
        Ok(Value { version: self.builder.version(), form: Form::OUTPUT, ..value })
    }

    /// A number for each channel of a value with these axes, in the order of the network.
    fn of_channels(&self, constant: &Tensor, axes: &Axes) -> Result<Vec<f64>, String> {
        let fault =
            || format!("a constant of {:?} does not have one number for each channel", constant.shape);
        let missing = axes.rank().checked_sub(constant.shape.len()).ok_or_else(fault)?;
        let mut long = constant.shape.iter().enumerate().filter(|(_, side)| **side != 1);
        let (Some((axis, &side)), None) = (long.next(), long.next()) else { return Err(fault()) };
        let axis = axis + missing;
        if axes.sides(1)[axis] != side {
            return Err(fault());
        }
        match axes.row() {
            Some(places) if axis == 1 => Ok(ordered(&constant.values, &places)),
            _ if axes.is_channel(axis) => Ok(constant.values.clone()),
            _ => Err(fault()),
        }
    }

    /// Adds a layer that makes images vectors, if this value is one but the network has images at this place.
    fn flatten_for(&mut self, value: &Value) -> Result<(), String> {
        if value.axes.row().is_some() && self.builder.shape().places() > 1 {
            self.builder.plain(LayerSpec::Flatten)?;
        }
        Ok(())
    }

    fn finished(mut self) -> Result<Converted, OnnxError> {
        let fault = |detail: &str| OnnxError::Graph(detail.to_owned());
        let value = self.values.remove(self.graph.output.as_str());
        let value = value.ok_or_else(|| fault("its output does not depend on its input"))?;
        let has_softmax = value.form == Form::Softmax;
        if value.axes.row().is_none() {
            return Err(fault("its output is not one number for each class"));
        }
        if has_softmax {
            self.is_current(&value).map_err(OnnxError::Graph)?;
        } else {
            self.settled(value).map_err(OnnxError::Graph)?;
        }
        if !matches!(self.builder.last(), Some(LayerSpec::Dense { .. })) {
            return Err(fault("its last layer must be dense, with one unit for each class"));
        }
        let pixels = self.pixels.unwrap_or(Pixels::Unit);
        let (layers, network) = self.builder.finished()?;
        Ok(Converted { layers, network, pixels, has_softmax })
    }
}

/// The error of a node that is no part of a chain.
const CHAIN: &str = "it takes a value that another node has used; a network must be one chain of layers";

/// Puts each value at its place.
fn ordered(values: &[f64], places: &[usize]) -> Vec<f64> {
    let mut ordered = vec![0.0; values.len()];
    values.iter().zip(places).for_each(|(&value, &place)| ordered[place] = value);
    ordered
}
