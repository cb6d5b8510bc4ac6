//! Models in memory: a reference becomes an `Arc` of weights that nobody changes.
//!
//! What versions there are is known from the start; weights are read when first asked for, and the
//! least recently used are dropped where they pass the limit. Whoever holds an `Arc` keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayView2};

use crate::artifact::{ArtifactError, read_model};
use crate::blobs::{BlobError, Blobs};
use crate::job::JobResult;
use crate::model::{ModelEntry, ModelPlace, ModelRef, ModelVersion, Selector};
use crate::nn::{Network, Pool, Predictor};
use crate::priority::Priority;
use crate::store::{ModelChanges, PublishedModel, Store, StoreError};

/// The alias that a bare name means, where it is set.
pub const DEFAULT_ALIAS: &str = "default";

/// Names, the newest, among which one much like an unknown one is looked for.
const NEAREST_AMONG: usize = 256;

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

#[derive(Debug, Default)]
struct Models {
    /// Each has a version.
    by_name: BTreeMap<String, Versions>,
    /// All of `by_name`.
    by_age: BTreeSet<ModelPlace>,
    /// Of the rows that were read last.
    revision: Option<i64>,
    loaded: HashMap<(String, u32), Loaded>,
    /// All that were loaded and that somebody still holds, and their bytes.
    alive: Vec<(Weak<Model>, u64)>,
    uses: u64,
}

/// A model's versions and aliases.
#[derive(Debug, Default)]
struct Versions {
    published: BTreeMap<u32, PublishedModel>,
    aliases: BTreeMap<String, u32>,
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
    /// Requests hold as many others as may be in memory.
    #[error("models of other requests fill the memory for models")]
    InUse,
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

    /// The probability of each class, see [`Predictor::probabilities`]; many images are shared by
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

impl Versions {
    fn newest(&self) -> Option<&PublishedModel> {
        self.published.last_key_value().map(|(_, version)| version)
    }

    /// Where the model called `name` stands in the list, if it has a version.
    fn place(&self, name: &str) -> Option<ModelPlace> {
        Some(ModelPlace { published_at: self.newest()?.row.created_at, name: name.to_owned() })
    }

    fn entry<'a>(&self, name: &str, versions: impl IntoIterator<Item = &'a PublishedModel>) -> ModelEntry {
        ModelEntry {
            name: name.to_owned(),
            versions: versions.into_iter().map(|version| version.row.clone()).collect(),
            version_count: self.published.len(),
            aliases: self.aliases.clone(),
        }
    }
}

impl Models {
    fn apply(&mut self, changes: ModelChanges) {
        for (name, change) in changes.models {
            let mut model = self.by_name.remove(&name).unwrap_or_default();
            if let Some(place) = model.place(&name) {
                self.by_age.remove(&place);
            }
            model.published.retain(|number, _| change.numbers.contains(number));
            model
                .published
                .extend(change.published.into_iter().map(|version| (version.row.version, version)));
            model.aliases = change.aliases;
            self.loaded.retain(|(of, number), _| *of != name || model.published.contains_key(number));
            if let Some(place) = model.place(&name) {
                self.by_age.insert(place);
                self.by_name.insert(name, model);
            }
        }
        self.revision = Some(changes.revision);
    }

    fn newest_names(&self) -> Vec<String> {
        self.by_age.iter().rev().take(NEAREST_AMONG).map(|place| place.name.clone()).collect()
    }

    fn aliases_of(&self, name: &str) -> Vec<String> {
        let aliases = self.by_name.get(name).into_iter().flat_map(|model| model.aliases.keys());
        aliases.take(NEAREST_AMONG).cloned().collect()
    }

