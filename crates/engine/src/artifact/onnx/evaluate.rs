//! The operators on tensors: plain loops over images with channels first, in `f64`. They share no code with the layers
//! of the engine, which they check.

use super::operator::{Operator, Padding, Windows};
use super::proto::element;
use super::tensor::{RANK_MAX, Tensor};

/// Computes the output of an operator. `values_max` limits its number of elements.
///
/// # Errors
/// If the inputs don't fit the operator or each other, or if the output is too large.
pub(super) fn evaluate(
    operator: &Operator,
    inputs: &[Option<&Tensor>],
    values_max: usize,
) -> Result<Tensor, String> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let needed = |index: usize| input(index).ok_or_else(|| format!("its input {index} is missing"));
    let each = |f: fn(f64) -> f64| Ok(map(needed(0)?, f));
    match operator {
        Operator::Add => binary(needed(0)?, needed(1)?, values_max, |a, b| a + b),
        Operator::Sub => binary(needed(0)?, needed(1)?, values_max, |a, b| a - b),
        Operator::Mul => binary(needed(0)?, needed(1)?, values_max, |a, b| a * b),
        Operator::Div => {
            let quotient = binary(needed(0)?, needed(1)?, values_max, |a, b| a / b)?;
            let is_integer = quotient.is_integer;
            Ok(if is_integer { Tensor { is_integer, ..map(&quotient, f64::trunc) } } else { quotient })
        }
        Operator::Relu => each(|x| if x < 0.0 { 0.0 } else { x }),
        Operator::Sigmoid => each(|x| 1.0 / (1.0 + (-x).exp())),
        Operator::Tanh => each(f64::tanh),
        Operator::Erf => each(libm::erf),
        Operator::Gelu => each(|x| x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)) / 2.0),
        Operator::LeakyRelu { alpha } => {
            let x = needed(0)?;
            let y = x.values.iter().map(|&x| if x < 0.0 { alpha * x } else { x }).collect();
            Ok(Tensor::new(x.shape.clone(), y))
        }
        Operator::Softmax { axis } => softmax(needed(0)?, *axis),
        Operator::LogSoftmax { axis } => Ok(map(&softmax(needed(0)?, *axis)?, f64::ln)),
        Operator::Identity | Operator::Dropout { .. } => Ok(needed(0)?.clone()),
        Operator::Cast { to } => {
            let x = needed(0)?;
            let is_integer = [element::INT32, element::INT64].map(i64::from).contains(to);
            Ok(Tensor { is_integer, ..map(x, if is_integer { f64::trunc } else { |x| x }) })
        }
        Operator::Constant(value) => Ok(value.clone()),
        Operator::Gemm { alpha, beta, transposes } => {
            let [a, b] = [needed(0)?, needed(1)?];
            let [a, b] = [transposed(a, transposes[0])?, transposed(b, transposes[1])?];
            let product = map_with(&matmul(&a, &b, values_max)?, *alpha);
            match input(2) {
                Some(c) => binary(&product, &map_with(c, *beta), values_max, |a, b| a + b),
                None => Ok(product),
            }
        }
        Operator::MatMul => matmul(needed(0)?, needed(1)?, values_max),
        Operator::Conv(windows) => convolution(needed(0)?, needed(1)?, input(2), windows, values_max),
        Operator::MaxPool(windows) => {
            pool(needed(0)?, windows, |values| values.fold(f64::NEG_INFINITY, f64::max))
        }
        Operator::AveragePool(windows) => {
            let size = windows.kernel.map_or(1, |[rows, columns]| rows * columns) as f64;
            pool(needed(0)?, windows, |values| values.sum::<f64>() / size)
        }
        Operator::GlobalAveragePool => {
            let x = needed(0)?;
            let [images, channels, rows, columns] = image_shape(x)?;
            let mean = |x: &[f64]| x.iter().sum::<f64>() / (rows * columns) as f64;
            let means = x.values.chunks_exact((rows * columns).max(1)).map(mean).collect();
            Ok(Tensor::new(vec![images, channels, 1, 1], means))
        }
        Operator::BatchNormalization { epsilon } => {
            let parameters = [needed(1)?, needed(2)?, needed(3)?, needed(4)?];
            normalised(needed(0)?, parameters, *epsilon)
        }
        layout => super::rearrange::rearranged(layout, inputs, values_max),
    }
}

fn map(x: &Tensor, f: fn(f64) -> f64) -> Tensor {
    Tensor::new(x.shape.clone(), x.values.iter().map(|&x| f(x)).collect())
}

fn map_with(x: &Tensor, factor: f64) -> Tensor {
    Tensor::new(x.shape.clone(), x.values.iter().map(|&x| x * factor).collect())
}

