use ndarray::{Array1, Array2};
use serde::Serialize;
use serde_json::Value;

use super::price::{AnswerCost, LayerNumbers, Passes, Question};
use super::request::{finite, shaped};
use super::tensor::{Tensor, shape_text};
use crate::fields::{Fault, Fields, kind, parsed};
use crate::nn::{Conv2d, Init, LayerSpec, Padding, Shape, Window};

/// A convolution on a small image, forward and backward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Convolution {
    /// `y[i, j, f] = Σ x[i s + u − p, j s + v − p, c] w[u, v, c, f] + b[f]`, with stride s and a border of p
    /// zeros.
    pub y: Tensor,
    /// `dx[i s + u − p, j s + v − p, c] = Σ dy[i, j, f] w[u, v, c, f]`. Absent without `dy`.
    pub dx: Option<Tensor>,
    /// `dw[u, v, c, f] = Σ x[i s + u − p, j s + v − p, c] dy[i, j, f]`. Absent without `dy`.
    pub dfilter: Option<Tensor>,
    /// `db[f] = Σ dy[i, j, f]`. Absent without `dy` or a bias.
    pub dbias: Option<Tensor>,
    /// The formulas, with shapes.
    pub products: Vec<String>,
}

/// A request for a convolution: input (h, w) or (h, w, c), filter (k, k) or (k, k, c, filters).
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionRequest {
    input: Tensor,
    filter: Tensor,
    bias: Option<Tensor>,
    dy: Option<Tensor>,
    stride: usize,
    padding: Border,
}

/// Zero padding: enough to keep the size of the image, or a number of zeros on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Border {
    Same,
    Of(usize),
}

/// Largest side of an image, and largest number of channels and filters.
const SIDE_MAX: usize = 64;
const STRIDE_MAX: u64 = 64;

impl ConvolutionRequest {
    fn take(mut fields: Fields) -> Option<Self> {
        let input = Tensor::required(&mut fields, "input", &[2, 3]);
        let filter = Tensor::required(&mut fields, "filter", &[2, 4]);
        let bias = Tensor::take(&mut fields, "bias", &[1]);
        let dy = Tensor::take(&mut fields, "dy", &[2, 3]);
        let stride = fields.integer("stride", 1..=STRIDE_MAX).unwrap_or(1) as usize;
        let padding = border(&mut fields);
        fields.refuse_unknown();
        let (input, filter) = (input?, filter?);
        let mut is_fit = true;
        for (name, tensor) in [("input", &input), ("filter", &filter)] {
            if tensor.shape.iter().any(|&length| length > SIDE_MAX) {
                fields.fault(name, format!("its shape {tensor} is larger than {SIDE_MAX} along an axis"));
                is_fit = false;
            }
        }
        if filter.shape[0] != filter.shape[1] {
            fields.fault("filter", format!("must be square, but its shape is {filter}"));
            is_fit = false;
        }
        let request = Self { input, filter, bias, dy, stride, padding };
        let (channels, expected) = (request.image().channels, request.channels_and_filters().0);
        if channels != expected {
            let (input, filter) = (&request.input, &request.filter);
            fields.fault("filter", format!("input of shape {input} has {channels} channels, filter of shape {filter} takes {expected}"));
            is_fit = false;
        }
        if !is_fit {
            return None;
        }
        let y = match request.y_shape() {
            Ok(y) => y,
            Err(detail) => {
                fields.fault("filter", detail);
                return None;
            }
        };
        if let Some(bias) = &request.bias {
            shaped(&mut fields, "bias", bias, &[request.channels_and_filters().1]);
        }
        if let Some(dy) = &request.dy {
            shaped(&mut fields, "dy", dy, &y);
        }
        Some(request)
    }

    fn image(&self) -> Shape {
        Shape {
            height: self.input.shape[0],
            width: self.input.shape[1],
            channels: *self.input.shape.get(2).unwrap_or(&1),
        }
    }

    fn channels_and_filters(&self) -> (usize, usize) {
        match self.filter.shape[..] {
            [_, _, channels, filters] => (channels, filters),
            _ => (1, 1),
        }
    }

    fn spec(&self) -> LayerSpec {
        let ((_, filters), kernel, stride) = (self.channels_and_filters(), self.filter.shape[0], self.stride);
        LayerSpec::Conv2d { filters, kernel, padding: self.padding(), stride, init: Init::Normal }
    }

    /// The padding of the layer, after a border of zeros is added to the image.
    fn padding(&self) -> Padding {
        match self.padding {
            Border::Same => Padding::Same,
            Border::Of(_) => Padding::Valid,
        }
    }

    /// The layer for the image with its border.
    fn layer(&self) -> Conv2d<f64> {
        let window = Window::new(self.bordered().0, self.filter.shape[0], self.stride, self.padding());
        let filters = self.channels_and_filters().1;
        let bias = self.bias.as_ref();
        let bias = bias.map_or_else(|| Array1::zeros(filters), |bias| Array1::from(bias.values.clone()));
        Conv2d::new(self.filter.matrix(filters), bias, window.expect("a parsed filter fits into its image"))
    }

