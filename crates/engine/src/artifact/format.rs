//! The JSON in the metadata of files. These types belong to the files, not to the program. `Shape`, `LayerSpec`, `Init`
//! and `Padding` have a twin here, to and from which serde copies their fields. If a field of one of them is renamed, its
//! twin no longer compiles. `#[serde(rename)]` then keeps the old name in the files, which tests check.
//!
//! The name of a format ends with its number. A format never changes. A new one is a type next to the earlier ones, whose
//! [`Metadata::read`] has an arm for each of them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ArtifactError;
use crate::nn::{Init, LayerSpec, Padding, Shape};

/// The fields of the format in which a kind of file is written.
pub trait Metadata: Serialize + Sized {
    /// The name of the format that is written.
    const FORMAT: &'static str;

    /// Parses JSON of this format, or of an earlier one of the same kind of file.
    fn read(format: &str, text: &str) -> Result<Self, ArtifactError>;
}

impl Metadata for Model1 {
    const FORMAT: &'static str = "chainrule-model/1";

    fn read(format: &str, text: &str) -> Result<Self, ArtifactError> {
        match format {
            Self::FORMAT => parsed(text),
            other => Err(unknown::<Self>(other)),
        }
    }
}

impl Metadata for Checkpoint1 {
    const FORMAT: &'static str = "chainrule-checkpoint/1";

    fn read(format: &str, text: &str) -> Result<Self, ArtifactError> {
        match format {
            Self::FORMAT => parsed(text),
            other => Err(unknown::<Self>(other)),
        }
    }
}

#[derive(Serialize)]
struct Named<'a, M> {
    format: &'a str,
    #[serde(flatten)]
    metadata: &'a M,
}

#[derive(Deserialize)]
struct Name {
    format: String,
}

/// The JSON of `metadata`, with the name of its format.
pub fn to_json<M: Metadata>(metadata: &M) -> Result<String, ArtifactError> {
    serde_json::to_string(&Named { format: M::FORMAT, metadata }).map_err(malformed)
}

/// Parses JSON that names its format.
pub fn from_json<M: Metadata>(text: &str) -> Result<M, ArtifactError> {
    let Name { format } = parsed(text)?;
    M::read(&format, text)
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, ArtifactError> {
    serde_json::from_str(text).map_err(malformed)
}

fn unknown<M: Metadata>(format: &str) -> ArtifactError {
    ArtifactError::Metadata(format!("format {format:?} is not {:?}", M::FORMAT))
}

fn malformed(error: serde_json::Error) -> ArtifactError {
    ArtifactError::Metadata(error.to_string())
}

#[derive(Serialize, Deserialize)]
pub struct Checkpoint1 {
    pub epoch: u32,
    pub step: usize,
    pub steps_taken: u64,
    pub running_loss_sum: f64,
    pub running_correct: usize,
    pub best_validation_loss: Option<f64>,
    pub stale_epochs: u32,
    pub validation_accuracy: Option<f64>,
}

#[derive(Serialize, Deserialize)]
pub struct Model1 {
    #[serde(with = "Shape1")]
    pub input: Shape,
    pub layers: Vec<ModelLayer1>,
    pub classes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub struct ModelLayer1(#[serde(with = "Layer1")] pub LayerSpec);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Shape")]
struct Shape1 {
    height: usize,
    width: usize,
    channels: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LayerSpec", tag = "type", rename_all = "snake_case")]
enum Layer1 {
    Dense {
        units: usize,
        #[serde(with = "Init1")]
        init: Init,
    },
    Conv2d {
        filters: usize,
        kernel: usize,
        #[serde(with = "Padding1")]
        padding: Padding,
        stride: usize,
        #[serde(with = "Init1")]
        init: Init,
    },
    MaxPool2d {
        size: usize,
    },
    AvgPool2d {
        size: usize,
    },
    BatchNorm,
    Dropout {
        rate: f64,
    },
    Flatten,
    Relu,
    LeakyRelu,
    Gelu,
    Sigmoid,
    Tanh,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Init", rename_all = "snake_case")]
enum Init1 {
    He,
    Xavier,
    Normal,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Padding", rename_all = "snake_case")]
enum Padding1 {
    Valid,
    Same,
}
