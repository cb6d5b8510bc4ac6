use ndarray::Array2;
use serde::Serialize;

use super::number::number;
use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES, Passes, check_stopped};
use super::statistics::TensorStatistics;
use super::tensor::{Tensor, shape_text};
use crate::data::picture::{ColorMap, Tile, sheet};
use crate::nn::{Float, Gradient, LayerSpec, Loss, LossKind, Network, Shape, Stopped, Tape, argmax, softmax};

/// One step of backpropagation on one image: the values of every layer, the errors that flow back, and the
/// effect of one update on the loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub struct Trace {
    pub label: usize,
    /// The predicted class before the update.
    pub predicted: usize,
    /// The probabilities before the update.
    pub probabilities: Vec<f64>,
    pub loss: LossKind,
    /// Always `inference`: `batch_norm` uses its running statistics, and `dropout` drops nothing.
    pub mode: &'static str,
    pub loss_before: f64,
    pub loss_after: f64,
    /// The learning rate of the update `w ← w − rate · ∂L/∂w`.
    pub learning_rate: f64,
    pub layers: Vec<LayerTrace>,
}

/// The values of a layer and its gradients.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields without a description are what their names say")]
pub struct LayerTrace {
    /// Index and kind, such as `0.dense`.
    pub layer: String,
    /// Rows, columns and channels of the output, or its length.
    pub output_shape: Vec<usize>,
    pub output: TracePart,
    /// `∂L/∂output`.
    pub error: TracePart,
    /// `∂L/∂W`, if the layer has weights.
    pub weight_gradient: Option<TracePart>,
    /// `∂L/∂b`, if the layer has a bias.
    pub bias_gradient: Option<TracePart>,
    /// `‖ΔW‖ / ‖W‖`, including biases.
    pub update_ratio: Option<f64>,
}

/// The statistics of an array, and its elements if they were requested.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracePart {
    /// Statistics of all elements. In JSON, their fields are next to `array`.
    #[serde(flatten)]
    pub statistics: TensorStatistics,
    /// The elements, in the shape of the layer's output, weight or bias. `None` unless arrays were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<Tensor>,
}

impl TracePart {
    fn of<'a, T: Float>(
        values: impl Iterator<Item = &'a T> + Clone,
        shape: &[usize],
        with_array: bool,
    ) -> Self {
        let array = || Tensor::new(shape.to_vec(), values.clone().map(|value| value.wide()).collect());
        Self { statistics: TensorStatistics::of(values.clone()), array: with_array.then(array) }
    }
}

/// Rows, columns and channels, or the length of a vector.
pub fn dimensions(shape: Shape) -> Vec<usize> {
    match shape.places() {
        1 => vec![shape.channels],
        _ => vec![shape.height, shape.width, shape.channels],
    }
}

/// The gradient of the loss with respect to the scores on `tape`, and the loss.
pub fn dscores<T: Float>(tape: &Tape<T>, loss: LossKind, label: u16) -> (Array2<T>, f64) {
    let mut dscores = Array2::zeros(tape.scores().dim());
    let loss = Loss::new(loss).backward(tape.scores(), &[label], 1, dscores.view_mut());
    (dscores, loss)
}

/// The cost of the trace of one image, with or without arrays.
pub fn trace_cost(input: Shape, layers: &[LayerSpec], with_arrays: bool) -> AnswerCost {
    let passes = Passes::of(input, layers);
    let parameters = passes.parameters();
    let numbers = 2.0 * passes.values() + parameters;
    // About ten operations per number for its statistics.
    let flops = 2.0 * passes.forward() + passes.backward() + 10.0 * numbers;
    // The weights are held during both passes. Later the updated weights and the gradient are held as well.
    let forward = passes.tape(1, usize::MAX);
    let held = parameters + passes.tape(1, 1).max(2.0 * passes.values() + parameters + forward);
    let arrays = if with_arrays { numbers } else { 0.0 };
    let held = size_of::<f32>() as f64 * held + size_of::<f64>() as f64 * arrays;
    let text = NUMBER_BYTES * arrays + layers.len() as f64 * FIELDS_BYTES + FIELDS_BYTES;
    AnswerCost { flops, memory_bytes: held, answer_bytes: 0.0 }.then(AnswerCost::of_text(text))
}

/// Runs a forward and a backward pass of one image, with values from 0 to 1, through `network`. Then applies one update
/// at `learning_rate` to a copy of the network. `with_arrays` adds the arrays to the result. `go_on` is called before
/// each pass, and the work stops if it returns false.
///
/// # Errors
/// If `go_on` returns false.
pub fn trace(
    network: &Network<f32>,
    loss: LossKind,
    (image, label): (&[f32], u16),
    learning_rate: f64,
    with_arrays: bool,
    go_on: &dyn Fn() -> bool,
) -> Result<Trace, Stopped> {
    check_stopped(go_on)?;
    let mut tape = Tape::new(network, 1);
    tape.pass_image(network, image);
    let (dscores, loss_before) = dscores(&tape, loss, label);
    check_stopped(go_on)?;
    tape.backward(network, dscores);
    tape.end();
    let mut updated = network.clone();
    let mut gradients = tape.gradients.iter().peekable();
    let mut layers = Vec::new();
    for (index, layer) in updated.layers_mut().iter_mut().enumerate() {
        let (shape, weight_shape) = (dimensions(network.shapes()[index + 1]), layer.weight_shape());
        let gradient = gradients.next_if(|gradient| gradient.layer == index);
        let update_ratio =
            gradient.and_then(|gradient| update(layer.parameters_mut()?, gradient, learning_rate));
        layers.push(LayerTrace {
            layer: network.layer_name(index),
            output: TracePart::of(tape.values[index + 1].iter(), &shape, with_arrays),
            error: TracePart::of(tape.errors[index + 1].iter(), &shape, with_arrays),
            output_shape: shape,
            weight_gradient: gradient
                .map(|gradient| TracePart::of(gradient.weight.iter(), &weight_shape, with_arrays)),
            bias_gradient: gradient
                .map(|gradient| TracePart::of(gradient.bias.iter(), &[gradient.bias.len()], with_arrays)),
            update_ratio,
        });
    }
    let mut probabilities = tape.scores().to_owned();
    softmax(probabilities.view_mut());
    check_stopped(go_on)?;
    let mut after = Tape::new(&updated, usize::MAX);
    after.pass_image(&updated, image);
    Ok(Trace {
        label: usize::from(label),
        predicted: argmax(probabilities.iter()),
        probabilities: probabilities.iter().map(|p| p.wide()).collect(),
        loss,
        mode: "inference",
        loss_before,
        loss_after: Loss::new(loss).forward(after.scores(), &[label]),
        learning_rate,
        layers,
    })
}

