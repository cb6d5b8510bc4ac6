//! Models in memory: a reference becomes an `Arc` of weights that nobody changes.
//!
//! What versions there are is known from the start; weights are read when first asked for, and the
//! least recently used are dropped where they pass the limit. Whoever holds an `Arc` keeps it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array2, ArrayView2};

use crate::artifact::{ArtifactError, read_model};
use crate::blobs::{BlobError, Blobs};
use crate::job::JobResult;
use crate::model::{ModelEntry, ModelRef, ModelVersion, Selector};
use crate::nn::{Network, Pool, Predictor};
use crate::store::{PublishedModel, Store, StoreError};

/// The alias that a bare name means, where it is set.
pub const DEFAULT_ALIAS: &str = "default";

/// A handle to the models; clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    blobs: Blobs,
    bytes_max: u64,
    models: Mutex<Models>,
    /// The threads that share a prediction of many images.
    pool: Pool,
    /// Held while weights are read, so that they are read once.
    reading: tokio::sync::Mutex<()>,
    /// Held while rows are read, so that older ones never replace younger ones.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Models {
    published: BTreeMap<String, BTreeMap<u32, PublishedModel>>,
    aliases: BTreeMap<String, BTreeMap<String, u32>>,
    /// Of the rows that were read last.
    revision: i64,
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
    #[error("model {name:?} has no alias {alias:?}{}", did_you_mean(nearest))]
    UnknownAlias {
        /// Its name.
        name: String,
        /// The alias.
        alias: String,
        /// An alias much like it.
        nearest: Option<String>,
    },
    /// The rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its bytes can't be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Its bytes are no model.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Its bytes are damaged or gone.
    #[error("the bytes of {name}@{version} are damaged: {source}")]
    Damaged {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
        /// How.
        source: Box<RegistryError>,
    },
    /// Reading it panicked.
    #[error("reading a model panicked")]
    Panic,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default()
}

impl RegistryError {
    /// Whether the bytes of the model are damaged or missing, for good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_damage(),
            Self::Artifact(_) | Self::Damaged { .. } => true,
            _ => false,
        }
    }
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
        store: Store,
        blobs: Blobs,
        bytes_max: u64,
        threads: usize,
    ) -> Result<Self, StoreError> {
        let registry = Self {
            shared: Arc::new(Shared {
                store,
                blobs,
                bytes_max,
                models: Mutex::default(),
                pool: Pool::new(threads),
                reading: Default::default(),
                refreshing: Default::default(),
            }),
        };
        registry.refresh().await?;
        Ok(registry)
    }

    /// The probability of each class, see [`Predictor::probabilities`]; many images are shared by
    /// threads, one such request at a time.
    pub fn probabilities(&self, model: &Model, x: ArrayView2<f32>) -> Array2<f32> {
        model.predictor.probabilities_on(&self.shared.pool, x)
    }

    /// Serves a model whose row is committed, its weights at hand: the next request for its name gets it, one under
    /// way keeps what it has. Where the row isn't at hand the weights are read when asked for.
    ///
    /// # Errors
    /// Where the rows can't be read: it is then served after the next [`Self::refresh`].
    pub async fn publish(
        &self,
        published: Option<&PublishedModel>,
        network: Network<f32>,
    ) -> Result<(), StoreError> {
        if let Some(published) = published {
            self.models().keep(Model::new(published, network), self.shared.bytes_max);
        }
        self.refresh().await
    }

    /// Serves what the rows say now. Costs next to nothing where they have not changed.
    ///
    /// # Errors
    /// Where they can't be read.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.refreshing.lock().await;
        if self.shared.store.model_revision().await? == self.models().revision {
            return Ok(());
        }
        let rows = self.shared.store.models().await?;
        self.models().replace(rows);
        Ok(())
    }

    /// Whether it serves the version that a job has published.
    pub fn knows(&self, result: &JobResult) -> bool {
        let models = self.models();
        models.published.get(&result.model).is_some_and(|versions| versions.contains_key(&result.version))
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
        let (name, version) = (published.name.clone(), published.row.version);
        let model = match self.read(published).await {
            Err(error) if error.is_damage() => {
                // It may have been deleted since its row was read.
                self.refresh().await?;
                self.version(&ModelRef { name: name.clone(), selector: Selector::Version(version) })?;
                return Err(RegistryError::Damaged { name, version, source: Box::new(error) });
            }
            read => read?,
        };
        self.models().keep(Arc::clone(&model), self.shared.bytes_max);
        Ok(model)
    }

    async fn read(&self, published: PublishedModel) -> Result<Arc<Model>, RegistryError> {
        let bytes = self.shared.blobs.get(&published.blob_key, &published.row.sha256).await?;
        let read = tokio::task::spawn_blocking(move || Ok(Model::new(&published, read_model(&bytes)?.1)));
        read.await.map_err(|_| RegistryError::Panic)?.map_err(RegistryError::Artifact)
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
        Ok(ModelEntry { name: reference.name.clone(), versions, aliases: models.aliases(&reference.name) })
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
                aliases: models.aliases(name),
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
    fn replace(&mut self, rows: crate::store::Models) {
        self.published.clear();
        for model in rows.versions {
            self.published.entry(model.name.clone()).or_default().insert(model.row.version, model);
        }
        self.aliases.clear();
        for (name, alias, version) in rows.aliases {
            self.aliases.entry(name).or_default().insert(alias, version);
        }
        self.revision = rows.revision;
        let published = &self.published;
        self.loaded.retain(|(name, version), _| {
            published.get(name).is_some_and(|versions| versions.contains_key(version))
        });
    }

    fn aliases(&self, name: &str) -> BTreeMap<String, u32> {
        self.aliases.get(name).cloned().unwrap_or_default()
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
        let aliases = self.aliases.get(name);
        let meant = |alias: &str| aliases.and_then(|aliases| aliases.get(alias)).copied();
        let version = match &reference.selector {
            Selector::Default => meant(DEFAULT_ALIAS).unwrap_or(newest.row.version),
            Selector::Version(version) => *version,
            Selector::Alias(alias) => meant(alias).ok_or_else(|| {
                let known: Vec<&str> =
                    aliases.into_iter().flatten().map(|(known, _)| known.as_str()).collect();
                let nearest = crate::fields::nearest(alias, &known).map(str::to_owned);
                RegistryError::UnknownAlias { name: name.clone(), alias: alias.clone(), nearest }
            })?,
        };
        versions.get(&version).ok_or_else(|| RegistryError::UnknownVersion {
            name: name.clone(),
            version,
            newest: newest.row.version,
        })
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
