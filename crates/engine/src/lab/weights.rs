use ndarray::{Array2, s};
use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES};
use super::statistics::{BINS, Histogram, TensorStatistics};
use crate::data::picture::{Shade, Tile, sheet};
use crate::nn::{Float, Layer, Network, Shape};

/// The parameters of a layer, looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerWeights {
    /// Its place and kind, as `0.dense`.
    pub layer: String,
    /// Of the weight: (inputs, units), (k, k, channels, filters), or (channels).
    pub shape: Vec<usize>,
    /// Numbers of weight and bias.
    pub parameters: usize,
    /// The figures of the weight.
    pub weight: TensorStatistics,
    /// Where the numbers of the weight lie.
    pub histogram: Histogram,
    /// The figures of the bias.
    pub bias: TensorStatistics,
}

/// The parameters of the layer at `index`, or `None` where it has none.
pub fn layer_weights<T: Float>(network: &Network<T>, index: usize) -> Option<LayerWeights> {
    let layer = &network.layers()[index];
    let (weight, bias) = layer.parameters()?;
    let statistics = TensorStatistics::of(weight.iter());
    Some(LayerWeights {
        layer: network.layer_name(index),
        shape: layer.weight_shape(),
        parameters: weight.len() + bias.len(),
        histogram: Histogram::of(weight.iter(), &statistics),
        weight: statistics,
        bias: TensorStatistics::of(bias.iter()),
    })
}

/// What [`layer_weights`] of the layer at `index` takes, or [`weight_picture`].
pub fn weights_cost(network: &Network<f32>, index: usize, is_picture: bool) -> AnswerCost {
    let Some((weight, bias)) = network.layers()[index].parameters() else { return AnswerCost::default() };
    if let (true, Some(picture)) = (is_picture, Picture::of(network, index)) {
        let Picture { tiles, tile, columns, .. } = picture;
        return AnswerCost::of_sheet(tiles, tile, columns, picture.zoom());
    }
    let flops = FLOPS_PER_NUMBER * (weight.len() + bias.len()) as f64;
    let text = NUMBER_BYTES * 2.0 * BINS as f64 + 3.0 * FIELDS_BYTES;
    AnswerCost { flops, ..AnswerCost::default() }.then(AnswerCost::of_text(text))
}

/// Operations for the figures of a number.
const FLOPS_PER_NUMBER: f64 = 12.0;

/// Tiles in a picture at most: of more units or filters the first.
const TILES_MAX: usize = 256;

/// Inputs and units of a matrix in a picture at most: of more the first.
const MATRIX_MAX: usize = 1_024;

/// About how wide a picture is in pixels.
const WIDTH: usize = 900;

/// How a weight is drawn.
struct Picture {
    tiles: usize,
    /// Width and height of one.
    tile: (usize, usize),
    columns: usize,
    shown: Shown,
}

/// What a tile is.
enum Shown {
    /// A unit that reads an image of this shape.
    Unit(Shape),
    /// A channel of a filter.
    Filter,
    /// The whole weight.
    Matrix,
}

impl Picture {
    fn of(network: &Network<f32>, index: usize) -> Option<Self> {
        let layer = &network.layers()[index];
        let (weight, _) = layer.parameters()?;
        let square = |tiles: usize| (tiles as f64).sqrt().ceil() as usize;
        let (inputs, units) = (weight.nrows().min(MATRIX_MAX), weight.ncols().min(MATRIX_MAX));
        // What is one row stays one.
        let tile = if weight.nrows() == 1 { (units, 1) } else { (inputs, units) };
        let matrix = Self { tiles: 1, tile, columns: 1, shown: Shown::Matrix };
        Some(match layer {
            Layer::Dense(_) => image_behind(network, index).map_or(matrix, |image| {
                let tiles = weight.ncols().min(TILES_MAX);
                let tile = (image.width, image.height);
                Self { tiles, tile, columns: square(tiles), shown: Shown::Unit(image) }
            }),
            Layer::Conv2d(conv) => {
                let (channels, side) = (conv.input().channels, conv.kernel());
                let tiles = (conv.filters() * channels).min(TILES_MAX.max(channels));
                let columns = if channels == 1 { square(tiles) } else { channels };
                Self { tiles, tile: (side, side), columns, shown: Shown::Filter }
            }
            _ => matrix,
        })
    }

    /// Side of a number in pixels.
    fn zoom(&self) -> usize {
        (WIDTH / (self.columns * self.tile.0)).clamp(1, 24)
    }
}

/// The weight of the layer at `index` as a picture, or `None` where it has none.
///
/// A dense layer behind an image: a tile for each unit, its weights where its inputs lie (of several channels
/// their sum). A convolution: a row for each filter, a tile for each channel, or a grid where there is one
/// channel. Any other: a row for each unit, a column for each input.
pub fn weight_picture(network: &Network<f32>, index: usize) -> Option<Vec<u8>> {
    let (weight, _) = network.layers()[index].parameters()?;
    let picture = Picture::of(network, index)?;
    let area = picture.tile.0 * picture.tile.1;
    let tile = |tile: usize| {
        let values = match picture.shown {
            Shown::Unit(image) => unit(weight, tile, image),
            Shown::Filter => {
                let channels = weight.nrows() / area;
                let (filter, channel) = (tile / channels, tile % channels);
                weight.column(filter).iter().skip(channel).step_by(channels).copied().collect()
            }
            Shown::Matrix => matrix(weight),
        };
        Tile { values, width: picture.tile.0, shade: Shade::Signed }
    };
    let tiles: Vec<Tile> = (0..picture.tiles).map(tile).collect();
    Some(sheet(&tiles, picture.columns, picture.zoom()))
}

/// The shape of the image that a dense layer's inputs are the list of.
fn image_behind(network: &Network<f32>, index: usize) -> Option<Shape> {
    let shapes = &network.shapes()[..=index];
    let is_same = |shape: &&Shape| shape.places() > 1 && shape.len() == shapes[index].len();
    let before = network.layers()[..index].iter().rev().take_while(|layer| !matches!(layer, Layer::Dense(_)));
    shapes.iter().rev().take(before.count() + 1).find(is_same).copied()
}

fn unit(weight: &Array2<f32>, unit: usize, image: Shape) -> Vec<f32> {
    let column: Vec<f32> = weight.column(unit).to_vec();
    column.chunks(image.channels).map(|channels| channels.iter().sum()).collect()
}

/// A row for each column of the weight; what is one row stays one.
fn matrix(weight: &Array2<f32>) -> Vec<f32> {
    let weight = weight.slice(s![..weight.nrows().min(MATRIX_MAX), ..weight.ncols().min(MATRIX_MAX)]);
    if weight.nrows() == 1 { weight.iter().copied().collect() } else { weight.t().iter().copied().collect() }
}
