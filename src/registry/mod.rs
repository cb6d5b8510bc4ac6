//! Models in memory: a reference becomes an `Arc` of weights that nobody changes.
//!
//! What versions there are is known from the start; weights are read when first asked for, and the
//! least recently used are dropped where they pass the limit. Whoever holds an `Arc` keeps it.

mod error;
mod loaded;
mod table;

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView2};

pub use self::error::RegistryError;
pub use self::loaded::Model;

use self::table::Models;
use crate::artifact::read_model;
use crate::blobs::Blobs;
use crate::job::JobResult;
use crate::model::{ModelEntry, ModelPlace, ModelRef, ModelVersion, Selector};
use crate::nn::{Network, Pool};
use crate::priority::Priority;
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
    threads: usize,
    /// Held while weights are read, so that they are read once.
    reading: tokio::sync::Mutex<()>,
    /// Held while rows are read, so that older ones never replace younger ones.
    refreshing: tokio::sync::Mutex<()>,
}

/// Bytes of a model in memory for a byte of its file: its weights as they are, folded, and as products read them.
const BYTES_PER_BYTE: u64 = 3;

/// How long one waits for requests to give up models, so that there is room for another, and between two looks.
const ROOM_WAIT: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// Threads that predictions of many images are shared by: those of few don't wait for them, so they yield to the ones that serve.
fn long_pool(threads: usize) -> Pool {
    let start = || {
        // The threads of the pool have the priority of the one that starts them.
        Priority::LongWork.lower();
        Pool::new(threads)
    };
    std::thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|_| Pool::new(threads))
}

impl Registry {
    /// The models that `store` knows, with weights of `bytes_max` in memory at most, and `threads` for a
    /// prediction of many images.
    ///
    /// # Errors
    /// If the rows can't be read.
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

    /// How many threads share a prediction of many images.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// The probability of each class, see [`Predictor::probabilities`](crate::nn::Predictor::probabilities); many images are shared by
    /// threads, one such request at a time.
    pub fn probabilities(&self, model: &Model, x: ArrayView2<f32>) -> Array2<f32> {
        model.predictor.probabilities_on(&self.shared.pool, x)
    }

    /// Serves a model whose row is committed, its weights at hand: the next request for its name gets it, one under
    /// way keeps what it has. Where the row isn't at hand the weights are read when asked for.
    ///
    /// # Errors
    /// If the rows can't be read: it is then served after the next [`Self::refresh`].
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
    /// If they can't be read.
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

    /// Whether it serves the version that a job has published.
    pub fn knows(&self, result: &JobResult) -> bool {
        let models = self.models();
        models.by_name.get(&result.model).is_some_and(|model| model.published.contains_key(&result.version))
    }

    /// The model that `reference` means, if it is in memory.
    ///
    /// # Errors
    /// If there is none.
    pub fn at_hand(&self, reference: &ModelRef) -> Result<Option<Arc<Model>>, RegistryError> {
        Ok(self.find(reference)?.ok())
    }

    /// The model that `reference` means, read if need be. `held` is dropped when that is done: it is read to its end
    /// though the client hangs up, so that many who do have it read once.
    ///
    /// # Errors
    /// If there is none, its bytes can't be read, or there is no memory for it.
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

    /// The version that `reference` means.
    ///
    /// # Errors
    /// If there is none.
    pub fn version(&self, reference: &ModelRef) -> Result<ModelVersion, RegistryError> {
        let found = self.models().resolve(reference).map(|published| published.row.clone());
        found.map_err(|error| self.with_hint(error))
    }

    /// The same error with a name much like the one that is unknown. Names are compared while nobody waits for the models.
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

    /// The model that `reference` names, with the version that is asked for; or, where only a name is given, with `limit` of
    /// its versions, newest first, those older than `before`, and the last of them where there are more.
    ///
    /// # Errors
    /// If there is none.
    pub fn entry(
        &self,
        reference: &ModelRef,
        before: Option<u32>,
        limit: usize,
    ) -> Result<(ModelEntry, Option<u32>), RegistryError> {
        let found = self.models().entry(reference, before, limit);
        found.map_err(|error| self.with_hint(error))
    }

    /// Models with their newest version, the one published last first: `limit` at most behind `after`, and the place of the last
    /// one where there are more.
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

    /// The newest version of a model that can be served.
    pub fn newest(&self, name: &str) -> Option<u32> {
        Some(self.models().by_name.get(name)?.newest()?.row.version)
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        self.shared.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