/// The number of elements of a shape.
///
/// # Errors
/// If there are more than `values_max`, or too many axes.
pub(super) fn length(shape: &[usize], values_max: usize) -> Result<usize, String> {
    if shape.len() > RANK_MAX {
        return Err(format!("a tensor of {} axes is not supported", shape.len()));
    }
    let length = shape.iter().try_fold(1_usize, |length, &side| length.checked_mul(side));
    length.filter(|&length| length <= values_max).ok_or_else(|| format!("its output {shape:?} is too large"))
}

/// An axis counted from the front.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    let found = usize::try_from(from_front).ok().filter(|&axis| axis < rank);
    found.ok_or_else(|| format!("there is no axis {axis} in {rank}"))
}

/// A function of two tensors, element by element. Sides of 1 are repeated.
fn binary(a: &Tensor, b: &Tensor, values_max: usize, f: impl Fn(f64, f64) -> f64) -> Result<Tensor, String> {
    let rank = a.shape.len().max(b.shape.len());
    let side = |tensor: &Tensor, axis: usize| {
        let missing = rank - tensor.shape.len();
        if axis < missing { 1 } else { tensor.shape[axis - missing] }
    };
    let misfit = || format!("{:?} and {:?} don't fit each other", a.shape, b.shape);
    let sides = |axis| match (side(a, axis), side(b, axis)) {
        (a, b) if a == b || b == 1 => Ok(a),
        (1, b) => Ok(b),
        _ => Err(misfit()),
    };
    let shape = (0..rank).map(sides).collect::<Result<Vec<usize>, String>>()?;
    let length = length(&shape, values_max)?;
    let at = |tensor: &Tensor, mut place: usize| {
        let (mut index, mut step) = (0, 1);
        for axis in (0..rank).rev() {
            let own = side(tensor, axis);
            index += if own == 1 { 0 } else { place % shape[axis] * step };
            (place, step) = (place / shape[axis].max(1), step * own);
        }
        index
    };
    let values = (0..length).map(|place| f(a.values[at(a, place)], b.values[at(b, place)])).collect();
    Ok(Tensor { is_integer: a.is_integer && b.is_integer, ..Tensor::new(shape, values) })
}

fn transposed(x: &Tensor, is_transposed: bool) -> Result<Tensor, String> {
    let [rows, columns] = matrix_shape(x)?;
    if !is_transposed {
        return Ok(x.clone());
    }
    let values = (0..columns).flat_map(|column| (0..rows).map(move |row| x.values[row * columns + column]));
    Ok(Tensor::new(vec![columns, rows], values.collect()))
}

fn matrix_shape(x: &Tensor) -> Result<[usize; 2], String> {
    <[usize; 2]>::try_from(x.shape.as_slice()).map_err(|_| format!("{:?} is no matrix", x.shape))
}

fn image_shape(x: &Tensor) -> Result<[usize; 4], String> {
    let misfit = |_| format!("{:?} is no batch of images", x.shape);
    <[usize; 4]>::try_from(x.shape.as_slice()).map_err(misfit)
}

fn matmul(a: &Tensor, b: &Tensor, values_max: usize) -> Result<Tensor, String> {
    let ([rows, inner], [others, columns]) = (matrix_shape(a)?, matrix_shape(b)?);
    if inner != others {
        return Err(format!("{:?} and {:?} can't be multiplied", a.shape, b.shape));
    }
    let mut y = vec![0.0; length(&[rows, columns], values_max)?];
    for row in 0..rows {
        for k in 0..inner {
            let factor = a.values[row * inner + k];
            for column in 0..columns {
                y[row * columns + column] += factor * b.values[k * columns + column];
            }
        }
    }
    Ok(Tensor::new(vec![rows, columns], y))
}

