use super::format::Checkpoint1;
use super::{ArtifactError, Tensors, write};
use crate::nn::{Network, Shape, StepLoss};
use crate::train::{TrainSpec, TrainState};

/// Serialises the whole state of a training run. Equal states give equal bytes.
///
/// # Errors
/// If safetensors can't represent a tensor.
pub fn write_checkpoint(state: &TrainState) -> Result<Vec<u8>, ArtifactError> {
    let metadata = Checkpoint1 {
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
    write(&metadata, state.network.tensors().chain(average).chain(optimizer))
}

/// Restores the state of a run of `spec`, on images of shape `input`, from `bytes`.
///
/// # Errors
/// If the bytes are not a checkpoint, or are the checkpoint of a different network or optimiser.
pub fn read_checkpoint(bytes: &[u8], spec: &TrainSpec, input: Shape) -> Result<TrainState, ArtifactError> {
    let (metadata, tensors) = Tensors::read::<Checkpoint1>(bytes)?;
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
    state.optimizer.restore(metadata.steps_taken, restored);
    state.epoch = metadata.epoch;
    state.step = metadata.step;
    state.running = StepLoss { loss_sum: metadata.running_loss_sum, correct: metadata.running_correct };
    state.best_validation_loss = metadata.best_validation_loss;
    state.stale_epochs = metadata.stale_epochs;
    state.validation_accuracy = metadata.validation_accuracy;
    Ok(state)
}

fn average_key(tensor: &str) -> String {
    format!("average.{tensor}")
}

fn optimizer_key(kind: &str, parameter: &str) -> String {
    format!("optimizer.{kind}.{parameter}")
}
