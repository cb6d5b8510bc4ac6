//! Files as each version wrote them. These files never change: each new format adds its own.

use chainrule_engine::artifact::{
    ArtifactError, ModelHeader, read_checkpoint, read_model, write_checkpoint, write_model,
};
use chainrule_engine::data::shapes;
use chainrule_engine::nn::{Init, LayerSpec, Network, Padding, Shape, StepLoss};
use chainrule_engine::train::{SpecLimits, TrainSpec, TrainState, parse};
use serde_json::json;

const MODEL_1: &[u8] = include_bytes!("../fixtures/model_1.safetensors");
const CHECKPOINT_1: &[u8] = include_bytes!("../fixtures/checkpoint_1.safetensors");

/// Every type of layer, with every word that a field can hold.
fn layers() -> Vec<LayerSpec> {
    let dense = |units, init| LayerSpec::Dense { units, init };
    vec![
        LayerSpec::Conv2d { filters: 3, kernel: 3, padding: Padding::Same, stride: 2, init: Init::Xavier },
        LayerSpec::BatchNorm,
        LayerSpec::LeakyRelu,
        LayerSpec::MaxPool2d { size: 2 },
        LayerSpec::Conv2d { filters: 2, kernel: 1, padding: Padding::Valid, stride: 1, init: Init::He },
        LayerSpec::Relu,
        LayerSpec::AvgPool2d { size: 2 },
        LayerSpec::Gelu,
        LayerSpec::Flatten,
        LayerSpec::Dropout { rate: 0.25 },
        dense(4, Init::Normal),
        LayerSpec::Tanh,
        dense(3, Init::He),
        LayerSpec::Sigmoid,
        dense(2, Init::He),
    ]
}

/// Replaces all parameters by different numbers, none of which is rounded.
fn number(network: &mut Network<f32>, first: usize) {
    let values = network.parameters_mut().flatten().enumerate();
    values.for_each(|(place, value)| *value = (first + place) as f32 / 8.0);
}

fn model() -> (Network<f32>, [String; 2]) {
    let input = Shape { height: 9, width: 8, channels: 1 };
    let mut network = Network::new(input, &layers(), 1).expect("layers that fit");
    number(&mut network, 1);
    (network, ["zero", "일"].map(str::to_owned))
}

#[test]
fn a_model_is_read_and_written_as_version_1_wrote_it() {
    let (network, classes) = model();
    let (ModelHeader { input, layers: found, classes: named }, read) = read_model(MODEL_1).expect("a model");
    assert_eq!((input, found, named), (network.input(), layers(), classes.to_vec()));
    assert_eq!(read, network);
    assert_eq!(write_model(&network, &layers(), &classes).expect("bytes"), MODEL_1);
}

fn spec() -> TrainSpec {
    let request = json!({ "ema_decay": 0.5, "optimizer": { "type": "rmsprop" } });
    let mut spec = parse(&request, &shapes(), &SpecLimits::default()).expect("a valid request");
    spec.network.layers = vec![LayerSpec::Dense { units: 2, init: Init::He }, LayerSpec::BatchNorm];
    spec
}

const INPUT: Shape = Shape { height: 1, width: 1, channels: 3 };

fn state() -> TrainState {
    let mut state = TrainState::new(&spec(), INPUT).expect("layers that fit");
    number(&mut state.network, 1);
    number(state.average.as_mut().expect("an average"), 100);
    let lengths: Vec<usize> = state.network.parameters().map(|(_, _, values)| values.len()).collect();
    let tensors = |name: usize| lengths.iter().map(|&length| vec![name as f32 / 4.0; length]).collect();
    state.optimizer.restore(7, (1..4).map(tensors).collect());
    TrainState {
        epoch: 2,
        step: 3,
        running: StepLoss { loss_sum: 1.5, correct: 4 },
        best_validation_loss: Some(0.25),
        stale_epochs: 1,
        validation_accuracy: None,
        ..state
    }
}

#[test]
fn a_checkpoint_is_read_and_written_as_version_1_wrote_it() {
    let state = state();
    assert_eq!(read_checkpoint(CHECKPOINT_1, &spec(), INPUT).expect("a checkpoint"), state);
    assert_eq!(write_checkpoint(&state).expect("bytes"), CHECKPOINT_1);
}

#[test]
fn a_file_of_a_later_format_is_refused_by_name() {
    let later = |bytes: &[u8], from: &str, to: &str| {
        let place = bytes.windows(from.len()).position(|word| word == from.as_bytes()).expect("the format");
        let mut bytes = bytes.to_vec();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let model = read_model(&later(MODEL_1, "chainrule-model/1", "chainrule-model/2")).map(drop);
    let checkpoint = later(CHECKPOINT_1, "chainrule-checkpoint/1", "chainrule-checkpoint/2");
    let checkpoint = read_checkpoint(&checkpoint, &spec(), INPUT).map(drop);
    let swapped = read_model(CHECKPOINT_1).map(drop);
    for (refused, name) in [(model, "model/2"), (checkpoint, "checkpoint/2"), (swapped, "checkpoint/1")] {
        let Err(ArtifactError::Metadata(detail)) = refused else { panic!("{refused:?}") };
        assert!(detail.contains(&format!("\"chainrule-{name}\" is not")), "{detail}");
    }
}
