//! Compares the stored files with the rows that name them.

use std::collections::{HashMap, HashSet};

use crate::blobs::{BlobError, Blobs, PROBE, StoredFile};
use crate::failpoint::{self, Point};
use crate::job::{BlobKey, JobId, JobState};
use crate::store::{BlobRow, JobStanding, Store, StoreError};

/// The stored files, and the rows that name blobs. The files are listed before the rows are read. So a file
/// whose row is not written yet belongs to a job that is still running, or to an upload.
#[derive(Debug)]
pub struct Inventory {
    /// The rows that name a blob.
    pub rows: Vec<BlobRow>,
    files: Vec<StoredFile>,
    jobs: HashMap<JobId, JobStanding>,
}

/// The kind of a file that no row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// No row will ever name it: its job has ended, was deleted, or has a newer attempt, or its writer was a
    /// server that is gone.
    Dead,
    /// Its writer may be about to write its row, or to delete it.
    Alive,
    /// chainrule did not write it.
    Foreign,
}

/// Why the inventory failed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The database can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files can't be listed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Inventory {
    /// Takes the inventory. Servers may write meanwhile.
    ///
    /// # Errors
    /// Returns an error if the files or the rows can't be read.
    pub async fn take(store: &Store, blobs: &Blobs) -> Result<Self, InventoryError> {
        let files = blobs.list().await?;
        let (rows, jobs) = store.blob_rows().await?;
        Ok(Self { rows, files, jobs })
    }

    /// Returns the ids of all jobs.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Returns every file that no row names, and its kind. `is_alone` means that no server uses the
    /// folder.
    pub fn strays(&self, is_alone: bool) -> Vec<(&StoredFile, Stray)> {
        let named: HashSet<&str> = self.rows.iter().map(|row| row.key.as_str()).collect();
        let strays = self.files.iter().filter(|file| file.is_temporary || !named.contains(file.key.as_str()));
        strays.map(|file| (file, self.stray(file, is_alone))).collect()
    }

    fn stray(&self, file: &StoredFile, is_alone: bool) -> Stray {
        let key =
            if file.is_temporary { file.key.rsplit_once('#').map_or("", |(key, _)| key) } else { &file.key };
        let key = BlobKey::named(key).map(|key| key.writer()).or((key == PROBE).then_some(None));
        let Some(writer) = key else { return Stray::Foreign };
        let Some((job, attempt)) = writer else {
            // No row says whether the writer of a probe or an upload is at work.
            return if is_alone { Stray::Dead } else { Stray::Alive };
        };
        let may_be_named = |job: &JobStanding| job.state == JobState::Running && job.attempt == attempt;
        if self.jobs.get(&job).is_some_and(may_be_named) { Stray::Alive } else { Stray::Dead }
    }
}

/// Deletes every file that no row will ever name, and returns the number of files. `is_alone` means that
/// no other server uses the folder.
///
/// # Errors
/// Returns an error if the files or the rows can't be read, or if a file can't be deleted.
pub async fn sweep(store: &Store, blobs: &Blobs, is_alone: bool) -> Result<u64, InventoryError> {
    let inventory = Inventory::take(store, blobs).await?;
    let mut swept = 0;
    for (file, stray) in inventory.strays(is_alone) {
        match stray {
            Stray::Dead => {
                blobs.remove(file).await?;
                failpoint::point(Point::AfterSweepOne);
                swept += 1;
            }
            Stray::Foreign => {
                tracing::debug!(key = file.key, "a file does not belong to chainrule and is left alone")
            }
            Stray::Alive => {}
        }
    }
    Ok(swept)
}
