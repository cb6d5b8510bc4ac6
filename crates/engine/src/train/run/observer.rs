use std::convert::Infallible;

use super::TrainState;
use crate::train::{EpochMetrics, StepMetrics};

/// Follows a training run and may stop it. The default methods let it run to its end.
pub trait Observer {
    /// What an observer can fail with.
    type Error;

    /// Before the first step, with the bytes that the workspace of a step takes.
    fn begin(&mut self, _workspace_bytes: usize) {}

    /// After every step; `false` stops the run.
    fn step(&mut self, _report: &StepReport) -> bool {
        true
    }

    /// Asked after every step but the last of an epoch: whether [`Self::checkpoint`] is to be called now.
    fn is_checkpoint_due(&self) -> bool {
        false
    }

    /// In the middle of an epoch, with the state a run can go on from.
    ///
    /// # Errors
    /// Ends the run.
    fn checkpoint(&mut self, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Asked while a split is measured: whether the run shall end there.
    fn is_stopped(&self) -> bool {
        false
    }

    /// After every epoch, with the state a run can go on from.
    ///
    /// # Errors
    /// Ends the run.
    fn epoch(&mut self, _metrics: &EpochMetrics, _state: &TrainState) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Nobody: the run goes to its end.
impl Observer for () {
    type Error = Infallible;
}

/// Where a run stands after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Images of the step.
    pub images: usize,
    /// The step.
    pub metrics: StepMetrics,
}
