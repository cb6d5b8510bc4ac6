use crate::nn::{Network, Workspace, square_sum};
use crate::train::LayerMetrics;

/// The index of the step in an epoch whose layer metrics are computed: the last one with a full batch, or the only one.
pub(super) fn measured_step(examples: usize, batch_size: usize) -> usize {
    (examples / batch_size).max(1) - 1
}

/// Layer metrics without values.
pub(super) fn unmeasured(network: &Network<f32>) -> Vec<LayerMetrics> {
    let layer = |index| LayerMetrics {
        layer: network.layer_name(index),
        gradient_norm: None,
        weight_norm: None,
        update_ratio: None,
        dead_fraction: None,
    };
    (0..network.layers().len()).map(layer).collect()
}

/// Computes the metrics of a watched step from the weights before and after it.
pub(super) fn measure(
    layers: &mut [LayerMetrics],
    before: &Network<f32>,
    (network, workspace): (&Network<f32>, &Workspace<f32>),
) {
    let mut gradients = workspace.gradients().iter();
    for (index, metrics) in layers.iter_mut().enumerate() {
        metrics.dead_fraction = workspace.dead_fraction(network, index);
        let [now, before] = [network, before].map(|network| network.layers()[index].parameters());
        if let (Some((weight, bias)), Some(before)) = (now, before)
            && let Some(gradient) = gradients.next()
        {
            let norm = (square_sum(weight.iter()) + square_sum(bias.iter())).sqrt();
            let change = distance_squared(weight.iter(), before.0.iter())
                + distance_squared(bias.iter(), before.1.iter());
            metrics.gradient_norm = Some(gradient.square_sum().sqrt());
            metrics.weight_norm = Some(norm);
            metrics.update_ratio = (norm > 0.0).then(|| change.sqrt() / norm);
        }
    }
}

/// `‖a − b‖²`, in `f64`.
fn distance_squared<'a>(a: impl Iterator<Item = &'a f32>, b: impl Iterator<Item = &'a f32>) -> f64 {
    a.zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}
