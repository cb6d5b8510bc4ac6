use std::sync::Arc;

use crate::nn::{Network, Predictor};
use crate::store::PublishedModel;

/// A model ready to answer.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Its weights.
    pub predictor: Predictor<f32>,
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

    /// Bytes it takes in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.predictor.memory_bytes() as u64
    }
}