    fn resolve(&self, reference: &ModelRef) -> Result<&PublishedModel, RegistryError> {
        let name = &reference.name;
        let model = self.by_name.get(name).and_then(|model| Some((model, model.newest()?)));
        let (model, newest) =
            model.ok_or_else(|| RegistryError::UnknownModel { name: name.clone(), nearest: None })?;
        let meant = |alias: &str| model.aliases.get(alias).copied();
        let version = match &reference.selector {
            Selector::Default => meant(DEFAULT_ALIAS).unwrap_or(newest.row.version),
            Selector::Version(version) => *version,
            Selector::Alias(alias) => meant(alias).ok_or_else(|| RegistryError::UnknownAlias {
                name: name.clone(),
                alias: alias.clone(),
                nearest: None,
            })?,
        };
        model.published.get(&version).ok_or_else(|| RegistryError::UnknownVersion {
            name: name.clone(),
            version,
            newest: newest.row.version,
        })
    }

    fn entry(
        &self,
        reference: &ModelRef,
        before: Option<u32>,
        limit: usize,
    ) -> Result<(ModelEntry, Option<u32>), RegistryError> {
        let version = self.resolve(reference)?;
        let Some(model) = self.by_name.get(&reference.name) else {
            return Err(RegistryError::UnknownModel { name: reference.name.clone(), nearest: None });
        };
        if reference.selector != Selector::Default {
            return Ok((model.entry(&reference.name, [version]), None));
        }
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let older = model.published.range((Bound::Unbounded, end)).rev();
        let mut older = older.map(|(_, version)| version);
        let entry = model.entry(&reference.name, older.by_ref().take(limit));
        let last = entry.versions.last().map(|version| version.version);
        let next = if older.next().is_some() { last } else { None };
        Ok((entry, next))
    }

    fn loaded(&mut self, name: &str, version: u32) -> Option<Arc<Model>> {
        self.uses += 1;
        if let Some(loaded) = self.loaded.get_mut(&(name.to_owned(), version)) {
            loaded.last_use = self.uses;
            return Some(Arc::clone(&loaded.model));
        }
        // A request may hold it still.
        let mut alive = self.alive.iter().filter_map(|(model, _)| model.upgrade());
        alive.find(|model| model.name == name && model.version == version)
    }

    /// Makes room for a model of so many bytes beside those that somebody holds, by dropping the least recently used ones;
    /// whether it could. One alone may be larger than all the room there is.
    fn make_room(&mut self, bytes: u64, bytes_max: u64) -> bool {
        // One that a request holds gives no room.
        let is_free = |loaded: &Loaded| Arc::strong_count(&loaded.model) == 1;
        let free = self.loaded.values().filter(|loaded| is_free(loaded));
        let free: u64 = free.map(|loaded| loaded.model.memory_bytes()).sum();
        self.alive.retain(|(model, _)| model.strong_count() > 0);
        let mut held: u64 = self.alive.iter().map(|(_, bytes)| bytes).sum();
        if held > free && held - free + bytes > bytes_max {
            return false;
        }
        while held > 0 && held + bytes > bytes_max {
            let oldest = self.least_recently_used(|_, loaded| is_free(loaded));
            let Some(gone) = oldest.and_then(|oldest| self.loaded.remove(&oldest)) else { return false };
            held -= gone.model.memory_bytes();
        }
        true
    }

    /// Keeps `model` in memory, and drops the least recently used others past the limit.
    fn keep(&mut self, model: Arc<Model>, bytes_max: u64) {
        self.uses += 1;
        let key = (model.name.clone(), model.version);
        self.alive.push((Arc::downgrade(&model), model.memory_bytes()));
        self.loaded.insert(key.clone(), Loaded { model, last_use: self.uses });
        while self.loaded.values().map(|loaded| loaded.model.memory_bytes()).sum::<u64>() > bytes_max {
            let Some(oldest) = self.least_recently_used(|other, _| *other != key) else { return };
            self.loaded.remove(&oldest);
        }
        self.alive.retain(|(model, _)| model.strong_count() > 0);
    }

    fn least_recently_used(
        &self,
        is_of_interest: impl Fn(&(String, u32), &Loaded) -> bool,
    ) -> Option<(String, u32)> {
        let others = self.loaded.iter().filter(|(key, loaded)| is_of_interest(key, loaded));
        others.min_by_key(|(_, loaded)| loaded.last_use).map(|(key, _)| key.clone())
    }
}
