//! Models in memory: a reference resolves to an `Arc` of weights that never change.
//!
//! All versions are known from the start. Weights are loaded on demand. Beyond the memory limit, the least
//! recently used weights are dropped. An `Arc` that is in use stays valid.

mod error;
mod loaded;
mod table;

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView2};

pub use self::error::RegistryError;
pub use self::loaded::Model;

use self::table::ModelTable;
use crate::artifact::read_model;
use crate::blobs::Blobs;
use crate::job::JobResult;
use crate::model::{ModelEntry, ModelPlace, ModelRef, ModelVersion, Selector};
use crate::nn::{Network, ThreadPool};
use crate::priority::Priority;
use crate::store::{PublishedModel, Store, StoreError};

/// The alias that a bare name refers to, if it is set.
pub const DEFAULT_ALIAS: &str = "default";

/// A handle to the models. Clones share them.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    blobs: Blobs,
    bytes_max: u64,
    models: Mutex<ModelTable>,
    /// The threads that share a prediction of many images.
    pool: ThreadPool,
    threads: usize,
    /// Held while a model is loaded, so that concurrent requests load it once.
    reading: tokio::sync::Mutex<()>,
    /// Held while rows are read, so that older rows never replace newer ones.
    refreshing: tokio::sync::Mutex<()>,
}

/// Bytes in memory per byte of a model's file: the original weights, the folded weights, and the weights
/// packed for products.
const BYTES_PER_BYTE: u64 = 3;

/// How long to wait until requests release models and there is memory for another one, and the pause between
/// two checks.
const ROOM_WAIT: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// Starts the threads that share a prediction of many images. They have a lower priority, since small
/// predictions don't wait for them.
fn long_pool(threads: usize) -> ThreadPool {
    let start = || {
        // The pool's threads inherit the priority of the thread that starts them.
        Priority::LongWork.lower();
        ThreadPool::new(threads)
    };
    std::thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|_| ThreadPool::new(threads))
}

