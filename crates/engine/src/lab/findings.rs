use serde::{Deserialize, Serialize};

use crate::nn::{LayerSpec, LossKind};
use crate::train::{EpochMetrics, TrainSpec};

/// A conspicuous metric of a job, and what a textbook says about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable identifier.
    pub code: String,
    /// What was observed and what to try.
    pub detail: String,
    /// The layer concerned, such as `0.dense`.
    pub layer: Option<String>,
    /// The epoch of the metric.
    pub epoch: Option<u32>,
    /// The metric. `None` if it is infinite or NaN.
    pub value: Option<f64>,
    /// The threshold that it is compared with.
    pub threshold: f64,
    /// The text that explains why the metric matters.
    pub source: String,
}

/// Gradients vanish if the ratio of gradient norm to weight norm in the first layer is below this fraction of the ratio
/// in the last layer.
const VANISHED: f64 = 0.01;

/// A layer is reported if at least this fraction of its units is 0 for a whole batch.
const DEAD: f64 = 0.5;

/// Smaller batches are not examined for dead units.
const BATCH_MIN: usize = 100;

/// The training loss has risen if it exceeds this multiple of its lowest value so far. The loss of guessing
/// counts as its first value.
const RISEN: f64 = 1.5;

/// A rise below this fraction of the loss of guessing is noise.
const RISE_MIN: f64 = 0.1;

/// A network hasn't learned if its training loss is above this fraction of the loss of guessing.
const GUESSED: f64 = 0.98;

/// A network overfits if its training accuracy exceeds its validation accuracy by this much.
const OVERFITTED: f64 = 0.05;

/// With fewer validation examples, overfitting is not examined.
const VALIDATION_MIN: usize = 100;

/// The findings for the `epochs` of a job. `has_diverged` says whether its loss became infinite or NaN. Empty for a job
/// that goes well.
pub fn findings(
    spec: &TrainSpec,
    validation_examples: usize,
    epochs: &[&EpochMetrics],
    has_diverged: bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(rate_too_high(spec, epochs, has_diverged));
    if let Some(last) = epochs.last() {
        let dead = if spec.batch_size >= BATCH_MIN { dead(last) } else { Vec::new() };
        // Dead units have no gradient at all, so it is not called vanishing.
        if dead.is_empty() {
            found.extend(vanishing(spec, last));
        }
        found.extend(dead);
        if found.is_empty() {
            found.extend(guessing_still(spec, last));
        }
        if validation_examples >= VALIDATION_MIN {
            found.extend(overfitting(last));
        }
    }
    found
}

fn guessing_still(spec: &TrainSpec, epoch: &EpochMetrics) -> Option<Finding> {
    let value = epoch.train_loss / guessing(spec);
    (value >= GUESSED).then(|| Finding {
        code: "not_learning".to_owned(),
        detail: format!(
            "after {} epochs the training loss {:.3} is no better than guessing. Try another learning rate, normal or xavier \
             initialisation for sigmoid and tanh, relu, or batch_norm",
            epoch.epoch, epoch.train_loss
        ),
        layer: None,
        epoch: Some(epoch.epoch),
        value: Some(value),
        threshold: GUESSED,
        source: "Goodfellow, Bengio, Courville, Deep Learning, 2016, section 11.5".to_owned(),
    })
}

fn vanishing(spec: &TrainSpec, epoch: &EpochMetrics) -> Option<Finding> {
    let squashes = |layer: &LayerSpec| matches!(layer, LayerSpec::Sigmoid | LayerSpec::Tanh);
    let squashing = spec.network.layers.iter().filter(|layer| squashes(layer)).count();
    let relative = |layer: &crate::train::LayerMetrics| {
        Some((layer.layer.clone(), layer.gradient_norm? / layer.weight_norm.filter(|norm| *norm > 0.0)?))
    };
    let mut layers = epoch.layers.iter().filter_map(relative);
    let (layer, first) = layers.next()?;
    let (_, last) = layers.next_back()?;
    let value = first / last;
    (last > 0.0 && value < VANISHED).then(|| Finding {
        code: "vanishing_gradient".to_owned(),
        detail: format!(
            "next to nothing of the error reaches {layer}: its gradient, beside its weights, is {value:.1e} of the last \
             layer's, and it hardly learns. {} Try relu with He initialisation, batch_norm, or fewer layers",
            match squashing {
                0 => "Each layer makes the gradient smaller.".to_owned(),
                count => format!("Each of {count} sigmoid or tanh layers multiplies it by a derivative below 1."),
            },
        ),
        layer: Some(layer),
        epoch: Some(epoch.epoch),
        value: Some(value),
        threshold: VANISHED,
        source: "Glorot, Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010".to_owned(),
    })
}

