//! Model cards.

use serde::Serialize;
use utoipa::ToSchema;

use super::dataset::Dataset;
use super::evaluation::Evaluation;
use super::model::ModelVersion;
use super::spec::TrainSpec;
use crate::service;

/// What is known about a version of a model: what it is, how it was trained, how well it reads, and what it is not for.
#[derive(Serialize, ToSchema)]
pub struct ModelCard {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
    /// The aliases that refer to the version.
    pub aliases: Vec<String>,
    /// Name and version of the program that made the card.
    pub program: &'static str,
    /// The network, its classes and its file.
    pub published: ModelVersion,
    /// The job that trained it, with all defaults filled in; null if no job trained it, or its job is deleted.
    pub spec: Option<TrainSpec>,
    /// The data set of the figures, as it is now; null if it is not known.
    pub data: Option<Dataset>,
    /// The figures on the test split of `data`; null if it is not known.
    pub evaluation: Option<Evaluation>,
    /// Limits of use, as sentences.
    pub limits: Vec<String>,
}

/// The program that makes a card.
const PROGRAM: &str = concat!("chainrule ", env!("CARGO_PKG_VERSION"));

impl From<service::ModelCard> for ModelCard {
    fn from(card: service::ModelCard) -> Self {
        let limits = card.limits();
        let service::ModelCard { model, version, aliases, spec, evaluated } = card;
        Self {
            model,
            version: version.version,
            aliases,
            program: PROGRAM,
            published: version.into(),
            spec: spec.map(Into::into),
            data: evaluated.as_ref().map(|evaluated| Dataset::new(&evaluated.examples.dataset)),
            evaluation: evaluated.map(|evaluated| Evaluation::new(evaluated, false)),
            limits,
        }
    }
}