impl Registry {
    /// Opens the registry of the models in `store`. At most `bytes_max` bytes of weights stay in memory.
    /// `threads` threads share a prediction of many images.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
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
                pool: long_pool(threads),
                threads,
                reading: Default::default(),
                refreshing: Default::default(),
            }),
        };
        registry.refresh().await?;
        Ok(registry)
    }

    /// Returns how many threads share a prediction of many images.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Returns the probability of each class; see
    /// [`Predictor::probabilities`](crate::nn::Predictor::probabilities). For many images, threads share the
    /// work, for one request at a time.
    pub fn probabilities(&self, model: &Model, x: ArrayView2<f32>) -> Array2<f32> {
        model.predictor.probabilities_on(&self.shared.pool, x)
    }

    /// Serves a model whose row is committed, with the weights that are still in memory. Later requests for
    /// its name use it; requests in progress keep their model. If `published` is `None`, this only refreshes
    /// the registry, and the weights are loaded on demand.
    ///
    /// # Errors
    /// Returns an error if the database can't be read. The model is then served after the next
    /// [`Self::refresh`].
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

    /// Updates the registry from the database. This is cheap if nothing has changed.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.refreshing.lock().await;
        let known = self.models().revision;
        if Some(self.shared.store.model_revision().await?) == known {
            return Ok(());
        }
        let changes = self.shared.store.model_changes(known.unwrap_or(-1)).await?;
        self.models().apply(changes);
        Ok(())
    }

    /// Returns whether the registry serves the version that a job has published.
    pub fn knows(&self, result: &JobResult) -> bool {
        let models = self.models();
        models.by_name.get(&result.model).is_some_and(|model| model.published.contains_key(&result.version))
    }

    /// Returns the model that `reference` refers to, if it is in memory.
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn at_hand(&self, reference: &ModelRef) -> Result<Option<Arc<Model>>, RegistryError> {
        Ok(self.find(reference)?.ok())
    }

    /// Returns the model that `reference` refers to, loading it if necessary. Loading continues even if the
    /// client disconnects, so that several requests load a model once. `held` is dropped when loading ends.
    ///
    /// # Errors
    /// Returns an error if there is no such model, if its file can't be read, or if there is no memory for
    /// it.
    pub async fn get(
        &self,
        reference: &ModelRef,
        held: impl Send + 'static,
    ) -> Result<Arc<Model>, RegistryError> {
        if let Some(model) = self.at_hand(reference)? {
            return Ok(model);
        }
        let (registry, reference) = (self.clone(), reference.clone());
        let reading = tokio::spawn(async move {
            let _held = held;
            let deadline = Instant::now() + ROOM_WAIT;
            loop {
                match registry.load(&reference).await {
                    Err(RegistryError::InUse) if Instant::now() < deadline => {
                        tokio::time::sleep(ROOM_PAUSE).await;
                    }
                    loaded => return loaded,
                }
            }
        });
        reading.await.map_err(|_| RegistryError::Panic)?
    }

    async fn load(&self, reference: &ModelRef) -> Result<Arc<Model>, RegistryError> {
        let _one_at_a_time = self.shared.reading.lock().await;
        let published = match self.find(reference)? {
            Ok(model) => return Ok(model),
            Err(published) => published,
        };
        let bytes = BYTES_PER_BYTE * published.row.size_bytes;
        if !self.models().make_room(bytes, self.shared.bytes_max) {
            return Err(RegistryError::InUse);
        }
        let (name, version) = (published.name.clone(), published.row.version);
        let model = match self.read(published).await {
            Err(error) if error.is_damage() => {
                // The version may have been deleted since its row was read.
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

    /// Returns the model if it is in memory, or else the row to load it from.
    fn find(&self, reference: &ModelRef) -> Result<Result<Arc<Model>, PublishedModel>, RegistryError> {
        let found = {
            let mut models = self.models();
            match models.resolve(reference).map(|published| published.row.version) {
                Ok(version) => match models.loaded(&reference.name, version) {
                    Some(model) => Ok(Ok(model)),
                    None => models.resolve(reference).cloned().map(Err),
                },
                Err(error) => Err(error),
            }
        };
        found.map_err(|error| self.with_hint(error))
    }

    /// Returns the number of all versions of all models.
    pub fn version_count(&self) -> usize {
        self.models().by_name.values().map(|model| model.published.len()).sum()
    }

    /// Returns the version that `reference` refers to.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn version(&self, reference: &ModelRef) -> Result<ModelVersion, RegistryError> {
        let found = self.models().resolve(reference).map(|published| published.row.clone());
        found.map_err(|error| self.with_hint(error))
    }

    /// Adds the most similar name to an error about an unknown one. Compares the names without holding the
    /// lock.
    fn with_hint(&self, error: RegistryError) -> RegistryError {
        let nearest = |name: &str, known: Vec<String>| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            crate::fields::nearest(name, &known).map(str::to_owned)
        };
        match error {
            RegistryError::UnknownModel { name, .. } => {
                let known = self.models().newest_names();
                RegistryError::UnknownModel { nearest: nearest(&name, known), name }
            }
            RegistryError::UnknownAlias { name, alias, .. } => {
                let known = self.models().aliases_of(&name);
                RegistryError::UnknownAlias { nearest: nearest(&alias, known), name, alias }
            }
            error => error,
        }
    }

    /// Returns the model of a reference with the version it refers to. For a bare name, returns up to `limit`
    /// versions older than `before`, newest first. If there are more, also returns the number of the last
    /// one.
    ///
    /// # Errors
    /// Returns an error if there is no such model.
    pub fn entry(
        &self,
        reference: &ModelRef,
        before: Option<u32>,
        limit: usize,
    ) -> Result<(ModelEntry, Option<u32>), RegistryError> {
        let found = self.models().entry(reference, before, limit);
        found.map_err(|error| self.with_hint(error))
    }

    /// Returns a page of up to `limit` models after `after` with their newest versions, last published first.
    /// If there are more, also returns the place of the last one.
    pub fn page(&self, after: Option<&ModelPlace>, limit: usize) -> (Vec<ModelEntry>, Option<ModelPlace>) {
        let models = self.models();
        let end = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut places = models.by_age.range((Bound::Unbounded, end)).rev();
        let mut last = None;
        let mut entries = Vec::new();
        for place in places.by_ref().take(limit) {
            last = Some(place);
            let model = models.by_name.get(&place.name);
            entries.extend(model.map(|model| model.entry(&place.name, model.newest())));
        }
        let next = if places.next().is_some() { last.cloned() } else { None };
        (entries, next)
    }

    /// Returns the newest version of a model.
    pub fn newest(&self, name: &str) -> Option<u32> {
        Some(self.models().by_name.get(name)?.newest()?.row.version)
    }

    fn models(&self) -> MutexGuard<'_, ModelTable> {
        self.shared.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