fn dead(epoch: &EpochMetrics) -> Vec<Finding> {
    let finding = |layer: &crate::train::LayerMetrics| {
        let value = layer.dead_fraction.filter(|&fraction| fraction >= DEAD)?;
        Some(Finding {
            code: "dead_relus".to_owned(),
            detail: format!(
                "{:.0} % of the units of {} were 0 for all images of a batch, so no gradient flowed back through them. Try a \
                 lower learning rate, leaky_relu, or He initialisation",
                100.0 * value,
                layer.layer
            ),
            layer: Some(layer.layer.clone()),
            epoch: Some(epoch.epoch),
            value: Some(value),
            threshold: DEAD,
            source: "Maas, Hannun, Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013"
                .to_owned(),
        })
    };
    epoch.layers.iter().filter_map(finding).collect()
}

fn rate_too_high(spec: &TrainSpec, epochs: &[&EpochMetrics], has_diverged: bool) -> Option<Finding> {
    let source = "Bengio, Practical Recommendations for Gradient-Based Training of Deep Architectures, 2012, section 3.1.1";
    let mut lowest = guessing(spec);
    let mut risen: Option<(u32, f64, f64)> = None;
    for epoch in epochs {
        let value = epoch.train_loss / lowest;
        let is_noise = epoch.train_loss - lowest < RISE_MIN * guessing(spec);
        if !is_noise && risen.is_none_or(|(_, worst, _)| value > worst) {
            risen = Some((epoch.epoch, value, epoch.learning_rate));
        }
        lowest = lowest.min(epoch.train_loss);
    }
    if has_diverged {
        return Some(Finding {
            code: "learning_rate_too_high".to_owned(),
            detail: "the steps were so large that the loss became infinite or NaN. Try a third of the learning rate, a \
                     warm-up, or gradient_clip_norm"
                .to_owned(),
            layer: None,
            epoch: epochs.last().map(|epoch| epoch.epoch + 1).or(Some(1)),
            value: None,
            threshold: RISEN,
            source: source.to_owned(),
        });
    }
    let (epoch, value, rate) = risen.filter(|(_, value, _)| *value >= RISEN)?;
    let times = if value < 1e4 { format!("{value:.1}") } else { format!("{value:.0e}") };
    Some(Finding {
        code: "learning_rate_too_high".to_owned(),
        detail: format!(
            "the training loss rose to {times} times its lowest value so far (the loss of guessing counts as the first), at a learning rate of {rate:.1e}: the steps \
             overshoot the minimum. Try a third of the learning rate, a schedule that lowers it, or gradient_clip_norm"
        ),
        layer: None,
        epoch: Some(epoch),
        value: Some(value),
        threshold: RISEN,
        source: source.to_owned(),
    })
}

/// The loss of a network that gives every class the same probability.
fn guessing(spec: &TrainSpec) -> f64 {
    let classes = match spec.network.layers.last() {
        Some(LayerSpec::Dense { units, .. }) => *units as f64,
        _ => 1.0,
    };
    match spec.loss {
        LossKind::CrossEntropy => classes.ln(),
        LossKind::MeanSquaredError => (classes - 1.0) / (classes * classes),
    }
}

fn overfitting(epoch: &EpochMetrics) -> Option<Finding> {
    let value = epoch.train_accuracy - epoch.validation_accuracy?;
    (value >= OVERFITTED).then(|| Finding {
        code: "overfitting".to_owned(),
        detail: format!(
            "the accuracy is {:.1} % on the training examples but {:.1} % on the validation examples: the network memorises. Try more \
             examples, augment, dropout, weight_decay, early_stopping, or a smaller network",
            100.0 * epoch.train_accuracy,
            100.0 * epoch.validation_accuracy.unwrap_or_default()
        ),
        layer: None,
        epoch: Some(epoch.epoch),
        value: Some(value),
        threshold: OVERFITTED,
        source: "Goodfellow, Bengio, Courville, Deep Learning, 2016, section 5.2".to_owned(),
    })
}
