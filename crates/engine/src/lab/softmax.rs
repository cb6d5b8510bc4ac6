use ndarray::{Array2, ArrayViewMut2};
use serde::Serialize;
use serde_json::Value;

use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES, Question};
use super::request::{finite, shaped};
use super::tensor::Tensor;
use crate::fields::{Fault, Fields, Interval, parsed};
use crate::nn::{Loss, LossKind, softmax};

/// Softmax and a loss on a few scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SoftmaxCrossEntropy {
    /// `e^z / Σ e^z`.
    pub probabilities: Tensor,
    /// The mean of `losses`.
    pub loss: f64,
    /// The loss of each row.
    pub losses: Vec<f64>,
    /// `∂loss/∂z`. With cross-entropy it is `(softmax − target) / rows`.
    pub gradient: Tensor,
    /// The target as probabilities, before label smoothing.
    pub target: Tensor,
}

/// A request for softmax and a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftmaxRequest {
    logits: Tensor,
    /// A probability for each score.
    target: Tensor,
    loss: Loss,
}

/// Largest deviation of a sum of probabilities from 1.
const SUM_ERROR_MAX: f64 = 1e-6;

/// Operations per score. Most of them are for about three exponentials.
const FLOPS_PER_SCORE: f64 = 60.0;

/// Largest number of scores in a row of a request.
const ROW_SCORES_MAX: usize = 256;

impl SoftmaxRequest {
    fn take(mut fields: Fields) -> Option<Self> {
        let logits = Tensor::required(&mut fields, "logits", &[1, 2]);
        let kind = fields.one_of("loss", &LossKind::NAMED);
        let smoothing = fields.number("label_smoothing", Interval::from(0.0).below(1.0));
        let loss =
            Loss { kind: kind.unwrap_or(LossKind::CrossEntropy), label_smoothing: smoothing.unwrap_or(0.0) };
        if fields.take("target").is_none() {
            fields.fault("target", "is missing: the class of each row, or its probabilities".to_owned());
        }
        let Some(logits) = logits else {
            fields.refuse_unknown();
            return None;
        };
        let classes = logits.shape[logits.shape.len() - 1];
        if classes > ROW_SCORES_MAX {
            fields.fault("logits", format!("its shape {logits} has more than {ROW_SCORES_MAX} classes"));
        }
        let target = target(&mut fields, &logits, classes);
        let is_spread =
            target.as_ref().is_some_and(|target| target.values.iter().any(|&share| share.fract() != 0.0));
        if is_spread && loss.kind == LossKind::MeanSquaredError {
            fields.fault(
                "target",
                "must be the class of each row: mean_squared_error doesn't support probabilities".to_owned(),
            );
        }
        fields.refuse_unknown();
        Some(Self { logits, target: target?, loss })
    }
}

impl SoftmaxRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// Every fault of the request.
    pub fn parse(request: &Value) -> Result<Self, Vec<Fault>> {
        parsed(request, Self::take)
    }
}

impl Question for SoftmaxRequest {
    type Answer = SoftmaxCrossEntropy;

    fn cost(&self) -> AnswerCost {
        let numbers = self.logits.values.len() as f64;
        let classes = self.logits.shape[self.logits.shape.len() - 1] as f64;
        let shares = self.target.values.iter().filter(|share| **share > 0.0).count() as f64;
        let cost = AnswerCost {
            flops: FLOPS_PER_SCORE * (numbers + shares * classes),
            // Logits, probabilities, gradient, target and a copy of the logits; the losses twice.
            memory_bytes: size_of::<f64>() as f64 * (5.0 * numbers + 2.0 * numbers / classes),
            answer_bytes: 0.0,
        };
        let answered = 3.0 * numbers + numbers / classes;
        cost.then(AnswerCost::of_text(NUMBER_BYTES * answered + FIELDS_BYTES))
    }

    fn answer(self) -> Result<SoftmaxCrossEntropy, Vec<Fault>> {
        let Self { logits, target, loss } = self;
        let classes = logits.shape[logits.shape.len() - 1];
        let rows = logits.values.len() / classes;
        let mut probabilities = logits.values.clone();
        softmax(matrix(&mut probabilities, classes));
        // Cross-entropy is linear in the target. The loss is the sum of the losses of all classes, each weighted by the
        // probability of the class.
        let mut losses = vec![0.0; rows];
        let mut gradient = vec![0.0; logits.values.len()];
        let mut scores = logits.values.clone();
        for (row, shares) in target.values.chunks(classes).enumerate() {
            let z = &mut scores[row * classes..][..classes];
            for (class, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                let mut dz = Array2::zeros((1, classes));
                losses[row] +=
                    share * loss.backward(matrix(z, classes).view(), &[class as u16], rows, dz.view_mut());
                gradient[row * classes..].iter_mut().zip(&dz).for_each(|(sum, dz)| *sum += share * dz);
            }
        }
        let answer = SoftmaxCrossEntropy {
            loss: losses.iter().map(|loss| loss / rows as f64).sum(),
            losses,
            probabilities: Tensor::new(logits.shape.clone(), probabilities),
            gradient: Tensor::new(logits.shape, gradient),
            target,
        };
        finite("loss", &Tensor::new(vec![rows], answer.losses.clone()))?;
        finite("gradient", &answer.gradient)?;
        Ok(answer)
    }
}

fn matrix(values: &mut [f64], columns: usize) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape((values.len() / columns, columns), values).expect("the matrix has whole rows")
}

/// Parses the target: the class of each row, or a probability for each score.
fn target(fields: &mut Fields, logits: &Tensor, classes: usize) -> Option<Tensor> {
    let rows = logits.values.len() / classes;
    let is_batch = logits.shape.len() == 2;
    let numbers = match fields.take("target")? {
        Value::Number(number) if !is_batch => vec![number.as_f64()],
        Value::Array(values) if is_batch && values.iter().all(Value::is_number) => {
            if values.len() != rows {
                fields.fault(
                    "target",
                    format!("has {} classes, but logits of shape {logits} have {rows} rows", values.len()),
                );
                return None;
            }
            values.iter().map(Value::as_f64).collect()
        }
        Value::Array(_) => return distributions(fields, logits, classes),
        _ => {
            fields.fault("target", "must be the class of each row, or its probabilities".to_owned());
            return None;
        }
    };
    let mut target = Tensor::new(logits.shape.clone(), vec![0.0; logits.values.len()]);
    for (row, number) in numbers.into_iter().enumerate() {
        let class = number.filter(|class| class.fract() == 0.0 && (0.0..classes as f64).contains(class));
        match class {
            Some(class) => target.values[row * classes + class as usize] = 1.0,
            None => {
                let place = if is_batch { format!("target/{row}") } else { "target".to_owned() };
                let found = number.map_or_else(String::new, |number| format!(", not {number}"));
                fields.fault(&place, format!("must be a class from 0 to {}{found}", classes - 1));
                return None;
            }
        }
    }
    Some(target)
}

fn distributions(fields: &mut Fields, logits: &Tensor, classes: usize) -> Option<Tensor> {
    let target = Tensor::take(fields, "target", &[logits.shape.len()])?;
    if !shaped(fields, "target", &target, &logits.shape) {
        return None;
    }
    for (row, shares) in target.values.chunks(classes).enumerate() {
        let sum: f64 = shares.iter().sum();
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || (sum - 1.0).abs() > SUM_ERROR_MAX {
            fields.fault(
                "target",
                format!("row {row} must be probabilities from 0 to 1 with a sum of 1, not {sum}"),
            );
            return None;
        }
    }
    Some(target)
}