    /// The shape of the padded image, and the zeros on each side.
    fn bordered(&self) -> (Shape, usize) {
        let border = if let Border::Of(border) = self.padding { border } else { 0 };
        let image = self.image();
        (Shape { height: image.height + 2 * border, width: image.width + 2 * border, ..image }, border)
    }

    /// The shape of y. It has a channel axis if the image or the filter has one.
    fn y_shape(&self) -> Result<Vec<usize>, String> {
        let y = self.spec().output(self.bordered().0)?;
        let has_channels = self.input.shape.len() == 3 || self.filter.shape.len() == 4;
        Ok(if has_channels { vec![y.height, y.width, y.channels] } else { vec![y.height, y.width] })
    }

    /// The formulas with shapes. Indices of x are shifted by the padding.
    fn products(&self, y: &Tensor) -> Vec<String> {
        let (stride, input, filter) = (self.stride, &self.input, &self.filter);
        let border = match self.padding {
            Border::Of(0) => String::new(),
            Border::Of(border) => format!(" − {border}"),
            Border::Same => " − p".to_owned(),
        };
        let step = if stride == 1 { String::new() } else { stride.to_string() };
        let x = format!("x[{step}i + u{border}, {step}j + v{border}, c]");
        let (bias, filters) = (self.bias.is_some(), shape_text(&[self.channels_and_filters().1]));
        let plus = if bias { " + b[f]" } else { "" };
        let mut products = vec![format!("y[i, j, f] = Σ {x}·w[u, v, c, f]{plus}: {input} * {filter} = {y}")];
        if self.dy.is_some() {
            products.push(format!("d{x} = Σ dy[i, j, f]·w[u, v, c, f]: {y} and {filter} give {input}"));
            products.push(format!("dfilter[u, v, c, f] = Σ {x}·dy[i, j, f]: {input} and {y} give {filter}"));
            if bias {
                products.push(format!("dbias[f] = Σ dy[i, j, f]: {y} gives {filters}"));
            }
        }
        products
    }
}

impl ConvolutionRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// Every fault of the request. If shapes don't match, the message gives both.
    pub fn parse(request: &Value) -> Result<Self, Vec<Fault>> {
        parsed(request, Self::take)
    }
}

impl Question for ConvolutionRequest {
    type Answer = Convolution;

    fn cost(&self) -> AnswerCost {
        let (spec, padded) = ([self.spec()], self.bordered().0);
        let passes = Passes::of(padded, &spec);
        let [x, w, padded_x] = [self.input.values.len(), self.filter.values.len(), padded.len()];
        let [x, w, padded_x] = [x, w, padded_x].map(|length| length as f64);
        let (y, is_backward) = (passes.values() - padded_x, self.dy.is_some());
        passes.of_single_layer(&LayerNumbers { rows: 1, x, w, y, padded_x, packed_dy: y, is_backward })
    }

    fn answer(self) -> Result<Convolution, Vec<Fault>> {
        let (image, (padded, border)) = (self.image(), self.bordered());
        let fault = |detail| vec![Fault { pointer: "/filter".to_owned(), detail }];
        let (y_shape, layer) = (self.y_shape().map_err(fault)?, self.layer());
        let mut x = Array2::zeros((1, padded.len()));
        // Position of a row of the image in the padded image.
        let (line, columns) = (image.width * image.channels, border * image.channels);
        let place = |row: usize| (row + border) * padded.width * image.channels + columns;
        for (row, values) in self.input.values.chunks(line).enumerate() {
            values.iter().enumerate().for_each(|(at, &value)| x[[0, place(row) + at]] = value);
        }
        let y = Tensor::of(&y_shape, layer.forward(x.view()));
        finite("y", &y)?;
        let mut answer = Convolution { products: self.products(&y), y, dx: None, dfilter: None, dbias: None };
        if let Some(dy) = &self.dy {
            let (errors, dfilter, dbias) = layer.backward(x.view(), dy.matrix(dy.values.len()).view());
            let dx = (0..image.height)
                .flat_map(|row| (0..line).map(move |at| place(row) + at))
                .map(|at| errors[[0, at]]);
            let dx = Tensor::new(self.input.shape.clone(), dx.collect());
            let (dfilter, dbias) =
                (Tensor::of(&self.filter.shape, dfilter), Tensor::of(&[layer.filters()], dbias));
            finite("dx", &dx)?;
            finite("dfilter", &dfilter)?;
            finite("dbias", &dbias)?;
            answer.dx = Some(dx);
            answer.dfilter = Some(dfilter);
            answer.dbias = self.bias.as_ref().map(|_| dbias);
        }
        Ok(answer)
    }
}

/// The padding: `valid`, `same`, or a number of zeros on each side.
fn border(fields: &mut Fields) -> Border {
    match fields.take("padding") {
        None => Border::Of(0),
        Some(Value::Number(_)) => {
            Border::Of(fields.integer("padding", 0..=SIDE_MAX as u64).unwrap_or(0) as usize)
        }
        Some(Value::String(_)) => fields
            .one_of("padding", &[("valid", Border::Of(0)), ("same", Border::Same)])
            .unwrap_or(Border::Of(0)),
        Some(other) => {
            fields.fault("padding", format!("must be \"valid\", \"same\" or a number, not {}", kind(other)));
            Border::Of(0)
        }
    }
}
