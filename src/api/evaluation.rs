//! Evaluations of models on labelled examples, and comparisons of two models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::dataset::Split;
use crate::evaluation;
use crate::service;

/// The examples to evaluate a model on, and what to return.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRequest {
    /// The data set.
    #[schema(default = json!("mnist"))]
    pub dataset: Option<String>,
    /// The split of the data set.
    #[schema(default = json!("test"))]
    pub split: Option<Split>,
    /// Whether to return what the model reads in every example. A picture never shows it.
    #[schema(default = json!(false))]
    pub predictions: Option<bool>,
    /// The most examples in each list.
    #[schema(minimum = 0, maximum = 200, default = json!(20))]
    pub worst: Option<usize>,
}

/// How well a model reads labelled examples.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Evaluation {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
    /// The data set.
    pub dataset: String,
    /// SHA-256 of the content of the data set, in hexadecimal; as in `GET /v1/datasets/{name}`.
    pub dataset_sha256: String,
    /// The split of the data set.
    pub split: Split,
    /// Number of examples.
    pub examples: usize,
    /// Number of examples that are read rightly.
    pub correct: usize,
    /// `correct / examples`.
    #[schema(minimum = 0, maximum = 1)]
    pub accuracy: f64,
    /// The 95 % interval of the accuracy (Wilson, 1927).
    pub accuracy_interval: AccuracyInterval,
    /// Mean cross-entropy in nats, whatever loss the model was trained with.
    #[schema(minimum = 0)]
    pub loss: f64,
    /// Number of examples of each class (row) that are read as each class (column).
    pub confusion: Vec<Vec<u32>>,
    /// The figures of each class, label 0 first.
    pub per_class: Vec<ClassFigures>,
    /// Whether confidence is the probability of being right.
    pub calibration: Calibration,
    /// The examples with the highest loss, highest first.
    pub worst: Vec<Reading>,
    /// The examples that are read wrongly with high confidence.
    pub confidently_wrong: ConfidentlyWrong,
    /// What the model reads in every example; absent unless `predictions` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub predictions: Option<AllReadings>,
}

/// An interval that contains the true accuracy in 95 of 100 cases.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccuracyInterval {
    /// Its lower end.
    #[schema(minimum = 0, maximum = 1)]
    pub low: f64,
    /// Its upper end.
    #[schema(minimum = 0, maximum = 1)]
    pub high: f64,
}

/// The figures of one class.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassFigures {
    /// Number of the class, from 0.
    pub label: usize,
    /// Name of the class.
    pub class: String,
    /// Fraction of the examples read as this class that have it; null if there are none.
    #[schema(minimum = 0, maximum = 1)]
    pub precision: Option<f64>,
    /// Fraction of the examples of this class that are read as it; null if there are none.
    #[schema(minimum = 0, maximum = 1)]
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; null if there are no examples of either kind.
    #[schema(minimum = 0, maximum = 1)]
    pub f1: Option<f64>,
    /// Number of examples of this class.
    pub support: usize,
}

/// Whether confidence is the probability of being right.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Calibration {
    /// Mean over the examples of `|accuracy − mean_confidence|` of their bins (Guo et al., 2017).
    #[schema(minimum = 0, maximum = 1)]
    pub expected_calibration_error: f64,
    /// 15 intervals of confidence, of equal width, from low to high.
    pub bins: Vec<CalibrationBin>,
}

/// The examples whose confidence is in one interval.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct CalibrationBin {
    /// Lower end of the interval, excluded.
    #[schema(minimum = 0, maximum = 1)]
    pub from: f64,
    /// Upper end of the interval, included.
    #[schema(minimum = 0, maximum = 1)]
    pub to: f64,
    /// Number of examples.
    pub count: usize,
    /// Mean confidence of the examples; null if there are none.
    #[schema(minimum = 0, maximum = 1)]
    pub mean_confidence: Option<f64>,
    /// Fraction of the examples that are read rightly; null if there are none.
    #[schema(minimum = 0, maximum = 1)]
    pub accuracy: Option<f64>,
}

/// What a model reads in one example.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reading {
    /// Index in the split, from 0.
    pub index: usize,
    /// Number of the class of the example.
    pub label: u16,
    /// Number of the most probable class.
    pub predicted: u16,
    /// Probability of that class.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: f32,
    /// The loss, `−ln p` of the class of the example.
    #[schema(minimum = 0)]
    pub loss: f64,
}

/// The examples that are read wrongly with high confidence.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConfidentlyWrong {
    /// The least confidence that counts as high.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence_min: f32,
    /// Number of all such examples.
    pub count: usize,
    /// The most confident ones, most confident first.
    pub examples: Vec<Reading>,
}

/// What a model reads in every example, in the order of the split.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AllReadings {
    /// Number of the class of each example.
    pub label: Vec<u16>,
    /// Number of the most probable class.
    pub predicted: Vec<u16>,
    /// Probability of that class.
    pub confidence: Vec<f32>,
}

