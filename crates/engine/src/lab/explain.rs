use ndarray::{Array1, Array2};
use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES, Passes, asked};
use crate::data::IMAGE_SIDE;
use crate::data::picture::{Shade, Tile, sheet};
use crate::nn::{LayerSpec, Network, Shape, Stopped, Tape, argmax, relative_error};

/// Which pixels speak for the class that an image is taken for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The class whose score is explained.
    pub label: usize,
    /// Its score before the softmax.
    pub score: f64,
    /// `∂score/∂pixel`, a pixel being 0 to 1: 28 rows of 28 (Simonyan, Vedaldi, Zisserman, *Deep Inside
    /// Convolutional Networks*, 2013).
    pub saliency: Vec<Vec<f32>>,
    /// `pixel · ∂score/∂pixel`.
    pub input_times_gradient: Vec<Vec<f32>>,
    /// `pixel · mean of ∂score/∂pixel` on the straight way from a black image to this one (Sundararajan, Taly, Yan,
    /// *Axiomatic Attribution for Deep Networks*, 2017).
    pub integrated_gradients: Vec<Vec<f32>>,
    /// How well the sum of `integrated_gradients` is what it must be.
    pub completeness: Completeness,
}

/// Integrated gradients add up to what the image changes in the score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Completeness {
    /// `Σ integrated_gradients`.
    pub sum: f64,
    /// The score, less that of a black image.
    pub difference: f64,
    /// See [`relative_error`].
    pub relative_error: f64,
}

/// Places on the way from black where the gradient is taken, each in the middle of its part.
pub const INTEGRATION_STEPS: usize = 64;

/// Places that go through the network together.
const ROWS: usize = 16;

/// Why `network` takes an image of pixel / 255 for `class`, or for what it takes it.
pub fn explain(network: &Network<f32>, image: &[f32], class: Option<usize>) -> Explanation {
    let all = explain_all(network, &[image], class, &|| true).expect("nobody stops it");
    all.into_iter().next().expect("as many as images")
}

/// [`explain`] for each of `images`, as long as `go_on`, asked before each pass, says yes.
///
/// # Errors
/// If it says no.
pub fn explain_all(
    network: &Network<f32>,
    images: &[&[f32]],
    class: Option<usize>,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<Explanation>, Stopped> {
    let mut tape = Tape::new(network, 0);
    images.iter().map(|image| explained(network, &mut tape, image, class, go_on)).collect()
}

/// What the explanations of so many images take, as JSON or as a picture.
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
    asked(go_on)?;
    tape.pass_image(network, image);
    let label = class.unwrap_or_else(|| argmax(tape.scores().iter()));
    let onehot =
        |rows| Array2::from_shape_fn((rows, network.outputs()), |(_, at)| f32::from(u8::from(at == label)));
    let score = f64::from(tape.scores()[[0, label]]);
    tape.backward_errors(network, onehot(1));
    let saliency: Vec<f32> = tape.errors[0].iter().copied().collect();

    let mut mean = Array1::zeros(image.len());
    for first in (0..INTEGRATION_STEPS).step_by(ROWS) {
        asked(go_on)?;
        let way = Array2::from_shape_fn((ROWS, image.len()), |(step, pixel)| {
            image[pixel] * (((first + step) as f32 + 0.5) / INTEGRATION_STEPS as f32)
        });
        tape.pass(network, way);
        tape.backward_errors(network, onehot(ROWS));
        tape.errors[0].rows().into_iter().for_each(|gradient| mean += &gradient);
    }
    mean /= INTEGRATION_STEPS as f32;
    let times =
        |gradients: &[f32]| image.iter().zip(gradients).map(|(pixel, gradient)| pixel * gradient).collect();
    let integrated: Vec<f32> = times(mean.as_slice().unwrap_or_default());

    asked(go_on)?;
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

/// Side of a pixel in [`pictures`].
const ZOOM: usize = 6;

/// A row of tiles for each image: the image, saliency, input times gradient, integrated gradients.
pub fn pictures(images: &[&[f32]], explanations: &[Explanation]) -> Vec<u8> {
    let tile = |values: Vec<f32>, shade| Tile { values, width: IMAGE_SIDE, shade };
    let tiles: Vec<Tile> = images
        .iter()
        .zip(explanations)
        .flat_map(|(image, found)| {
            let signed = [&found.saliency, &found.input_times_gradient, &found.integrated_gradients]
                .map(|rows| tile(rows.concat(), Shade::Signed));
            [tile(image.to_vec(), Shade::Grey)].into_iter().chain(signed)
        })
        .collect();
    sheet(&tiles, 4, ZOOM)
}
