use std::time::Instant;

use ndarray::{Array2, ArrayView1, s};

use super::statistics::Timing;
use super::{Caller, OperationError, Service, Wanted};
use crate::admission::{Charge, Lane, Price, Stop};
use crate::nn::argmax;
use crate::registry::{Model, Registry};

/// The predictions of a model for the images of a request.
#[derive(Debug)]
pub struct Predictions {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// One prediction per image, in order.
    pub predictions: Vec<Prediction>,
}

/// The prediction for one image.
#[derive(Debug)]
pub struct Prediction {
    /// Number of the most probable class.
    pub label: usize,
    /// Name of the most probable class.
    pub class: String,
    /// Probability of the most probable class.
    pub confidence: f32,
    /// Probabilities of all classes in order. With `top`, only those of the most probable classes, best
    /// first.
    pub probabilities: Vec<f32>,
    /// With `top`, the classes of `probabilities`.
    pub labels: Option<Vec<usize>>,
}

/// The images of a request, not parsed yet.
pub trait UnreadImages: Send + 'static {
    /// Why the images can't be parsed.
    type Error: From<OperationError> + Send + 'static;

    /// Returns the most images that the request can contain.
    fn images_max(&self) -> usize;

    /// Returns the number of bytes to parse.
    fn bytes(&self) -> usize;

    /// Returns how many bytes parsing up to `images_max` images allocates, not counting the images
    /// themselves.
    fn parsed_bytes(&self, images_max: usize) -> usize;

    /// Returns how many bytes the response needs for each image, beyond a number with its name for each class.
    fn answer_bytes(&self) -> usize {
        0
    }

    /// Parses the images to rows of values from 0 to 1, one value for each input of a network.
    ///
    /// # Errors
    /// Returns an error if the images are invalid, or more than `images_max`.
    fn read(self, images_max: usize) -> Result<Array2<f32>, Self::Error>;
}

/// The most multiplications of a prediction in the lane of predictions. A longer prediction counts as a
/// batch.
const QUICK_MULTIPLICATIONS: f64 = 1e8;

/// The limits of an instant prediction, which takes a few tens of microseconds: multiplications, and bytes of
/// the request.
const INSTANT_MULTIPLICATIONS: f64 = 1e6;
const INSTANT_BYTES: usize = 16 << 10;

/// The largest weights, in bytes, of a model whose predictions use the lane of predictions. The weights of a
/// larger model are read from memory instead of a cache, which slows down other predictions.
const QUICK_MODEL_BYTES: usize = 16 << 20;

/// The longest request, in bytes, that is parsed in the lane of predictions. A longer request takes too long
/// to parse, whatever it contains.
pub const QUICK_BYTES: usize = 64 << 10;

/// Bytes of JSON in the response for each image, and for each of its classes.
const ANSWER_BYTES: usize = 256;
const CLASS_BYTES: usize = 32;

/// A batch checks after this many multiplications or images, whichever comes first, whether another client
/// waits or its own client is gone.
const TURN_MULTIPLICATIONS: f64 = 5e9;
const TURN_ROWS_MAX: usize = 1_024;

/// Checks how many of the most probable classes of `model` are to be returned. Callers can do so before they prepare the
/// images.
///
/// # Errors
/// Returns an error for 0, and for more classes than the model has.
pub fn check_top(model: &Model, top: Option<usize>) -> Result<(), OperationError> {
    let classes = model.classes.len();
    match top {
        Some(top) if !(1..=classes).contains(&top) => Err(OperationError::TopOutOfRange { classes }),
        _ => Ok(()),
    }
}

