//! Checks and repairs a data folder: the pages of its database, its rows, and the blobs that they name.

mod blob;
mod finding;
mod repair;

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

pub use finding::FolderFinding;
pub use repair::{RepairError, repair};

use self::blob::{Trouble, examine, rebuilt};
use crate::blobs::{Blobs, StoredFile};
use crate::inventory::{Inventory, InventoryError, Stray};
use crate::store::{BlobOwner, BlobRow, Models, PublishedModel, Store, StoreError};

/// How long to wait before an orphan is confirmed. A server deletes the row first and the file right
/// after.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct FolderReport {
    /// All findings, faults and others.
    pub findings: Vec<FolderFinding>,
    /// The numbers of jobs, models and checkpoints.
    pub counts: FolderCounts,
}

/// How much a data folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderCounts {
    /// Rows of jobs in any state.
    pub jobs: usize,
    /// Versions of all models.
    pub models: usize,
    /// Checkpoints of all jobs.
    pub checkpoints: usize,
}

impl FolderCounts {
    /// Counts the rows of an inventory.
    pub fn of(inventory: &Inventory) -> Self {
        let is_model = |row: &&BlobRow| matches!(row.owner, BlobOwner::Model { .. });
        let models = inventory.rows.iter().filter(is_model).count();
        Self { jobs: inventory.jobs().len(), models, checkpoints: inventory.rows.len() - models }
    }
}

impl FolderReport {
    /// Returns the findings that mean that the folder is not sound.
    pub fn faults(&self) -> impl Iterator<Item = &FolderFinding> {
        self.findings.iter().filter(|finding| finding.is_fault())
    }

    /// Returns whether there are no faults.
    pub fn is_sound(&self) -> bool {
        self.faults().next().is_none()
    }
}

/// Checks a folder. Servers may use it at the same time. `is_alone` means that none does.
///
/// # Errors
/// Returns an error if the folder can't be read. Damaged rows are findings, not errors.
pub async fn check(store: &Store, blobs: &Blobs, is_alone: bool) -> Result<FolderReport, InventoryError> {
    let mut report = FolderReport::default();
    match store.integrity().await {
        Ok(lines) => report.findings.extend(lines.into_iter().map(FolderFinding::Pages)),
        Err(error) => report.findings.push(FolderFinding::Pages(error.to_string())),
    }
    match look(store, blobs, is_alone, &mut report).await {
        Err(InventoryError::Store(error)) => report.findings.push(FolderFinding::Rows(error.to_string())),
        looked => looked?,
    }
    Ok(report)
}

async fn look(
    store: &Store,
    blobs: &Blobs,
    is_alone: bool,
    report: &mut FolderReport,
) -> Result<(), InventoryError> {
    let inventory = Inventory::take(store, blobs).await?;
    report.counts = FolderCounts::of(&inventory);
    for id in inventory.jobs() {
        match store.job(id).await {
            Err(error @ StoreError::Row { .. }) => {
                report.findings.push(FolderFinding::Rows(error.to_string()))
            }
            found => _ = found?,
        }
    }

    let models = store.models().await?;
    let of_row = by_version(&models);
    let mut suspects = Vec::new();
    for row in &inventory.rows {
        if let Some(trouble) = examine(store, blobs, row, &of_row).await? {
            suspects.push((row, trouble));
        }
    }
    if !suspects.is_empty() {
        // A row that a server has deleted during the check is not a fault.
        let (now, _) = store.blob_rows().await?;
        suspects.retain(|(row, _)| now.contains(row));
    }
    for (row, trouble) in suspects {
        report.findings.push(match trouble {
            Trouble::Unreadable(why) => FolderFinding::Unreadable { owner: row.owner.clone(), why },
            Trouble::Lost(why) => lost(store, blobs, row, why, &models, &of_row).await?,
        });
    }
    strays(store, blobs, &inventory, is_alone, report).await?;
    if let Some(folder) = blobs.folder() {
        report.findings.extend(folder.damaged().await?.into_iter().map(FolderFinding::SetAside));
    }
    Ok(())
}

type ByVersion<'a> = HashMap<(&'a str, u32), &'a PublishedModel>;

fn by_version(models: &Models) -> ByVersion<'_> {
    models.versions.iter().map(|model| ((model.name.as_str(), model.row.version), model)).collect()
}

/// Makes the finding for a blob whose bytes are lost.
async fn lost(
    store: &Store,
    blobs: &Blobs,
    row: &BlobRow,
    why: String,
    models: &Models,
    of_row: &ByVersion<'_>,
) -> Result<FolderFinding, StoreError> {
    Ok(match &row.owner {
        BlobOwner::Checkpoint { job, step } => {
            FolderFinding::Checkpoint { job: *job, step: *step, key: row.key.clone(), why }
        }
        BlobOwner::Model { name, version } => {
            let can_be_rebuilt = match of_row.get(&(name.as_str(), *version)) {
                Some(model) => rebuilt(store, blobs, model).await?.is_some(),
                None => false,
            };
            let aliases = models.aliases.iter().filter(|(of, _, means)| of == name && means == version);
            let aliases = aliases.map(|(_, alias, _)| alias.clone()).collect();
            let (name, version, key) = (name.clone(), *version, row.key.clone());
            FolderFinding::Model { name, version, key, aliases, can_be_rebuilt, why }
        }
    })
}

async fn strays(
    store: &Store,
    blobs: &Blobs,
    inventory: &Inventory,
    is_alone: bool,
    report: &mut FolderReport,
) -> Result<(), InventoryError> {
    let mut dead: Vec<StoredFile> = Vec::new();
    for (file, stray) in inventory.strays(is_alone) {
        match stray {
            Stray::Foreign => report.findings.push(FolderFinding::Foreign(file.clone())),
            Stray::Dead => dead.push(file.clone()),
            // No worker is alive that could still name the file.
            Stray::Alive if is_alone => dead.push(file.clone()),
            Stray::Alive => {}
        }
    }
    if !is_alone && !dead.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        let again = Inventory::take(store, blobs).await?;
        let again = again.strays(is_alone);
        dead.retain(|file| again.contains(&(file, Stray::Dead)));
    }
    report.findings.extend(dead.into_iter().map(FolderFinding::Stray));
    Ok(())
}
