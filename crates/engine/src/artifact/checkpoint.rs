use serde::{Deserialize, Serialize};

use super::{ArtifactError, Tensors, write};
use crate::nn::{Network, Shape, StepLoss};
use crate::train::{TrainSpec, TrainState};

const FORMAT: &str = "chainrule-checkpoint/1";

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    epoch: u32,
    step: usize,
    steps_taken: u64,
    running_loss_sum: f64,
    running_correct: usize,
    best_validation_loss: Option<f64>,
    stale_epochs: u32,
    validation_accuracy: Option<f64>,
}

/// Serialises the whole state of a training run. Equal states give equal bytes.
///
/// # Errors
/// If safetensors can't represent a tensor.
pub fn write_checkpoint(state: &TrainState) -> Result<Vec<u8>, ArtifactError> {
    let header = Header {
        format: FORMAT.to_owned(),
        epoch: state.epoch,
        step: state.step,
        steps_taken: state.optimizer.steps(),
        running_loss_sum: state.running.loss_sum,
        running_correct: state.running.correct,
        best_validation_loss: state.best_validation_loss,
        stale_epochs: state.stale_epochs,
        validation_accuracy: state.validation_accuracy,
    };
    let kinds = state.optimizer.spec().state_names().iter().zip(state.optimizer.state());
    let optimizer = kinds.flat_map(|(kind, tensors)| {
        let parameters = state.network.parameters().zip(tensors);
        parameters.map(move |((name, shape, _), values)| (optimizer_key(kind, &name), shape, &**values))
    });
    let average = state.average.iter().flat_map(Network::tensors);
    let average = average.map(|(name, shape, values)| (average_key(&name), shape, values));
    write(&header, state.network.tensors().chain(average).chain(optimizer))
}

/// Restores the state of a run of `spec`, on images of shape `input`, from `bytes`.
///
/// # Errors
/// If the bytes are not a checkpoint, or are the checkpoint of a different network or optimiser.
pub fn read_checkpoint(bytes: &[u8], spec: &TrainSpec, input: Shape) -> Result<TrainState, ArtifactError> {
    let (header, tensors) = Tensors::read::<Header>(bytes)?;
    if header.format != FORMAT {
        return Err(ArtifactError::Metadata(format!("format {:?} is not {FORMAT:?}", header.format)));
    }
    let mut state = TrainState::new(spec, input)?;
    let shapes: Vec<(String, usize)> =
        state.network.parameters().map(|(name, _, values)| (name, values.len())).collect();
    state.network.set_tensors(|name| tensors.values(name))?;
    if let Some(average) = &mut state.average {
        average.set_tensors(|name| tensors.values(&average_key(name)))?;
    }

    let restored = spec.optimizer.state_names().iter().map(|kind| {
        let one = |(name, length): &(String, usize)| {
            let key = optimizer_key(kind, name);
            let values = tensors.values(&key)?;
            if values.len() == *length { Ok(values) } else { Err(ArtifactError::Tensor(key)) }
        };
        shapes.iter().map(one).collect::<Result<Vec<_>, _>>()
    });
    let restored = restored.collect::<Result<Vec<_>, _>>()?;
    state.optimizer.restore(header.steps_taken, restored);
    state.epoch = header.epoch;
    state.step = header.step;
    state.running = StepLoss { loss_sum: header.running_loss_sum, correct: header.running_correct };
    state.best_validation_loss = header.best_validation_loss;
    state.stale_epochs = header.stale_epochs;
    state.validation_accuracy = header.validation_accuracy;
    Ok(state)
}

fn average_key(tensor: &str) -> String {
    format!("average.{tensor}")
}

fn optimizer_key(kind: &str, parameter: &str) -> String {
    format!("optimizer.{kind}.{parameter}")
}
