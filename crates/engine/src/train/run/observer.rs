use std::convert::Infallible;

use super::TrainState;
use crate::train::{EpochMetrics, StepMetrics};

/// Observes a training run and can stop it. The default methods let it run to the end.
pub trait Observer {
    /// The error that an observer can return.
    type Error;

    /// Called before the first step, with the bytes that the workspace of a step allocates.
    fn begin(&mut self, _workspace_bytes: usize) {}

    /// Called after every step. Returning `false` stops the run if it can resume from this step. It can't once the
    /// layer metrics of the epoch have been computed. The answer is then ignored, until the first step of the next
    /// epoch.
    fn step(&mut self, _report: &StepReport) -> bool {
        true
    }

    /// Called after every step that doesn't stop the run. Returning `true` requests a call of [`Self::checkpoint`]. It
    /// is ignored once the layer metrics of the epoch have been computed.
    fn is_checkpoint_due(&self) -> bool {
        false
    }

    /// Called within an epoch, with a state from which the run can resume.
    ///
    /// # Errors
    /// An error ends the run.
    fn checkpoint(&mut self, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called during an evaluation. Returning `true` stops the run there.
    fn is_stopped(&self) -> bool {
        false
    }

    /// Called after every epoch, with a state from which the run can resume.
    ///
    /// # Errors
    /// An error ends the run.
    fn epoch(&mut self, _metrics: &EpochMetrics, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// An observer that does nothing.
impl Observer for () {
    type Error = Infallible;
}

/// Progress of a run after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the epoch, starting at 1.
    pub epoch: u32,
    /// Number of images in the step.
    pub images: usize,
    /// Metrics of the step.
    pub metrics: StepMetrics,
}
