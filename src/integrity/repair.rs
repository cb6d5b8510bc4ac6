use super::blob::rebuilt;
use super::finding::counted;
use super::{FolderFinding, FolderReport, by_version};
use crate::blobs::{BlobError, Blobs};
use crate::store::{BlobOwner, Dropped, Store, StoreError};

/// Why a repair failed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The database is damaged, so its rows can't be trusted.
    #[error("the database is damaged, and rows can't be rebuilt")]
    Database,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob could not be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Repairs the faults of `report`. No other process may use the folder. Returns one sentence for each
/// repair.
///
/// # Errors
/// Returns an error if the pages or rows of the database are damaged. In that case nothing was changed. Also
/// returns an error if a row or blob can't be written. A second repair then continues where this one
/// stopped.
pub async fn repair(store: &Store, blobs: &Blobs, report: &FolderReport) -> Result<Vec<String>, RepairError> {
    if report
        .findings
        .iter()
        .any(|finding| matches!(finding, FolderFinding::Pages(_) | FolderFinding::Rows(_)))
    {
        return Err(RepairError::Database);
    }
    let mut done = Vec::new();
    // Models first: a rebuild may need a checkpoint that the second loop drops.
    for finding in &report.findings {
        if let FolderFinding::Model { name, version, key, .. } = finding {
            done.push(mend_model(store, blobs, name, *version, key).await?);
        }
    }
    for finding in &report.findings {
        match finding {
            FolderFinding::Checkpoint { job, step, key, .. } => {
                // The row is deleted last. Until then, another repair finds the same fault.
                let aside = set_aside(blobs, key).await?;
                store.drop_checkpoint(*job, key).await?;
                let owner = BlobOwner::Checkpoint { job: *job, step: *step };
                done.push(format!("{owner} is forgotten{}", kept(aside)));
            }
            FolderFinding::Stray(file) => {
                blobs.remove(file).await?;
                done.push(format!("blobs/{} is removed", file.key));
            }
            _ => {}
        }
    }
    Ok(done)
}

async fn mend_model(
    store: &Store,
    blobs: &Blobs,
    name: &str,
    version: u32,
    key: &str,
) -> Result<String, RepairError> {
    let owner = BlobOwner::Model { name: name.to_owned(), version };
    let models = store.models().await?;
    let bytes = match by_version(&models).get(&(name, version)) {
        Some(model) => rebuilt(store, blobs, model).await?,
        None => None,
    };
    let aside = set_aside(blobs, key).await?;
    if let Some(bytes) = bytes {
        blobs.put(key, bytes.into()).await?;
        return Ok(format!("{owner} is written again, with the digest of its row{}", kept(aside)));
    }
    let dropped = store.drop_version(name, version, key).await?;
    let Dropped { aliases, needed_by } =
        dropped.unwrap_or(Dropped { aliases: Vec::new(), needed_by: Vec::new() });
    let mut sentence = format!("{owner} is deleted");
    if !aliases.is_empty() {
        sentence += &format!(", and with it its {}", counted("alias", &aliases));
    }
    for job in needed_by {
        sentence += &format!("; job {job} starts from it and fails unless it has a checkpoint");
    }
    Ok(sentence + &kept(aside))
}

/// Keeps a damaged blob for examination if the blobs are in a folder. Returns its new key.
async fn set_aside(blobs: &Blobs, key: &str) -> Result<Option<String>, BlobError> {
    match blobs.folder() {
        Some(folder) => folder.set_aside(key).await,
        None => Ok(None),
    }
}

/// Returns the part of a sentence that says where a damaged file was moved.
fn kept(aside: Option<String>) -> String {
    aside.map_or_else(String::new, |aside| format!("; the damaged file is kept as blobs/{aside}"))
}