/// Two models on the same examples, with a page of the examples in one cell of the table.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The first model.
    pub a: ComparedModel,
    /// The second model.
    pub b: ComparedModel,
    /// The data set.
    pub dataset: String,
    /// The split of the data set.
    pub split: Split,
    /// Number of examples.
    pub examples: usize,
    /// Number of examples that both read rightly.
    pub both_right: usize,
    /// Number of examples that only the first one reads rightly.
    pub only_a: usize,
    /// Number of examples that only the second one reads rightly.
    pub only_b: usize,
    /// Number of examples that both read wrongly.
    pub both_wrong: usize,
    /// The test of whether both err equally often.
    pub mcnemar: McNemar,
    /// The examples in the cell, in the order of the split.
    pub differences: Vec<Difference>,
    /// The `cursor` of the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A model of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComparedModel {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
    /// Fraction of the examples that it reads rightly.
    #[schema(minimum = 0, maximum = 1)]
    pub accuracy: f64,
}

/// McNemar's test (1947) on the examples that only one of two models reads rightly.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct McNemar {
    /// χ² with one degree of freedom and continuity correction; null if fewer than 25 examples differ.
    #[schema(minimum = 0)]
    pub statistic: Option<f64>,
    /// Probability of a difference at least as large if both erred equally often. It is exact (binomial) if fewer than
    /// 25 examples differ.
    #[schema(minimum = 0, maximum = 1)]
    pub p_value: f64,
}

/// An example of a comparison, and what both models read in it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Index in the split, from 0.
    pub index: usize,
    /// Number of the class of the example.
    pub label: u16,
    /// What the first model reads.
    pub a: ComparedReading,
    /// What the second model reads.
    pub b: ComparedReading,
}

/// What a model of a comparison reads in an example.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComparedReading {
    /// Number of the most probable class.
    pub predicted: u16,
    /// Probability of that class.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: f32,
}

impl Evaluation {
    /// Converts an evaluation. With `all`, the reading of every example is part of it.
    pub fn new(evaluated: service::Evaluated, all: bool) -> Self {
        let service::Evaluated { model, version, examples, readings, report } = evaluated;
        let service::Examples { dataset, split } = examples;
        let evaluation::Report {
            examples,
            correct,
            accuracy,
            accuracy_interval: [low, high],
            loss,
            confusion,
            classes,
            calibration,
            worst,
            confidently_wrong,
            most_confidently_wrong,
        } = report;
        let evaluation::Readings { labels, predicted, confidence, losses: _ } = readings;
        let named = classes.into_iter().zip(&dataset.classes).enumerate();
        Self {
            model,
            version,
            dataset: dataset.name.clone(),
            dataset_sha256: dataset.sha256().to_owned(),
            split: split.into(),
            examples,
            correct,
            accuracy,
            accuracy_interval: AccuracyInterval { low, high },
            loss,
            confusion,
            per_class: named
                .map(|(label, (figures, class))| ClassFigures::new(label, class, figures))
                .collect(),
            calibration: calibration.into(),
            worst: worst.into_iter().map(Into::into).collect(),
            confidently_wrong: ConfidentlyWrong {
                confidence_min: evaluation::CONFIDENCE_MIN,
                count: confidently_wrong,
                examples: most_confidently_wrong.into_iter().map(Into::into).collect(),
            },
            predictions: all.then_some(AllReadings { label: labels, predicted, confidence }),
        }
    }
}

impl ClassFigures {
    fn new(label: usize, class: &str, figures: evaluation::ClassFigures) -> Self {
        let evaluation::ClassFigures { precision, recall, f1, support } = figures;
        Self { label, class: class.to_owned(), precision, recall, f1, support }
    }
}

impl From<evaluation::Calibration> for Calibration {
    fn from(evaluation::Calibration { expected_error, bins }: evaluation::Calibration) -> Self {
        Self { expected_calibration_error: expected_error, bins: bins.into_iter().map(Into::into).collect() }
    }
}

impl From<evaluation::Bin> for CalibrationBin {
    fn from(evaluation::Bin { above, to, examples, confidence, accuracy }: evaluation::Bin) -> Self {
        Self { from: above, to, count: examples, mean_confidence: confidence, accuracy }
    }
}

impl From<evaluation::Reading> for Reading {
    fn from(reading: evaluation::Reading) -> Self {
        let evaluation::Reading { index, label, predicted, confidence, loss } = reading;
        Self { index, label, predicted, confidence, loss }
    }
}

impl From<service::Compared> for Comparison {
    fn from(compared: service::Compared) -> Self {
        let service::Compared { models: [a, b], examples, comparison, listed, next } = compared;
        let service::Examples { dataset, split } = examples;
        let evaluation::Comparison { examples, accuracies, counts, mcnemar } = comparison;
        let [both_right, only_a, only_b, both_wrong] = counts;
        let evaluation::McNemar { statistic, p_value } = mcnemar;
        let model = |(model, version), accuracy| ComparedModel { model, version, accuracy };
        Self {
            a: model(a, accuracies[0]),
            b: model(b, accuracies[1]),
            dataset: dataset.name.clone(),
            split: split.into(),
            examples,
            both_right,
            only_a,
            only_b,
            both_wrong,
            mcnemar: McNemar { statistic, p_value },
            differences: listed.into_iter().map(Into::into).collect(),
            next_cursor: next.map(|index| index.to_string()),
        }
    }
}

impl From<[evaluation::Reading; 2]> for Difference {
    fn from([a, b]: [evaluation::Reading; 2]) -> Self {
        let read =
            |evaluation::Reading { predicted, confidence, .. }| ComparedReading { predicted, confidence };
        Self { index: a.index, label: a.label, a: read(a), b: read(b) }
    }
}
