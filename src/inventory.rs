//! Files and the rows that name them: which are sound, which are missing, which belong to nobody.

use std::collections::{HashMap, HashSet};

use crate::blobs::{BlobError, Blobs, PROBE, StoredFile};
use crate::fault::{self, Point};
use crate::job::{BlobKey, JobId, JobState};
use crate::store::{BlobRow, JobStanding, Store, StoreError};

/// All files of a folder and all rows that name some, as of one moment; the files were listed before the rows were
/// read, so one that is about to get its row belongs to a job that still runs.
#[derive(Debug)]
pub struct Inventory {
    /// What the rows name.
    pub rows: Vec<BlobRow>,
    files: Vec<StoredFile>,
    jobs: HashMap<JobId, JobStanding>,
}

/// What a file without a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Nobody will ever name it: its job has ended, is gone, or has gone on to another attempt.
    Dead,
    /// A worker may be about to name it.
    Alive,
    /// chainrule has not written it.
    Foreign,
}

/// Why the inventory can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The rows failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Inventory {
    /// Takes it, while others write.
    ///
    /// # Errors
    /// If the folder or the rows can't be read.
    pub async fn take(store: &Store, blobs: &Blobs) -> Result<Self, InventoryError> {
        let files = blobs.list().await?;
        let (rows, jobs) = store.blob_rows().await?;
        Ok(Self { rows, files, jobs })
    }

    /// Every job there is.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Every file that no row names, and what it is; `is_alone` where no server lives on the folder.
    pub fn strays(&self, is_alone: bool) -> Vec<(&StoredFile, Stray)> {
        let named: HashSet<&str> = self.rows.iter().map(|row| row.key.as_str()).collect();
        let strays = self.files.iter().filter(|file| file.is_temporary || !named.contains(file.key.as_str()));
        strays.map(|file| (file, self.stray(file, is_alone))).collect()
    }

    fn stray(&self, file: &StoredFile, is_alone: bool) -> Stray {
        let key =
            if file.is_temporary { file.key.rsplit_once('#').map_or("", |(key, _)| key) } else { &file.key };
        if key == PROBE {
            return if is_alone { Stray::Dead } else { Stray::Alive };
        }
        let Some((job, attempt)) = BlobKey::named(key).map(|key| key.writer()) else { return Stray::Foreign };
        let may_be_named = |job: &JobStanding| job.state == JobState::Running && job.attempt == attempt;
        if self.jobs.get(&job).is_some_and(may_be_named) { Stray::Alive } else { Stray::Dead }
    }
}

/// Removes every file that is surely dead; returns how many. `is_alone` where no other server lives on the folder.
///
/// # Errors
/// If the folder or the rows can't be read.
pub async fn sweep(store: &Store, blobs: &Blobs, is_alone: bool) -> Result<u64, InventoryError> {
    let inventory = Inventory::take(store, blobs).await?;
    let mut swept = 0;
    for (file, stray) in inventory.strays(is_alone) {
        match stray {
            Stray::Dead => {
                blobs.remove(file).await?;
                fault::point(Point::AfterSweepOne);
                swept += 1;
            }
            Stray::Foreign => tracing::debug!(key = file.key, "a file is not chainrule's and is left alone"),
            Stray::Alive => {}
        }
    }
    Ok(swept)
}
