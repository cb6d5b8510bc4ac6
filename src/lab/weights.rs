use ndarray::{Array2, s};
use serde::Serialize;

use super::statistics::{Histogram, Statistics};
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
    pub weight: Statistics,
    /// Where the numbers of the weight lie.
    pub histogram: Histogram,
    /// The figures of the bias.
    pub bias: Statistics,
}

/// The parameters of the layer at `index`, or `None` where it has none.
pub fn layer_weights<T: Float>(network: &Network<T>, index: usize) -> Option<LayerWeights> {
    let layer = &network.layers()[index];
    let (weight, bias) = layer.parameters()?;
    let statistics = Statistics::of(weight.iter());
    Some(LayerWeights {
        layer: network.layer_name(index),
        shape: layer.weight_shape(),
        parameters: weight.len() + bias.len(),
        histogram: Histogram::of(weight.iter(), &statistics),
        weight: statistics,
        bias: Statistics::of(bias.iter()),
    })
}

/// Tiles in a picture at most: of more units or filters the first.
const TILES_MAX: usize = 256;

/// Inputs and units of a matrix in a picture at most: of more the first.
const MATRIX_MAX: usize = 1_024;

/// About how wide a picture is in pixels.
const WIDTH: usize = 900;

/// The weight of the layer at `index` as a picture, or `None` where it has none.
///
/// A dense layer behind an image: a tile for each unit, its weights where its inputs lie (of several channels
/// their sum). A convolution: a row for each filter, a tile for each channel, or a grid where there is one
/// channel. Any other: a row for each unit, a column for each input.
pub fn weight_picture(network: &Network<f32>, index: usize) -> Option<Vec<u8>> {
    let layer = &network.layers()[index];
    let (weight, _) = layer.parameters()?;
    let (tiles, columns) = match layer {
        Layer::Dense(_) => match image_behind(network, index) {
            Some(image) => {
                let tiles: Vec<Tile> =
                    (0..weight.ncols().min(TILES_MAX)).map(|unit| unit_tile(weight, unit, image)).collect();
                let columns = (tiles.len() as f64).sqrt().ceil() as usize;
                (tiles, columns)
            }
            None => (vec![matrix_tile(weight)], 1),
        },
        Layer::Conv2d(conv) => {
            let (channels, kernel) = (conv.input().channels, conv.kernel());
            let tiles: Vec<Tile> = (0..conv.filters())
                .flat_map(|filter| (0..channels).map(move |channel| (filter, channel)))
                .take(TILES_MAX.max(channels))
                .map(|(filter, channel)| {
                    let values =
                        weight.column(filter).iter().skip(channel).step_by(channels).copied().collect();
                    Tile { values, width: kernel, shade: Shade::Signed }
                })
                .collect();
            let columns = if channels == 1 { (tiles.len() as f64).sqrt().ceil() as usize } else { channels };
            (tiles, columns)
        }
        _ => (vec![matrix_tile(weight)], 1),
    };
    let zoom = (WIDTH / (columns * tiles[0].width)).clamp(1, 24);
    Some(sheet(&tiles, columns, zoom))
}

/// The shape of the image that a dense layer's inputs are the list of.
fn image_behind(network: &Network<f32>, index: usize) -> Option<Shape> {
    let shapes = &network.shapes()[..=index];
    let is_same = |shape: &&Shape| shape.places() > 1 && shape.len() == shapes[index].len();
    let before = network.layers()[..index].iter().rev().take_while(|layer| !matches!(layer, Layer::Dense(_)));
    shapes.iter().rev().take(before.count() + 1).find(is_same).copied()
}

fn unit_tile(weight: &Array2<f32>, unit: usize, image: Shape) -> Tile {
    let column: Vec<f32> = weight.column(unit).to_vec();
    let values = column.chunks(image.channels).map(|channels| channels.iter().sum()).collect();
    Tile { values, width: image.width, shade: Shade::Signed }
}

/// A row for each column of the weight; what is one row stays one.
fn matrix_tile(weight: &Array2<f32>) -> Tile {
    let weight = weight.slice(s![..weight.nrows().min(MATRIX_MAX), ..weight.ncols().min(MATRIX_MAX)]);
    if weight.nrows() == 1 {
        return Tile {
            values: weight.iter().copied().collect(),
            width: weight.ncols(),
            shade: Shade::Signed,
        };
    }
    Tile { values: weight.t().iter().copied().collect(), width: weight.nrows(), shade: Shade::Signed }
}