impl Service {
    /// Predicts the classes of images, or the best `top` classes of each. `answer` converts the predictions
    /// to the response, on the same thread.
    ///
    /// # Errors
    /// Returns an error if `top` is out of range, if the images can't be parsed, if they exceed a limit, or if there is
    /// no room for them.
    pub async fn predict<I: UnreadImages, T: Send + 'static>(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        images: I,
        top: Option<usize>,
        answer: impl Fn(Predictions) -> T + Send + 'static,
    ) -> Result<(T, Charge), I::Error> {
        let begun = Instant::now();
        let answered = self.predict_from(begun, caller, wanted, images, top, answer).await;
        if answered.is_err() {
            let (name, version) = wanted.version();
            self.statistics.failed(name, version, begun.elapsed());
        }
        answered
    }

    /// Predicts for a request that has arrived at `begun`.
    async fn predict_from<I: UnreadImages, T: Send + 'static>(
        &self,
        begun: Instant,
        caller: &Caller,
        wanted: &Wanted,
        images: I,
        top: Option<usize>,
        answer: impl Fn(Predictions) -> T + Send + 'static,
    ) -> Result<(T, Charge), I::Error> {
        let price = {
            let model = self.held(wanted).await?;
            check_top(&model, top)?;
            self.price_of_predictions(&images, &model)?
        };
        let mut batch = Batch::new(images, self.limits.images_max, top);
        let service = self.clone();
        let mut queue = None;
        let work = move |model: &Model, stop: &Stop| {
            let queue = *queue.get_or_insert_with(|| begun.elapsed());
            let Some(predictions) = batch.go_on(&service.registry, model, price.lane, stop)? else {
                return Ok(None);
            };
            service.metrics.predictions(&model.name, predictions.len());
            let predicted = Instant::now();
            let answer =
                answer(Predictions { model: model.name.clone(), version: model.version, predictions });
            let timing = Timing { queue, output: predicted.elapsed(), ..std::mem::take(&mut batch.timing) };
            service.statistics.succeeded(&model.name, model.version, &timing, begun.elapsed());
            Ok(Some(answer))
        };
        self.work_in_turns(caller, price, wanted, work).await
    }

    /// Computes the price of predicting these images.
    ///
    /// # Errors
    /// Returns an error if it exceeds the limit of operations.
    fn price_of_predictions<I: UnreadImages>(
        &self,
        images: &I,
        model: &Model,
    ) -> Result<Price, OperationError> {
        let count = images.images_max().min(self.limits.images_max);
        let (predictor, classes) = (&model.predictor, model.classes.len());
        let of_image = predictor.network().input().len() * size_of::<f32>()
            + ANSWER_BYTES
            + images.answer_bytes()
            + classes * (CLASS_BYTES + size_of::<f32>());
        let multiplications = predictor.multiplications() * count as f64;
        let (flops, flops_max) = (2.0 * multiplications, self.limits.predict_flops_max);
        if flops > flops_max {
            return Err(OperationError::PredictionTooLarge { images: count, flops, flops_max });
        }
        let is_quick = multiplications <= QUICK_MULTIPLICATIONS
            && predictor.memory_bytes() <= QUICK_MODEL_BYTES
            && images.bytes() <= QUICK_BYTES;
        let lane = if is_quick { Lane::Predict } else { Lane::Batch };
        let parsed = images.parsed_bytes(self.limits.images_max);
        let working = predictor.working_bytes(count, self.registry.threads());
        let is_instant =
            is_quick && multiplications <= INSTANT_MULTIPLICATIONS && images.bytes() <= INSTANT_BYTES;
        Ok(Price::new(lane, parsed + count * of_image + working).instant(is_instant))
    }
}

/// Images on their way through a model.
struct Batch<I> {
    /// The images, until they are parsed.
    unread: Option<I>,
    images_max: usize,
    top: Option<usize>,
    x: Array2<f32>,
    predictions: Vec<Prediction>,
    timing: Timing,
}

impl<I: UnreadImages> Batch<I> {
    fn new(images: I, images_max: usize, top: Option<usize>) -> Self {
        let x = Array2::zeros((0, 0));
        let timing = Timing::default();
        Self { unread: Some(images), images_max, top, x, predictions: Vec::new(), timing }
    }

    /// Predicts until all images are done. Returns `None` if it must make way for another client.
    fn go_on(
        &mut self,
        registry: &Registry,
        model: &Model,
        lane: Lane,
        stop: &Stop,
    ) -> Result<Option<Vec<Prediction>>, I::Error> {
        if let Some(images) = self.unread.take() {
            let begun = Instant::now();
            self.x = images.read(self.images_max)?;
            self.predictions.reserve_exact(self.x.nrows());
            self.timing.input = begun.elapsed();
        }
        let rows_at_a_time = rows_of_a_turn(model);
        while self.predictions.len() < self.x.nrows() {
            if stop.is_set() {
                return Err(OperationError::ClientGone.into());
            }
            let begin = self.predictions.len();
            let end = self.x.nrows().min(begin + rows_at_a_time);
            let x = self.x.slice(s![begin..end, ..]);
            let begun = Instant::now();
            let probabilities = match lane {
                Lane::Batch => registry.probabilities(model, x),
                _ => model.predictor.probabilities(x),
            };
            self.timing.batches.push((end - begin, begun.elapsed()));
            let top = self.top;
            self.predictions.extend(probabilities.rows().into_iter().map(|row| prediction(model, row, top)));
            if end < self.x.nrows() && stop.is_place_wanted() {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.predictions)))
    }
}

/// Returns how many images a batch reads before it checks whether another client waits.
pub(super) fn rows_of_a_turn(model: &Model) -> usize {
    let rows = (TURN_MULTIPLICATIONS / model.predictor.multiplications()) as usize;
    rows.clamp(1, TURN_ROWS_MAX)
}

fn prediction(model: &Model, row: ArrayView1<f32>, top: Option<usize>) -> Prediction {
    let label = argmax(row.iter());
    let mut labels: Vec<usize> = (0..row.len()).collect();
    if let Some(top) = top {
        labels.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        labels.truncate(top);
    }
    Prediction {
        label,
        class: model.classes[label].clone(),
        confidence: row[label],
        probabilities: labels.iter().map(|&label| row[label]).collect(),
        labels: top.map(|_| labels),
    }
}
