//! Ten steps of training beside PyTorch's, and what a step costs: `tests/fixtures/*.py` make the constants.

use chainrule_engine::data::mnist;
use chainrule_engine::nn::{
    Batch, Draw, Float, Images, LayerSpec, Loss, LossKind, Network, Optimizer, OptimizerSpec, Pool, Schedule,
    Shape, Workspace, clip_scale,
};
use chainrule_engine::train::{SpecLimits, parse};
use serde::Deserialize;
use serde_json::{Value, json};

const STEPS: u64 = 10;
const STEPS_PER_EPOCH: u64 = 5;

#[derive(Deserialize)]
struct Fixture {
    batches: Vec<Rows>,
    pictures: Vec<Rows>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Rows {
    features: Vec<Vec<f64>>,
    labels: Vec<u16>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    input: Shape,
    layers: Vec<LayerSpec>,
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
    ema_decay: Option<f64>,
    /// The average of the weights over the steps.
    #[serde(default)]
    average: Vec<Parameters>,
    statistics: Vec<Statistics>,
}

/// What a batch-norm keeps for inference.
#[derive(Deserialize)]
struct Statistics {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

#[derive(Deserialize)]
struct Parameters {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

fn flat(parameters: &[Parameters]) -> Vec<f64> {
    parameters.iter().flat_map(|layer| layer.weight.clone().into_iter().chain(layer.bias.clone())).collect()
}

fn weights<T: Float>(network: &Network<T>) -> Vec<f64> {
    network.parameters().flat_map(|(_, _, values)| values.iter().map(|value| value.wide())).collect()
}

/// Asserts that two lists agree, each number relative to itself or a tenth of the largest, whatever is more.
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |largest, expected| largest.max(expected.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let scale = expected.abs().max(0.1 * largest);
        assert!((found - expected).abs() <= tolerance * scale, "{what} {index}: {found} is not {expected}");
    }
}

fn network<T: Float>(case: &Case) -> Network<T> {
    let mut network = Network::new(case.input, &case.layers, 0).expect("layers that fit");
    let mut values = flat(&case.weights).into_iter().map(T::of);
    for tensor in network.parameters_mut() {
        tensor.fill_with(|| values.next().expect("a weight for each parameter"));
    }
    network
}

/// Rows of numbers as images.
struct Features<'a>(&'a [Vec<f64>]);

impl<T: Float> Images<T> for Features<'_> {
    fn write(&self, index: u32, _: Draw, image: &mut [T]) {
        image.iter_mut().zip(&self.0[index as usize]).for_each(|(to, &value)| *to = T::of(value));
    }
}

fn check<T: Float>(tolerance: f64, losses: impl Fn(&Case) -> &[f64]) {
    let fixture: Fixture =
        serde_json::from_str(include_str!("../fixtures/pytorch_steps.json")).expect("a fixture");
    assert_eq!(fixture.cases.len(), 41);
    let pool = Pool::new(2);
    for case in &fixture.cases {
        let mut network = network::<T>(case);
        let mut average = network.clone();
        let mut optimizer = Optimizer::new(case.optimizer, &network);
        let mut workspace = Workspace::new(&network, 4);
        let loss = Loss { kind: case.loss, label_smoothing: case.label_smoothing };
        let batches = if case.input.places() == 1 { &fixture.batches } else { &fixture.pictures };
        for (step, rows) in (0..STEPS).zip(batches) {
            let what = |what: &str| format!("{}, step {step}, {what}", case.name);
            let images = Features(&rows.features);
            let batch =
                Batch { images: &images, labels: &rows.labels, rows: &[0, 1, 2, 3], draw: Draw::default() };
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
            let rate = case.schedule.rate(case.optimizer.learning_rate(), step, STEPS, STEPS_PER_EPOCH);
            assert_close(&[rate], &[case.learning_rates[step as usize]], 1e-12, &what("learning rate"));
            let scale = clip_scale(case.gradient_clip_norm, workspace.gradients());
            optimizer.step(&mut network, workspace.gradients(), rate, scale, &pool);
            workspace.track_statistics(&mut network);
            match case.ema_decay {
                Some(decay) if step > 0 => average.average_with(&network, decay),
                _ => average.copy_from(&network),
            }
            if let Some(expected) = case.weights_after.get(&(step + 1)) {
                assert_close(&weights(&network), &flat(expected), tolerance, &what("weights"));
            }
        }
        if case.ema_decay.is_some() {
            assert_close(
                &weights(&average),
                &flat(&case.average),
                tolerance,
                &format!("{}, average", case.name),
            );
        }
        let buffers = network.buffers().flat_map(|(_, _, values)| values.iter().map(|value| value.wide()));
        let expected =
            case.statistics.iter().flat_map(|norm| norm.mean.iter().chain(&norm.variance).copied());
        let (found, expected): (Vec<_>, Vec<_>) = (buffers.collect(), expected.collect());
        assert_close(&found, &expected, tolerance, &format!("{}, running statistics", case.name));
    }
}

#[test]
fn ten_steps_in_f64_agree_with_pytorch_to_1e_12() {
    check::<f64>(1e-12, |case| &case.losses);
}

#[test]
fn ten_steps_in_f32_agree_with_pytorch_to_1e_5() {
    check::<f32>(1e-5, |case| &case.losses_f32);
}

/// A network and the operations of its products for one image.
#[derive(Deserialize)]
struct Counted {
    layers: Value,
    forward: f64,
    backward: f64,
}

#[test]
fn a_job_is_estimated_to_cost_the_operations_that_pytorch_counts_to_within_a_fifth() {
    let counted: Vec<Counted> =
        serde_json::from_str(include_str!("../fixtures/pytorch_flops.json")).expect("the fixture is JSON");
    for Counted { layers, forward, backward } in counted {
        let request = json!({ "network": { "layers": layers }, "epochs": 3, "validation_fraction": 0.1 });
        let spec = parse(&request, &[mnist::shape()], &SpecLimits::default()).expect("a valid request");
        let (trained, validated, tested) = (3.0 * 54_000.0, 3.0 * 6_000.0, 10_000.0);
        let expected = trained * (forward + backward) + (validated + tested) * forward;
        let ratio = spec.cost(&mnist::shape()).flops / expected;
        assert!((0.95..1.2).contains(&ratio), "{ratio:.3} of what PyTorch counts for {layers}");
    }
}
