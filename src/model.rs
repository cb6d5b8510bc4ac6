//! A published model: its versions, and references to them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::fields::as_printed;
use crate::job::JobId;
use crate::nn::LayerSpec;
use crate::train::is_name;

/// A reference to a model: `name`, `name@3` (a version) or `name@champion` (an alias).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Name of the model.
    pub name: String,
    /// The version or alias.
    pub selector: Selector,
}

/// Which version of a model a reference selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The alias `default` if it is set, or else the newest version.
    Default,
    /// The version with this number.
    Version(u32),
    /// The version that this alias refers to.
    Alias(String),
}

/// The error of parsing a text that is not a model reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a model reference: write name, name@version or name@alias")]
pub struct ModelRefError(String);

impl FromStr for ModelRef {
    type Err = ModelRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ModelRefError(text.chars().take(64).collect());
        let (name, selector) = match text.split_once('@') {
            None => (text, Selector::Default),
            Some((name, selector)) => match as_printed(selector) {
                Some(version) => (name, Selector::Version(version)),
                None if is_alias(selector) => (name, Selector::Alias(selector.to_owned())),
                None => return Err(error()),
            },
        };
        if !is_name(name) {
            return Err(error());
        }
        Ok(Self { name: name.to_owned(), selector })
    }
}

/// Returns whether an alias can have this name. Digits alone are the number of a version.
pub fn is_alias(text: &str) -> bool {
    is_name(text) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Default => f.write_str(&self.name),
            Selector::Version(version) => write!(f, "{}@{version}", self.name),
            Selector::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

/// Where a version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A job trained it.
    Job,
    /// A client uploaded it.
    Upload,
    /// It was imported from another server or framework.
    Import,
}

impl ModelSource {
    /// All sources.
    pub const ALL: [Self; 3] = [Self::Job, Self::Upload, Self::Import];

    /// Returns the name of the source.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Upload => "upload",
            Self::Import => "import",
        }
    }
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelVersion {
    /// Number of the version, from 1.
    pub version: u32,
    /// Where it comes from.
    pub source: ModelSource,
    /// The job that trained it, if there is one.
    pub job_id: Option<JobId>,
    /// When it was published.
    pub created_at: Timestamp,
    /// Accuracy on the test split, if it was measured.
    pub test_accuracy: Option<f64>,
    /// Number of weights and biases.
    pub parameters: usize,
    /// The layers of the network.
    pub layers: Vec<LayerSpec>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// A model with some of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelEntry {
    /// Name of the model.
    pub name: String,
    /// Some of its versions, newest first.
    pub versions: Vec<ModelVersion>,
    /// The number of all its versions.
    pub version_count: usize,
    /// Its aliases and the versions they refer to.
    pub aliases: BTreeMap<String, u32>,
}

/// A position in the list of models, which is ordered by the last publication, newest first. The position
/// stays valid if its model is deleted or published again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelPlace {
    /// When the newest version was published.
    pub published_at: Timestamp,
    /// Name of the model.
    pub name: String,
}

/// The error of parsing a text that is not a position in the list of models.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the list of models")]
pub struct ModelPlaceError;

impl fmt::Display for ModelPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.published_at.as_microsecond(), self.name)
    }
}

impl FromStr for ModelPlace {
    type Err = ModelPlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (micros, name) = text.split_once('-').ok_or(ModelPlaceError)?;
        let published_at = micros.parse().map_err(|_| ModelPlaceError)?;
        let published_at = Timestamp::from_microsecond(published_at).map_err(|_| ModelPlaceError)?;
        if !is_name(name) {
            return Err(ModelPlaceError);
        }
        Ok(Self { published_at, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_of_models_is_what_it_reads_as() {
        let published_at = Timestamp::from_microsecond(1_732_700_000_123_456).expect("a time");
        for name in ["digits", "a-b.c_9"] {
            let place = ModelPlace { published_at, name: name.to_owned() };
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for other in ["", "digits", "1-", "-digits", "1-Digits", "99999999999999999999-digits", "1e3-digits"]
        {
            assert_eq!(other.parse::<ModelPlace>(), Err(ModelPlaceError), "{other}");
        }
    }
}
