//! Models in memory: a reference becomes an `Arc` of weights that nobody changes.
//!
//! What versions there are is known from the start; weights are read when first asked for, and the
//! least recently used are dropped where they pass the limit. Whoever holds an `Arc` keeps it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array2, ArrayView2};

use crate::artifact::{ArtifactError, read_model};
use crate::blobs::{BlobError, Blobs};
use crate::model::{ModelEntry, ModelRef, ModelVersion, Selector};
use crate::nn::{Network, Pool, Predictor};
use crate::store::{PublishedModel, Store, StoreError};

/// A handle to the models; clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    blobs: Blobs,
    bytes_max: u64,
    models: Mutex<Models>,
    /// The threads that share a prediction of many images.
    pool: Pool,
    /// Held while weights are read, so that they are read once.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Models {
    published: BTreeMap<String, BTreeMap<u32, PublishedModel>>,
    loaded: HashMap<(String, u32), Loaded>,
    uses: u64,
}

#[derive(Debug)]
struct Loaded {
    model: Arc<Model>,
    last_use: u64,
}

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

/// A model that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no model of that name.
    #[error("there is no model {name:?}{}", did_you_mean(nearest))]
    UnknownModel {
        /// The name.
        name: String,
        /// A name much like it.
        nearest: Option<String>,
    },
    /// The model has no such version.
    #[error("model {name:?} has no version {version}, the newest is {newest}")]
    UnknownVersion {
        /// Its name.
        name: String,
        /// The version.
        version: u32,
        /// The newest one.
        newest: u32,
    },
    /// The model has no such alias.
    #[error("model {name:?} has no alias {alias:?}")]
    UnknownAlias {
        /// Its name.
        name: String,
        /// The alias.
        alias: String,
    },
    /// Its bytes can't be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Its bytes are no model.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Reading it panicked.
    #[error("reading a model panicked")]
    Panic,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
}

impl Model {
    fn new(published: &PublishedModel, network: Network<f32>) -> Arc<Self> {
        Arc::new(Self {
            name: published.name.clone(),
            version: published.row.version,
            classes: published.row.classes.clone(),
            predictor: Predictor::new(network),
        })
    }

    /// Bytes it takes in memory.
    fn memory_bytes(&self) -> u64 {
        self.predictor.memory_bytes() as u64
    }
}

