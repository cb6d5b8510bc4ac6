//! Ten steps of training beside PyTorch's: `tests/fixtures/pytorch_steps.py` makes the constants.

use chainrule::nn::{
    Batch, Examples, Float, Init, LayerSpec, Loss, LossKind, Network, Optimizer, OptimizerSpec, Pool,
    Schedule, Workspace, clip_scale,
};
use ndarray::Array2;
use serde::Deserialize;
use serde_json::Value;

const STEPS: u64 = 10;

#[derive(Deserialize)]
struct Fixture {
    batches: Vec<Rows>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Rows {
    features: Vec<Vec<f64>>,
    labels: Vec<u8>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    layers: Vec<Value>,
    loss: LossKind,
    label_smoothing: f64,
    optimizer: OptimizerSpec,
    schedule: Schedule,
    gradient_clip_norm: Option<f64>,
    weights: Vec<Parameters>,
    learning_rates: Vec<f64>,
    losses: Vec<f64>,
    losses_f32: Vec<f64>,
    gradients: Vec<Parameters>,
    weights_after: std::collections::BTreeMap<u64, Vec<Parameters>>,
}

#[derive(Deserialize)]
struct Parameters {
    weight: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

fn flat(parameters: &[Parameters]) -> Vec<f64> {
    parameters.iter().flat_map(|layer| layer.weight.concat().into_iter().chain(layer.bias.clone())).collect()
}

fn weights<T: Float>(network: &Network<T>) -> Vec<f64> {
    network.parameters().flat_map(|(_, _, values)| values.iter().map(|value| value.wide())).collect()
}

/// Asserts that two lists agree, relative to the larger of the pair and `floor`.
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let scale = expected.abs().max(0.1);
        assert!((found - expected).abs() <= tolerance * scale, "{what} {index}: {found} is not {expected}");
    }
}

fn network<T: Float>(case: &Case) -> Network<T> {
    let layers: Vec<LayerSpec> = case
        .layers
        .iter()
        .map(|layer| match (layer["type"].as_str(), layer["units"].as_u64()) {
            (Some("dense"), Some(units)) => LayerSpec::Dense { units: units as usize, init: Init::He },
            _ => serde_json::from_value(layer.clone()).expect("a layer"),
        })
        .collect();
    let mut network = Network::new(6, &layers, 0);
    let mut values = flat(&case.weights).into_iter().map(T::of);
    for tensor in network.tensors_mut() {
        tensor.fill_with(|| values.next().expect("a weight for each parameter"));
    }
    network
}

fn check<T: Float>(tolerance: f64, losses: impl Fn(&Case) -> &[f64]) {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../fixtures/pytorch_steps.json")).expect("a fixture");
    assert_eq!(fixture.cases.len(), 20);
    let pool = Pool::new(2);
    for case in &fixture.cases {
        let mut network = network::<T>(case);
        let mut optimizer = Optimizer::new(case.optimizer, &network);
        let mut workspace = Workspace::new(&network, 4);
        let loss = Loss { kind: case.loss, label_smoothing: case.label_smoothing };
        for (step, rows) in (0..STEPS).zip(&fixture.batches) {
            let what = |what: &str| format!("{}, step {step}, {what}", case.name);
            let x = Array2::from_shape_fn((4, 6), |(row, column)| T::of(rows.features[row][column]));
            let batch =
                Batch { examples: Examples::Values(x.view()), labels: &rows.labels, rows: &[0, 1, 2, 3] };
            let result = workspace.backpropagate(&network, &loss, batch, &pool);
            assert_close(&[result.loss_sum / 4.0], &[losses(case)[step as usize]], tolerance, &what("loss"));
            if step == 0 {
                let found: Vec<f64> = workspace
                    .gradients()
                    .iter()
                    .flat_map(|gradient| {
                        gradient.weight.iter().chain(&gradient.bias).map(|value| value.wide())
                    })
                    .collect();
                assert_close(&found, &flat(&case.gradients), tolerance, &what("gradients"));
            }
            let rate = case.schedule.rate(case.optimizer.learning_rate(), step, STEPS, STEPS);
            assert_close(&[rate], &[case.learning_rates[step as usize]], 1e-12, &what("learning rate"));
            let scale = clip_scale(case.gradient_clip_norm, workspace.gradients());
            optimizer.step(&mut network, workspace.gradients(), rate, scale, &pool);
            if let Some(expected) = case.weights_after.get(&(step + 1)) {
                assert_close(&weights(&network), &flat(expected), tolerance, &what("weights"));
            }
        }
    }
}

#[test]
fn ten_steps_in_f64_agree_with_pytorch_to_1e_12() {
    check::<f64>(1e-12, |case| &case.losses);
}

#[test]
fn ten_steps_in_f32_agree_with_pytorch_to_2e_6() {
    check::<f32>(2e-6, |case| &case.losses_f32);
}
