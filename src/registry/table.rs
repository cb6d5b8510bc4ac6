//! The table of all models, and of the models in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use super::{DEFAULT_ALIAS, Model, RegistryError};
use crate::model::{ModelEntry, ModelPlace, ModelRef, Selector};
use crate::store::{ModelChanges, PublishedModel};

/// An unknown name is compared with this many names, the newest ones.
const NEAREST_AMONG: usize = 256;

#[derive(Debug, Default)]
pub(super) struct ModelTable {
    /// Models that have at least one version.
    pub(super) by_name: BTreeMap<String, Versions>,
    /// The same models, ordered by the time of their newest version.
    pub(super) by_age: BTreeSet<ModelPlace>,
    /// The revision of the rows that were read most recently.
    pub(super) revision: Option<i64>,
    loaded: HashMap<(String, u32), Loaded>,
    /// Names of the models that this process does not serve until they are loaded again.
    unloaded: HashSet<String>,
    /// All models in memory, whether `loaded` keeps them or only a request uses them, and their sizes in
    /// bytes.
    alive: Vec<(Weak<Model>, u64)>,
    uses: u64,
}

/// The versions and aliases of a model.
#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) published: BTreeMap<u32, PublishedModel>,
    pub(super) aliases: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Loaded {
    model: Arc<Model>,
    last_use: u64,
}

impl Versions {
    pub(super) fn newest(&self) -> Option<&PublishedModel> {
        self.published.last_key_value().map(|(_, version)| version)
    }

    /// Returns the position of the model called `name` in the list, if it has a version.
    pub(super) fn place(&self, name: &str) -> Option<ModelPlace> {
        Some(ModelPlace { published_at: self.newest()?.row.created_at, name: name.to_owned() })
    }

    pub(super) fn entry<'a>(
        &self,
        name: &str,
        versions: impl IntoIterator<Item = &'a PublishedModel>,
    ) -> ModelEntry {
        ModelEntry {
            name: name.to_owned(),
            versions: versions.into_iter().map(|version| version.row.clone()).collect(),
            version_count: self.published.len(),
            aliases: self.aliases.clone(),
        }
    }
}

impl ModelTable {
    pub(super) fn apply(&mut self, changes: ModelChanges) {
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
        self.unloaded.retain(|name| self.by_name.contains_key(name));
        self.revision = Some(changes.revision);
    }

    pub(super) fn is_unloaded(&self, name: &str) -> bool {
        self.unloaded.contains(name)
    }

    /// Drops the weights of all versions of a model. Requests that use them keep them until they end.
    pub(super) fn unload(&mut self, name: &str) {
        self.unloaded.insert(name.to_owned());
        self.loaded.retain(|(of, _), _| of != name);
    }

    pub(super) fn serve_again(&mut self, name: &str) {
        self.unloaded.remove(name);
    }

    pub(super) fn newest_names(&self) -> Vec<String> {
        self.by_age.iter().rev().take(NEAREST_AMONG).map(|place| place.name.clone()).collect()
    }

    pub(super) fn aliases_of(&self, name: &str) -> Vec<String> {
        let aliases = self.by_name.get(name).into_iter().flat_map(|model| model.aliases.keys());
        aliases.take(NEAREST_AMONG).cloned().collect()
    }

    pub(super) fn resolve(&self, reference: &ModelRef) -> Result<&PublishedModel, RegistryError> {
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

    pub(super) fn entry(
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

    pub(super) fn loaded(&mut self, name: &str, version: u32) -> Option<Arc<Model>> {
        self.uses += 1;
        if let Some(loaded) = self.loaded.get_mut(&(name.to_owned(), version)) {
            loaded.last_use = self.uses;
            return Some(Arc::clone(&loaded.model));
        }
        // A request may still use a model that was dropped from `loaded`.
        let mut alive = self.alive.iter().filter_map(|(model, _)| model.upgrade());
        alive.find(|model| model.name == name && model.version == version)
    }

    /// Makes room for a model of `bytes` bytes. Drops the least recently used models that no request uses.
    /// Returns whether that was enough. A single model may exceed the limit.
    pub(super) fn make_room(&mut self, bytes: u64, bytes_max: u64) -> bool {
        // Dropping a model that a request uses would free no memory.
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

    /// Keeps `model` in memory. Drops the least recently used models that exceed the limit.
    pub(super) fn keep(&mut self, model: Arc<Model>, bytes_max: u64) {
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
