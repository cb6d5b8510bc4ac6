//! What a disk may contain after a power cut, with no more guarantees than POSIX gives.
//!
//! The data of a file is durable once the file was synced, and a name once its folder was synced. Any part of
//! the later changes may have reached the disk: any pages of a write, a page up to any sector, the changes of
//! names up to any point.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::log::Operation;
use crate::random::Random;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Which unsynced changes reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    All,
    Some,
}

/// One of the states that a cut may leave.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub bytes: Kept,
    pub names: Kept,
    pub seed: u64,
}

type Id = usize;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate { size: usize },
}

/// A change of names: one entry is removed and one added, atomically.
#[derive(Clone, Debug)]
struct Entry {
    goes: Option<(Id, String)>,
    comes: Option<(Id, String, Id)>,
}

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

/// The entries of each folder.
type Names = HashMap<Id, BTreeMap<String, Id>>;

/// Whether the sync of a path counts; the second argument says whether it is a folder.
pub type Syncs = fn(&str, bool) -> bool;

/// A disk after a number of operations.
pub struct Disk {
    files: HashMap<Id, File>,
    now: Names,
    durable: Names,
    /// Changes of names since the last sync of their folders.
    unsynced: Vec<Entry>,
    /// The newest file with each inode number. The system reuses the numbers of deleted files.
    numbers: HashMap<u64, Id>,
    syncs: Syncs,
}

/// The watched folder.
const ROOT: Id = 0;

impl Disk {
    /// An empty folder, which is itself durable.
    pub fn new(syncs: Syncs) -> Self {
        let root = Names::from([(ROOT, BTreeMap::new())]);
        Self {
            files: HashMap::new(),
            now: root.clone(),
            durable: root,
            unsynced: Vec::new(),
            numbers: HashMap::new(),
            syncs,
        }
    }

    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { path, inode } => {
                let id = self.new_id();
                self.files.insert(id, File::default());
                self.numbers.insert(*inode, id);
                self.enter(None, Some((path, id)));
            }
            Operation::Write { inode, offset, data, .. } => {
                self.change(*inode, Change::Write { offset: *offset, data: data.clone() });
            }
            Operation::Truncate { inode, size } => self.change(*inode, Change::Truncate { size: *size }),
            Operation::Sync { path, inode } => self.sync(path, *inode),
            Operation::Rename { path, to } => {
                let id = self.find(path).expect("a name to be changed");
                self.enter(Some(path), Some((to, id)));
            }
            Operation::Link { path, to } => {
                let id = self.find(path).expect("a file to be linked");
                self.enter(None, Some((to, id)));
            }
            Operation::Unlink { path } | Operation::RemoveFolder { path } => self.enter(Some(path), None),
            Operation::MakeFolder { path } => {
                let id = self.new_id();
                self.now.insert(id, BTreeMap::new());
                self.durable.insert(id, BTreeMap::new());
                self.enter(None, Some((path, id)));
            }
            Operation::Answer { .. } | Operation::Request { .. } => {}
        }
    }

    /// Writes what the disk contains after a cut into `target`, which is empty.
    pub fn lay(&self, target: &Path, variant: Variant) {
        let mut random = Random::new(variant.seed);
        let mut names = self.durable.clone();
        let kept = match variant.names {
            Kept::Nothing => 0,
            Kept::All => self.unsynced.len(),
            Kept::Some => random.below(self.unsynced.len() + 1),
        };
        for entry in &self.unsynced[..kept] {
            entry.apply(&mut names);
        }
        let mut open = vec![(ROOT, target.to_owned())];
        while let Some((id, path)) = open.pop() {
            for (name, inner) in &names[&id] {
                let path = path.join(name);
                match self.files.get(inner) {
                    Some(file) => {
                        let bytes = file.after_a_cut(variant.bytes, &mut random);
                        std::fs::write(&path, bytes).expect("a file");
                    }
                    None => {
                        std::fs::create_dir(&path).expect("a folder");
                        open.push((*inner, path));
                    }
                }
            }
        }
    }

    fn new_id(&self) -> Id {
        self.files.len() + self.now.len()
    }

    /// Returns what a path refers to now.
    fn find(&self, path: &str) -> Option<Id> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |id, part| self.now.get(&id)?.get(part).copied())
    }

    fn place(&self, path: &str) -> (Id, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.find(folder).unwrap_or_else(|| panic!("{path} lies in no folder")), name.to_owned())
    }

    fn enter(&mut self, goes: Option<&str>, comes: Option<(&str, Id)>) {
        let goes = goes.map(|path| self.place(path));
        let comes = comes.map(|(path, id)| {
            let (folder, name) = self.place(path);
            (folder, name, id)
        });
        let entry = Entry { goes, comes };
        entry.apply(&mut self.now);
        self.unsynced.push(entry);
    }

    fn change(&mut self, number: u64, change: Change) {
        let id = self.numbers.get(&number).expect("a file that the log has seen made");
        self.files.get_mut(id).expect("a file").unsynced.push(change);
    }

    fn sync(&mut self, path: &str, number: u64) {
        let folder = self.find(path).filter(|id| self.now.contains_key(id));
        if !(self.syncs)(path, folder.is_some()) {
            return;
        }
        if let Some(id) = folder {
            let durable = &mut self.durable;
            self.unsynced.retain(|entry| {
                let is_synced = entry.touches(id);
                if is_synced {
                    entry.apply(durable);
                }
                !is_synced
            });
        } else if let Some(id) = self.numbers.get(&number) {
            self.files.get_mut(id).expect("a file").sync();
        }
    }
}

impl Entry {
    fn touches(&self, folder: Id) -> bool {
        self.goes.as_ref().is_some_and(|(id, _)| *id == folder)
            || self.comes.as_ref().is_some_and(|(id, ..)| *id == folder)
    }

    fn apply(&self, names: &mut Names) {
        if let Some((folder, name)) = &self.goes {
            names.get_mut(folder).expect("a folder").remove(name);
        }
        if let Some((folder, name, id)) = &self.comes {
            names.get_mut(folder).expect("a folder").insert(name.clone(), *id);
        }
    }
}

impl File {
    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn after_a_cut(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.unsynced {
            match (kept, change) {
                (Kept::Nothing, _) => {}
                (Kept::All, change) => change.apply(&mut bytes),
                (Kept::Some, Change::Write { offset, data }) => write_some(&mut bytes, *offset, data, random),
                (Kept::Some, Change::Truncate { .. }) => {
                    if random.one_in(2) {
                        change.apply(&mut bytes);
                    }
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write(bytes, *offset, data),
            Self::Truncate { size } => bytes.resize(*size, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

/// Writes some of the pages of `data`. Writes some pages only up to a sector, or only from a sector on.
fn write_some(bytes: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut Random) {
    let mut start = offset;
    let end = offset + data.len();
    while start < end {
        let page_end = end.min((start / PAGE + 1) * PAGE);
        if random.one_in(2) {
            let (mut from, mut to) = (start, page_end);
            if random.one_in(4) {
                let sector = (start / SECTOR + 1 + random.below(PAGE / SECTOR)) * SECTOR;
                let torn = sector.clamp(start, page_end);
                if random.one_in(2) { to = torn } else { from = torn }
            }
            write(bytes, from, &data[from - offset..to - offset]);
        }
        start = page_end;
    }
}