impl Trace {
    /// The trace as a table of plain text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "an image of class {}, taken for {} with {:.1} %\n\n\
             {:<16}{:<14}{:>10}{:>8}{:>12}{:>14}{:>14}\n",
            self.label,
            self.predicted,
            100.0 * self.probabilities[self.predicted],
            "layer",
            "output",
            "mean",
            "zeros",
            "‖error‖",
            "‖gradient‖",
            "‖ΔW‖ / ‖W‖",
        );
        for layer in &self.layers {
            let shape = shape_text(&layer.output_shape);
            let (output, error) = (&layer.output.statistics, &layer.error.statistics);
            let gradient = layer.weight_gradient.as_ref().map(|part| number(part.statistics.norm, 3));
            let ratio = layer.update_ratio.map(|ratio| number(ratio, 3));
            let row = format!(
                "{:<16}{shape:<14}{:>10}{:>6.0} %{:>12}{:>14}{:>14}",
                layer.layer,
                number(output.mean, 3),
                100.0 * output.zero_fraction,
                number(error.norm, 3),
                gradient.unwrap_or_default(),
                ratio.unwrap_or_default(),
            );
            text += row.trim_end();
            text.push('\n');
        }
        text += &format!(
            "\nloss {} → {} by one update at a learning rate of {}\n",
            number(self.loss_before, 6),
            number(self.loss_after, 6),
            self.learning_rate
        );
        text
    }
}

/// Applies `w ← w − rate · dw` and returns `‖ΔW‖ / ‖W‖`. `None` if `‖W‖` is 0.
fn update(
    (weight, bias): (&mut Array2<f32>, &mut ndarray::Array1<f32>),
    gradient: &Gradient<f32>,
    learning_rate: f64,
) -> Option<f64> {
    let norm = |weight: &Array2<f32>, bias: &ndarray::Array1<f32>| {
        crate::nn::square_sum(weight.iter().chain(bias)).sqrt()
    };
    let before = norm(weight, bias);
    let rate = learning_rate as f32;
    weight.scaled_add(-rate, &gradient.weight);
    bias.scaled_add(-rate, &gradient.bias);
    (before > 0.0).then(|| learning_rate * norm(&gradient.weight, &gradient.bias) / before)
}

/// Draws the output of the layer at `index`: one tile per channel, or rows of squares if the output is a
/// vector.
pub fn feature_maps(network: &Network<f32>, image: &[f32], index: usize) -> Vec<u8> {
    let mut tape = Tape::new(network, usize::MAX);
    tape.pass_image(network, image);
    let (values, maps) = (&tape.values[index + 1], Maps::of(network.shapes()[index + 1]));
    let (width, height) = maps.tile;
    let tile = |tile: usize| {
        let mut values: Vec<f32> = values.iter().skip(tile).step_by(maps.tiles).copied().collect();
        values.resize(width * height, 0.0);
        Tile { values, width, colors: ColorMap::Diverging }
    };
    let tiles: Vec<Tile> = (0..maps.tiles).map(tile).collect();
    sheet(&tiles, MAPS_ACROSS, maps.zoom)
}

/// The cost of [`feature_maps`].
pub fn feature_maps_cost(input: Shape, layers: &[LayerSpec], index: usize) -> AnswerCost {
    let passes = Passes::of(input, layers);
    let Maps { tiles, tile, zoom } = Maps::of(passes.shape(index + 1));
    let held = size_of::<f32>() as f64 * passes.tape(1, usize::MAX);
    let cost = AnswerCost { flops: passes.forward(), memory_bytes: held, answer_bytes: 0.0 };
    cost.then(AnswerCost::of_sheet(tiles, tile, MAPS_ACROSS, zoom))
}

/// The way the output of a layer is drawn.
struct Maps {
    tiles: usize,
    /// Width and height of a tile.
    tile: (usize, usize),
    /// Side of a number in pixels.
    zoom: usize,
}

impl Maps {
    fn of(shape: Shape) -> Self {
        if shape.places() == 1 {
            let width = shape.channels.min(LIST_WIDTH);
            return Self { tiles: 1, tile: (width, shape.channels.div_ceil(width)), zoom: LIST_ZOOM };
        }
        let zoom = (MAP_SIDE / shape.width).max(1);
        Self { tiles: shape.channels, tile: (shape.width, shape.height), zoom }
    }
}

/// Numbers of a vector per row, and the side of one in pixels.
const LIST_WIDTH: usize = 32;
const LIST_ZOOM: usize = 16;

/// Feature maps per row, and approximate width of one in pixels.
const MAPS_ACROSS: usize = 8;
const MAP_SIDE: usize = 84;