impl Windows {
    /// Zeros before the first row and column, and the number of windows along each.
    fn along(&self, kernel: [usize; 2], image: [usize; 2]) -> Result<[(usize, usize); 2], String> {
        let along = |axis: usize| {
            let (side, kernel, stride) = (image[axis], kernel[axis], self.strides[axis]);
            let (before, after) = match self.padding {
                Padding::Of(pads) => (pads[axis], pads[axis + 2]),
                Padding::Same => {
                    let all = ((side.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(side);
                    (all / 2, all - all / 2)
                }
            };
            let rest = (side + before + after).checked_sub(kernel);
            let rest = rest.ok_or_else(|| format!("windows of {kernel:?} don't fit into {image:?}"))?;
            if self.rounds_up && rest % stride > 0 {
                return Err("windows that are partly outside of the image are not supported".to_owned());
            }
            Ok((before, rest / stride + 1))
        };
        Ok([along(0)?, along(1)?])
    }
}

fn convolution(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    windows: &Windows,
    values_max: usize,
) -> Result<Tensor, String> {
    let [images, channels, height, width] = image_shape(x)?;
    let [filters, of_filter, rows, columns] = image_shape(weight)?;
    let is_misfit = windows.kernel.is_some_and(|kernel| kernel != [rows, columns]);
    if channels != of_filter || is_misfit || bias.is_some_and(|bias| bias.shape != [filters]) {
        return Err(format!("a weight of {:?} does not fit an input of {:?}", weight.shape, x.shape));
    }
    let [(top, high), (left, wide)] = windows.along([rows, columns], [height, width])?;
    let shape = vec![images, filters, high, wide];
    let mut y = vec![0.0; length(&shape, values_max)?];
    let [down, across] = windows.strides;
    for (place, y) in y.chunks_exact_mut((high * wide).max(1)).enumerate() {
        let (image, filter) = (place / filters, place % filters);
        y.fill(bias.map_or(0.0, |bias| bias.values[filter]));
        for channel in 0..channels {
            let x = &x.values[(image * channels + channel) * height * width..][..height * width];
            for tap in 0..rows * columns {
                let factor = weight.values[(filter * channels + channel) * rows * columns + tap];
                for i in 0..high {
                    let row = (i * down + tap / columns).checked_sub(top).filter(|&row| row < height);
                    let Some(row) = row else { continue };
                    for j in 0..wide {
                        let column = (j * across + tap % columns).checked_sub(left);
                        if let Some(column) = column.filter(|&column| column < width) {
                            y[i * wide + j] += factor * x[row * width + column];
                        }
                    }
                }
            }
        }
    }
    Ok(Tensor::new(shape, y))
}

/// Reduces the windows of each channel, which must be inside of the image.
fn pool(
    x: &Tensor,
    windows: &Windows,
    reduce: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Result<Tensor, String> {
    let [images, channels, height, width] = image_shape(x)?;
    let kernel = windows.kernel.ok_or("kernel_shape is missing")?;
    let [(top, high), (left, wide)] = windows.along(kernel, [height, width])?;
    if (top, left) != (0, 0)
        || (high - 1) * windows.strides[0] + kernel[0] > height
        || (wide - 1) * windows.strides[1] + kernel[1] > width
    {
        return Err("padding of a pool is not supported".to_owned());
    }
    let mut y = Vec::new();
    for x in x.values.chunks_exact((height * width).max(1)) {
        for place in 0..high * wide {
            let (i, j) = (place / wide * windows.strides[0], place % wide * windows.strides[1]);
            let rows = (i..i + kernel[0]).flat_map(|row| x[row * width + j..][..kernel[1]].iter().copied());
            y.push(reduce(&mut { rows }));
        }
    }
    Ok(Tensor::new(vec![images, channels, high, wide], y))
}

/// `γ (x − μ) / √(σ² + ε) + β` for each channel.
fn normalised(x: &Tensor, parameters: [&Tensor; 4], epsilon: f64) -> Result<Tensor, String> {
    let channels = *x.shape.get(1).ok_or("it has no channels")?;
    let mut lengths = parameters.iter().map(|parameter| parameter.len());
    if x.is_integer || lengths.any(|length| length != channels) {
        return Err(format!("parameters of {channels} channels are needed"));
    }
    let [scale, shift, mean, variance] = parameters.map(|parameter| &parameter.values);
    let places = x.shape[2..].iter().product::<usize>().max(1);
    let value = |(place, x): (usize, &f64)| {
        let channel = place / places % channels;
        scale[channel] * (x - mean[channel]) / (variance[channel] + epsilon).sqrt() + shift[channel]
    };
    Ok(Tensor::new(x.shape.clone(), x.values.iter().enumerate().map(value).collect()))
}

/// The length of the last axis, over which rows are reduced. Only that axis is supported.
fn last_axis(x: &Tensor, axis: i64) -> Result<usize, String> {
    let rank = x.shape.len();
    if axis_of(axis, rank)? + 1 != rank {
        return Err(format!("axis {axis} is not the last one of {:?}", x.shape));
    }
    Ok(x.shape[rank - 1].max(1))
}

fn softmax(x: &Tensor, axis: Option<i64>) -> Result<Tensor, String> {
    let mut y = x.values.clone();
    for row in y.chunks_exact_mut(last_axis(x, axis.unwrap_or(-1))?) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    Ok(Tensor::new(x.shape.clone(), y))
}
