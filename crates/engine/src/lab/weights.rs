use ndarray::{Array2, s};
use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES};
use super::statistics::{BINS, Histogram, TensorStatistics};
use crate::data::picture::{ColorMap, Tile, sheet};
use crate::nn::{Float, Layer, Network, Shape};

/// Statistics of the parameters of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerWeights {
    /// Index and kind, such as `0.dense`.
    pub layer: String,
    /// Shape of the weight: (inputs, units), (k, k, channels, filters), or (channels).
    pub shape: Vec<usize>,
    /// Number of parameters, weight and bias together.
    pub parameters: usize,
    /// Statistics of the weight.
    pub weight: TensorStatistics,
    /// Histogram of the weight.
    pub histogram: Histogram,
    /// Statistics of the bias.
    pub bias: TensorStatistics,
}

/// The statistics of the layer at `index`. `None` if it has no parameters.
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

/// The cost of [`layer_weights`] for the layer at `index`, or of [`weight_picture`].
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

/// Operations per number for its statistics.
const FLOPS_PER_NUMBER: f64 = 12.0;

/// Largest number of tiles in a picture. If there are more units or filters, only the first ones are drawn.
const TILES_MAX: usize = 256;

/// Largest number of inputs and units of a matrix in a picture. If there are more, only the first ones are drawn.
const MATRIX_MAX: usize = 1_024;

/// Approximate width of a picture in pixels.
const WIDTH: usize = 900;

/// The way a weight is drawn.
struct Picture {
    tiles: usize,
    /// Width and height of a tile.
    tile: (usize, usize),
    columns: usize,
    content: TileContent,
}

/// The part of a weight that a tile shows.
enum TileContent {
    /// A unit whose inputs are an image of this shape.
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
        // A single row stays a row.
        let tile = if weight.nrows() == 1 { (units, 1) } else { (inputs, units) };
        let matrix = Self { tiles: 1, tile, columns: 1, content: TileContent::Matrix };
        Some(match layer {
            Layer::Dense(_) => input_image(network, index).map_or(matrix, |image| {
                let tiles = weight.ncols().min(TILES_MAX);
                let tile = (image.width, image.height);
                Self { tiles, tile, columns: square(tiles), content: TileContent::Unit(image) }
            }),
            Layer::Conv2d(conv) => {
                let (channels, side) = (conv.input().channels, conv.kernel());
                let tiles = (conv.filters() * channels).min(TILES_MAX.max(channels));
                let columns = if channels == 1 { square(tiles) } else { channels };
                Self { tiles, tile: (side, side), columns, content: TileContent::Filter }
            }
            _ => matrix,
        })
    }

    /// Side of a number in pixels.
    fn zoom(&self) -> usize {
        (WIDTH / (self.columns * self.tile.0)).clamp(1, 24)
    }
}

/// Draws the weight of the layer at `index`. `None` if it has no parameters.
///
/// If the input of a dense layer is an image, there is a tile for each unit, with each weight at the position
/// of its pixel, summed over channels. A convolution has a row for each filter and a tile for each channel,
/// or a grid if there is one channel. Any other weight has a row for each unit and a column for each input.
pub fn weight_picture(network: &Network<f32>, index: usize) -> Option<Vec<u8>> {
    let (weight, _) = network.layers()[index].parameters()?;
    let picture = Picture::of(network, index)?;
    let area = picture.tile.0 * picture.tile.1;
    let tile = |tile: usize| {
        let values = match picture.content {
            TileContent::Unit(image) => unit(weight, tile, image),
            TileContent::Filter => {
                let channels = weight.nrows() / area;
                let (filter, channel) = (tile / channels, tile % channels);
                weight.column(filter).iter().skip(channel).step_by(channels).copied().collect()
            }
            TileContent::Matrix => matrix(weight),
        };
        Tile { values, width: picture.tile.0, colors: ColorMap::Diverging }
    };
    let tiles: Vec<Tile> = (0..picture.tiles).map(tile).collect();
    Some(sheet(&tiles, picture.columns, picture.zoom()))
}

/// The shape of the image whose pixels are the inputs of a dense layer. `None` if the inputs are not an image.
fn input_image(network: &Network<f32>, index: usize) -> Option<Shape> {
    let shapes = &network.shapes()[..=index];
    let is_same = |shape: &&Shape| shape.places() > 1 && shape.len() == shapes[index].len();
    let before = network.layers()[..index].iter().rev().take_while(|layer| !matches!(layer, Layer::Dense(_)));
    shapes.iter().rev().take(before.count() + 1).find(is_same).copied()
}

fn unit(weight: &Array2<f32>, unit: usize, image: Shape) -> Vec<f32> {
    let column: Vec<f32> = weight.column(unit).to_vec();
    column.chunks(image.channels).map(|channels| channels.iter().sum()).collect()
}

/// The weight with a row for each unit. A single row stays a row.
fn matrix(weight: &Array2<f32>) -> Vec<f32> {
    let weight = weight.slice(s![..weight.nrows().min(MATRIX_MAX), ..weight.ncols().min(MATRIX_MAX)]);
    if weight.nrows() == 1 { weight.iter().copied().collect() } else { weight.t().iter().copied().collect() }
}