impl Registry {
    /// The models that `store` knows, with weights of `bytes_max` in memory at most, and `threads` for a
    /// prediction of many images.
    ///
    /// # Errors
    /// Where the rows can't be read.
    pub async fn open(
        store: &Store,
        blobs: Blobs,
        bytes_max: u64,
        threads: usize,
    ) -> Result<Self, StoreError> {
        let mut models = Models::default();
        for model in store.models().await? {
            models.insert(model);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                blobs,
                bytes_max,
                models: Mutex::new(models),
                pool: Pool::new(threads),
                reading: Default::default(),
            }),
        })
    }

    /// The probability of each class, see [`Predictor::probabilities`]; many images are shared by
    /// threads, one such request at a time.
    pub fn probabilities(&self, model: &Model, x: ArrayView2<f32>) -> Array2<f32> {
        model.predictor.probabilities_on(&self.shared.pool, x)
    }

    /// Makes a newly published model known, its weights at hand: the next request for its name
    /// gets it, one under way keeps what it has.
    pub fn publish(&self, published: PublishedModel, network: Network<f32>) {
        let model = Model::new(&published, network);
        let mut models = self.models();
        models.insert(published);
        models.keep(model, self.shared.bytes_max);
    }

    /// Takes back a version whose row could not be written after all.
    pub fn withdraw(&self, name: &str, version: u32) {
        let mut models = self.models();
        models.loaded.remove(&(name.to_owned(), version));
        if let Some(versions) = models.published.get_mut(name) {
            versions.remove(&version);
            if versions.is_empty() {
                models.published.remove(name);
            }
        }
    }

    /// The model that `reference` means.
    ///
    /// # Errors
    /// Where there is none, or its bytes can't be read.
    pub async fn get(&self, reference: &ModelRef) -> Result<Arc<Model>, RegistryError> {
        if let Ok(model) = self.at_hand(reference)? {
            return Ok(model);
        }
        let _one_at_a_time = self.shared.reading.lock().await;
        let published = match self.at_hand(reference)? {
            Ok(model) => return Ok(model),
            Err(published) => published,
        };
        let bytes = self.shared.blobs.get(&published.blob_key, &published.row.sha256).await?;
        let read = tokio::task::spawn_blocking(move || Ok(Model::new(&published, read_model(&bytes)?.1)));
        let model = read.await.map_err(|_| RegistryError::Panic)?.map_err(RegistryError::Artifact)?;
        self.models().keep(Arc::clone(&model), self.shared.bytes_max);
        Ok(model)
    }

    /// The model in memory, or what there is to read.
    fn at_hand(&self, reference: &ModelRef) -> Result<Result<Arc<Model>, PublishedModel>, RegistryError> {
        let mut models = self.models();
        let published = models.resolve(reference)?.clone();
        let loaded = models.loaded(&published.name, published.row.version);
        Ok(loaded.ok_or(published))
    }

    /// The version that `reference` means.
    ///
    /// # Errors
    /// Where there is none.
    pub fn version(&self, reference: &ModelRef) -> Result<ModelVersion, RegistryError> {
        Ok(self.models().resolve(reference)?.row.clone())
    }

    /// The model `reference` names: all its versions, or the one that is asked for.
    ///
    /// # Errors
    /// Where there is none.
    pub fn entry(&self, reference: &ModelRef) -> Result<ModelEntry, RegistryError> {
        let models = self.models();
        let version = models.resolve(reference)?;
        let versions = match reference.selector {
            Selector::Default => models.versions(&reference.name),
            Selector::Version(_) | Selector::Alias(_) => vec![version.row.clone()],
        };
        Ok(ModelEntry { name: reference.name.clone(), versions, aliases: BTreeMap::new() })
    }

    /// Every model, the one published last first.
    pub fn entries(&self) -> Vec<ModelEntry> {
        let models = self.models();
        let mut entries: Vec<ModelEntry> = models
            .published
            .keys()
            .map(|name| ModelEntry {
                name: name.clone(),
                versions: models.versions(name),
                aliases: BTreeMap::new(),
            })
            .collect();
        entries
            .sort_by_key(|entry| std::cmp::Reverse(entry.versions.first().map(|version| version.created_at)));
        entries
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        self.shared.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Models {
    fn insert(&mut self, model: PublishedModel) {
        self.published.entry(model.name.clone()).or_default().insert(model.row.version, model);
    }

    fn versions(&self, name: &str) -> Vec<ModelVersion> {
        let versions = self.published.get(name).into_iter().flatten();
        versions.rev().map(|(_, model)| model.row.clone()).collect()
    }

    fn resolve(&self, reference: &ModelRef) -> Result<&PublishedModel, RegistryError> {
        let name = &reference.name;
        let newest =
            self.published.get(name).and_then(|versions| Some((versions, versions.last_key_value()?.1)));
        let Some((versions, newest)) = newest else {
            let names: Vec<&str> = self.published.keys().map(String::as_str).collect();
            let nearest = crate::fields::nearest(name, &names).map(str::to_owned);
            return Err(RegistryError::UnknownModel { name: name.clone(), nearest });
        };
        match &reference.selector {
            Selector::Default => Ok(newest),
            Selector::Version(version) => {
                versions.get(version).ok_or_else(|| RegistryError::UnknownVersion {
                    name: name.clone(),
                    version: *version,
                    newest: newest.row.version,
                })
            }
            Selector::Alias(alias) => {
                Err(RegistryError::UnknownAlias { name: name.clone(), alias: alias.clone() })
            }
        }
    }

    fn loaded(&mut self, name: &str, version: u32) -> Option<Arc<Model>> {
        self.uses += 1;
        let loaded = self.loaded.get_mut(&(name.to_owned(), version))?;
        loaded.last_use = self.uses;
        Some(Arc::clone(&loaded.model))
    }

    /// Keeps `model` in memory, and drops the least recently used others past the limit.
    fn keep(&mut self, model: Arc<Model>, bytes_max: u64) {
        self.uses += 1;
        let key = (model.name.clone(), model.version);
        self.loaded.insert(key.clone(), Loaded { model, last_use: self.uses });
        while self.loaded.values().map(|loaded| loaded.model.memory_bytes()).sum::<u64>() > bytes_max {
            let oldest = self
                .loaded
                .iter()
                .filter(|(other, _)| **other != key)
                .min_by_key(|(_, loaded)| loaded.last_use);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.loaded.remove(&oldest);
        }
    }
}
