//! The operators that are layers.

use super::super::graph::Node;
use super::super::operator::{Operator, Padding, Windows};
use super::super::tensor::Tensor;
use super::axes::Axes;
use super::{Form, Reader, Value, is_close, ordered};
use crate::nn::{self, LEAK, LayerSpec};

impl Reader<'_> {
    /// Adds the layer that a node stands for.
    pub(super) fn layer(&mut self, node: &Node, value: Value) -> Result<Value, String> {
        match &node.operator {
            Operator::Gemm { .. } | Operator::MatMul => return self.dense(node, value),
            Operator::Conv(windows) => return self.convolution(node, windows, value),
            _ => {}
        }
        let value = self.settled(value)?;
        let axes = match &node.operator {
            Operator::BatchNormalization { epsilon } => return self.batch_norm(node, *epsilon, value),
            Operator::MaxPool(windows) => {
                let size = self.size_of_pool(windows, &value)?;
                self.builder.plain(LayerSpec::MaxPool2d { size })?;
                Axes::channels_first(self.builder.shape())
            }
            Operator::AveragePool(windows) => {
                let size = self.size_of_pool(windows, &value)?;
                self.builder.plain(LayerSpec::AvgPool2d { size })?;
                Axes::channels_first(self.builder.shape())
            }
            Operator::GlobalAveragePool => {
                let shape = self.image_of(&value)?;
                if shape.height != shape.width {
                    return Err(format!("it takes {shape}; only squares are supported"));
                }
                self.builder.plain(LayerSpec::AvgPool2d { size: shape.height })?;
                Axes::channels_first(self.builder.shape())
            }
            operator => {
                let layer = self.elementwise(node, operator)?;
                self.builder.plain(layer)?;
                value.axes
            }
        };
        Ok(Value { version: self.builder.version(), form: Form::OUTPUT, axes, is_integer: false })
    }

    fn elementwise(&self, node: &Node, operator: &Operator) -> Result<LayerSpec, String> {
        match operator {
            Operator::Relu => Ok(LayerSpec::Relu),
            Operator::Sigmoid => Ok(LayerSpec::Sigmoid),
            Operator::Tanh => Ok(LayerSpec::Tanh),
            Operator::Gelu => Ok(LayerSpec::Gelu),
            Operator::LeakyRelu { alpha } if is_close(*alpha, LEAK) => Ok(LayerSpec::LeakyRelu),
            Operator::LeakyRelu { alpha } => Err(format!("alpha is {alpha}; only {LEAK} is supported")),
            Operator::Dropout { ratio } => {
                if self.parameter(node, 2)?.and_then(Tensor::scalar).is_some_and(|mode| mode != 0.0) {
                    return Err("it is in training mode; export the network for inference".to_owned());
                }
                let input =
                    self.parameter(node, 1)?.map(|ratio| ratio.scalar().ok_or("its ratio is no number"));
                let rate = ratio.or(input.transpose()?).unwrap_or(0.5);
                // The digits that a 32-bit number has.
                let rate = (rate * 1e7).round() / 1e7;
                if (0.0..1.0).contains(&rate) {
                    Ok(LayerSpec::Dropout { rate })
                } else {
                    Err(format!("its ratio is {rate}"))
                }
            }
            _ => Err("this operator is not supported here".to_owned()),
        }
    }

    /// The shape of a value that is a batch of images, channels first.
    fn image_of(&self, value: &Value) -> Result<nn::Shape, String> {
        let shape = self.builder.shape();
        let is_image = value.axes.image() == Some(shape);
        is_image.then_some(shape).ok_or_else(|| {
            let sides = value.axes.sides(1);
            format!(
                "it takes a tensor of {sides:?}, which are not images of {shape} with their channels first"
            )
        })
    }

    fn size_of_pool(&self, windows: &Windows, value: &Value) -> Result<usize, String> {
        let shape = self.image_of(value)?;
        let [rows, columns] = windows.kernel.ok_or("kernel_shape is missing")?;
        if rows != columns || windows.strides != [rows; 2] {
            let strides = windows.strides;
            return Err(format!(
                "windows of {rows} × {columns} that are {strides:?} apart; only squares side by side are supported"
            ));
        }
        let is_whole = shape.height.is_multiple_of(rows) && shape.width.is_multiple_of(rows);
        let is_plain = windows.padding == Padding::Of([0; 4]) && !windows.rounds_up;
        if is_plain || is_whole && matches!(windows.padding, Padding::Same | Padding::Of([0, 0, 0, 0])) {
            Ok(rows)
        } else {
            Err(format!(
                "windows of {rows} × {rows} on {shape} need padding, which is not supported for pools"
            ))
        }
    }

    fn batch_norm(&mut self, node: &Node, epsilon: f64, value: Value) -> Result<Value, String> {
        self.flatten_for(&value)?;
        let shape = self.builder.shape();
        let places = match value.axes.row() {
            Some(places) => places,
            None => (0..self.image_of(&value)?.channels).collect(),
        };
        let mut parameters = [const { Vec::new() }; 4];
        for (index, parameter) in parameters.iter_mut().enumerate() {
            let found = self.needed(node, index + 1)?;
            if found.len() != places.len() || places.len() != shape.channels {
                return Err(format!(
                    "its input {} has {} numbers, not {}",
                    index + 1,
                    found.len(),
                    places.len()
                ));
            }
            *parameter = ordered(&found.values, &places);
        }
        if parameters[3].iter().any(|&variance| variance < 0.0 || variance + epsilon <= 0.0) {
            return Err("a variance is negative".to_owned());
        }
        self.builder.batch_norm(parameters, epsilon)?;
        Ok(Value { version: self.builder.version(), ..value })
    }

    fn dense(&mut self, node: &Node, value: Value) -> Result<Value, String> {
        let (alpha, beta, transposes) = match node.operator {
            Operator::Gemm { alpha, beta, transposes } => (alpha, beta, transposes),
            _ => (1.0, 1.0, [false; 2]),
        };
        let places = value.axes.row().filter(|_| !transposes[0]);
        let places = places.ok_or("it takes no matrix with one row for each image")?;
        let (scale, shift) = self.folding(value, true)?;
        let weight = self.needed(node, 1)?;
        let (&[rows, columns], inputs) = (&weight.shape[..], places.len()) else {
            return Err(format!("its weight has the shape {:?}", weight.shape));
        };
        let (found, units) = if transposes[1] { (columns, rows) } else { (rows, columns) };
        if found != inputs || units == 0 {
            return Err(format!("its weight is for {found} inputs, but there are {inputs}"));
        }
        let mut bias = match self.parameter(node, 2)? {
            None => vec![0.0; units],
            Some(bias) => match bias.values.len() {
                1 => vec![beta * bias.values[0]; units],
                length if length == units => bias.values.iter().map(|bias| beta * bias).collect(),
                length => return Err(format!("its bias has {length} numbers, not {units}")),
            },
        };
        let mut ordered = vec![0.0; inputs * units];
        for (input, &place) in places.iter().enumerate() {
            for (unit, bias) in bias.iter_mut().enumerate() {
                let at = if transposes[1] { unit * inputs + input } else { input * units + unit };
                let weight = alpha * weight.values[at];
                ordered[place * units + unit] = scale * weight;
                *bias += shift * weight;
            }
        }
        self.builder.dense(ordered, bias)?;
        let axes = Axes::vector(units);
        Ok(Value { version: self.builder.version(), form: Form::OUTPUT, axes, is_integer: false })
    }

    fn convolution(&mut self, node: &Node, windows: &Windows, value: Value) -> Result<Value, String> {
        let shape = self.image_of(&value)?;
        let weight = self.needed(node, 1)?;
        let &[filters, channels, kernel, columns] = &weight.shape[..] else {
            return Err(format!("its weight has the shape {:?}", weight.shape));
        };
        let [stride, across] = windows.strides;
        if kernel != columns || windows.kernel.is_some_and(|sides| sides != [kernel; 2]) || stride != across {
            return Err(format!(
                "windows of {kernel} × {columns}, {stride} and {across} apart; only squares are supported"
            ));
        }
        if channels != shape.channels || filters == 0 || kernel == 0 {
            return Err(format!("its weight has {channels} channels, but its input has {}", shape.channels));
        }
        let padding = match windows.padding {
            Padding::Same => nn::Padding::Same,
            Padding::Of(zeros) => self.builder.padding(kernel, stride, zeros)?,
        };
        // The zeros around an image would have to be shifted too.
        let (scale, shift) = self.folding(value, padding == nn::Padding::Valid)?;
        let weight = self.needed(node, 1)?;
        let mut bias = match self.parameter(node, 2)? {
            None => vec![0.0; filters],
            Some(bias) if bias.len() == filters => bias.values.clone(),
            Some(bias) => return Err(format!("its bias has {} numbers, not {filters}", bias.len())),
        };
        let taps = kernel * kernel;
        let mut ordered = vec![0.0; weight.len()];
        for (at, &weight) in weight.values.iter().enumerate() {
            let (filter, channel, tap) = (at / taps / channels, at / taps % channels, at % taps);
            ordered[(tap * channels + channel) * filters + filter] = scale * weight;
            bias[filter] += shift * weight;
        }
        self.builder.convolution([kernel, stride], padding, ordered, bias)?;
        let axes = Axes::channels_first(self.builder.shape());
        Ok(Value { version: self.builder.version(), form: Form::OUTPUT, axes, is_integer: false })
    }

    /// The scale and shift of a value, for the layer after it to take over. If it can't, an own layer applies them.
    fn folding(&mut self, value: Value, takes_shift: bool) -> Result<(f64, f64), String> {
        self.is_current(&value)?;
        if let Form::Affine { scale, shift } = value.form {
            let (scale, shift) = self.of_unit(scale, shift);
            if takes_shift || shift == 0.0 {
                return Ok((scale, shift));
            }
        }
        self.settled(value)?;
        Ok((1.0, 0.0))
    }
}
