use std::sync::Arc;

use crate::nn::{Network, Predictor};
use crate::store::PublishedModel;

/// A version of a model in memory, ready to predict.
#[derive(Debug)]
pub struct Model {
    /// Name of the model.
    pub name: String,
    /// Number of the version.
    pub version: u32,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// The network with weights packed for prediction.
    pub predictor: Predictor,
}

impl Model {
    pub(super) fn new(published: &PublishedModel, network: Network<f32>) -> Arc<Self> {
        Arc::new(Self {
            name: published.name.clone(),
            version: published.row.version,
            classes: published.row.classes.clone(),
            predictor: Predictor::new(network),
        })
    }

    /// Returns the size of the weights in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.predictor.memory_bytes() as u64
    }
}
