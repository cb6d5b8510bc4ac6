use ndarray::{Array1, Array2};
use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES, Passes, check_stopped};
use crate::data::IMAGE_SIDE;
use crate::data::picture::{ColorMap, Tile, sheet};
use crate::nn::{LayerSpec, Network, Shape, Stopped, Tape, argmax, relative_error};

/// The contribution of each pixel to the score of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The class whose score is explained.
    pub label: usize,
    /// Its score before the softmax.
    pub score: f64,
    /// `∂score/∂pixel` with pixels from 0 to 1, as 28 rows of 28 (Simonyan, Vedaldi, Zisserman, *Deep Inside
    /// Convolutional Networks*, 2013).
    pub saliency: Vec<Vec<f32>>,
    /// `pixel · ∂score/∂pixel`, as 28 rows of 28.
    pub input_times_gradient: Vec<Vec<f32>>,
    /// `pixel · mean of ∂score/∂pixel` along the straight line from a black image to this one, as 28 rows of
    /// 28 (Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*, 2017).
    pub integrated_gradients: Vec<Vec<f32>>,
    /// Compares the sum of `integrated_gradients` with its exact value.
    pub completeness: Completeness,
}

/// The completeness axiom: integrated gradients sum to the difference in score between the image and a black
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Completeness {
    /// `Σ integrated_gradients`.
    pub sum: f64,
    /// The score of the image minus the score of a black image.
    pub difference: f64,
    /// See [`relative_error`].
    pub relative_error: f64,
}

/// Number of points on the line from the black image at which the gradient is computed. Each is the midpoint of its
/// segment.
pub const INTEGRATION_STEPS: usize = 64;

/// Number of points that pass through the network together.
const ROWS: usize = 16;

/// Explains the score of `class` for each of `images`, which have values from 0 to 1. Without a class, explains the
/// predicted one. `go_on` is called before each pass, and the work stops if it returns false.
///
/// # Errors
/// If `go_on` returns false.
pub fn explain(
    network: &Network<f32>,
    images: &[&[f32]],
    class: Option<usize>,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<Explanation>, Stopped> {
    let mut tape = Tape::new(network, 0);
    images.iter().map(|image| explained(network, &mut tape, image, class, go_on)).collect()
}

/// The cost of explaining this number of images, as JSON or as a picture.
pub fn explain_cost(input: Shape, layers: &[LayerSpec], images: usize, is_picture: bool) -> AnswerCost {
    let passes = Passes::of(input, layers);
    let flops = images as f64 * (INTEGRATION_STEPS + 2) as f64 * (passes.forward() + passes.errors(0));
    let held = size_of::<f32>() as f64 * passes.tape(ROWS, 0);
    let numbers = (images * 3 * input.len()) as f64;
    let found = size_of::<f32>() as f64 * numbers;
    let answer = match is_picture {
        true => AnswerCost::of_sheet(4 * images, (IMAGE_SIDE, IMAGE_SIDE), 4, ZOOM),
        false => AnswerCost::of_text(numbers * NUMBER_BYTES + images as f64 * FIELDS_BYTES),
    };
    AnswerCost { flops, memory_bytes: held + found, answer_bytes: 0.0 }.then(answer)
}

fn explained(
    network: &Network<f32>,
    tape: &mut Tape<f32>,
    image: &[f32],
    class: Option<usize>,
    go_on: &dyn Fn() -> bool,
) -> Result<Explanation, Stopped> {
    check_stopped(go_on)?;
    tape.pass_image(network, image);
    let label = class.unwrap_or_else(|| argmax(tape.scores().iter()));
    let onehot =
        |rows| Array2::from_shape_fn((rows, network.outputs()), |(_, at)| f32::from(u8::from(at == label)));
    let score = f64::from(tape.scores()[[0, label]]);
    tape.backward_errors(network, onehot(1));
    let saliency: Vec<f32> = tape.errors[0].iter().copied().collect();

    let mut mean = Array1::zeros(image.len());
    for first in (0..INTEGRATION_STEPS).step_by(ROWS) {
        check_stopped(go_on)?;
        let inputs = Array2::from_shape_fn((ROWS, image.len()), |(step, pixel)| {
            image[pixel] * (((first + step) as f32 + 0.5) / INTEGRATION_STEPS as f32)
        });
        tape.pass(network, inputs);
        tape.backward_errors(network, onehot(ROWS));
        tape.errors[0].rows().into_iter().for_each(|gradient| mean += &gradient);
    }
    mean /= INTEGRATION_STEPS as f32;
    let times =
        |gradients: &[f32]| image.iter().zip(gradients).map(|(pixel, gradient)| pixel * gradient).collect();
    let integrated: Vec<f32> = times(mean.as_slice().unwrap_or_default());

    check_stopped(go_on)?;
    tape.pass_image(network, &vec![0.0; image.len()]);
    let sum: f64 = integrated.iter().copied().map(f64::from).sum();
    let difference = score - f64::from(tape.scores()[[0, label]]);
    Ok(Explanation {
        label,
        score,
        input_times_gradient: rows(&times(&saliency)),
        saliency: rows(&saliency),
        integrated_gradients: rows(&integrated),
        completeness: Completeness { sum, difference, relative_error: relative_error(sum, difference) },
    })
}

const _: () = assert!(INTEGRATION_STEPS.is_multiple_of(ROWS));

fn rows(values: &[f32]) -> Vec<Vec<f32>> {
    values.chunks(IMAGE_SIDE).map(<[f32]>::to_vec).collect()
}

/// Side of a pixel in [`pictures`], in px.
const ZOOM: usize = 6;

/// One row of tiles per image: the image, saliency, input times gradient, integrated gradients.
pub fn pictures(images: &[&[f32]], explanations: &[Explanation]) -> Vec<u8> {
    let tile = |values: Vec<f32>, colors| Tile { values, width: IMAGE_SIDE, colors };
    let tiles: Vec<Tile> = images
        .iter()
        .zip(explanations)
        .flat_map(|(image, found)| {
            let signed = [&found.saliency, &found.input_times_gradient, &found.integrated_gradients]
                .map(|rows| tile(rows.concat(), ColorMap::Diverging));
            [tile(image.to_vec(), ColorMap::Greyscale)].into_iter().chain(signed)
        })
        .collect();
    sheet(&tiles, 4, ZOOM)
}
