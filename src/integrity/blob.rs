use super::ByVersion;
use crate::artifact::{read_checkpoint, read_model, write_model};
use crate::blobs::{BlobError, Blobs, digest};
use crate::store::{BlobOwner, BlobRow, PublishedModel, Store, StoreError};

/// What is wrong with a blob.
pub(super) enum Trouble {
    /// Its bytes are not there, are others, or are not what they should be.
    Lost(String),
    /// It isn't known.
    Unreadable(String),
}

impl From<BlobError> for Trouble {
    fn from(error: BlobError) -> Self {
        if error.is_damage() { Self::Lost(error.to_string()) } else { Self::Unreadable(error.to_string()) }
    }
}

/// What is wrong with the blob of `row`, if something is: first its bytes as such, which need not be held for that, then
/// what they mean.
pub(super) async fn examine(
    store: &Store,
    blobs: &Blobs,
    row: &BlobRow,
    models: &ByVersion<'_>,
) -> Result<Option<Trouble>, StoreError> {
    if let Err(error) = blobs.verify(&row.blob(), || true).await {
        return Ok(Some(error.into()));
    }
    match &row.owner {
        BlobOwner::Checkpoint { job, step } => {
            let spec = match store.job(*job).await {
                Ok(Some(job)) => job.spec,
                Ok(None) => return Ok(Some(Trouble::Lost(format!("its job {job} is not there")))),
                // The row of the job is a finding of its own.
                Err(error @ StoreError::Row { .. }) => {
                    return Ok(Some(Trouble::Unreadable(error.to_string())));
                }
                Err(error) => return Err(error),
            };
            let step = *step;
            Ok(judged(blobs, row, move |bytes| {
                let state = read_checkpoint(bytes, &spec).map_err(|error| error.to_string())?;
                let found = state.optimizer.steps();
                if found == step {
                    Ok(())
                } else {
                    Err(format!("it is of step {found}, its row says {step}"))
                }
            })
            .await)
        }
        BlobOwner::Model { name, version } => {
            // One that was deleted meanwhile is no fault.
            let Some(model) = models.get(&(name.as_str(), *version)) else { return Ok(None) };
            let expected = model.row.parameters;
            Ok(judged(blobs, row, move |bytes| {
                let (_, network) = read_model(bytes).map_err(|error| error.to_string())?;
                let found = network.parameter_count();
                if found == expected {
                    Ok(())
                } else {
                    Err(format!("it has {found} parameters, its row says {expected}"))
                }
            })
            .await)
        }
    }
}

/// Whether the bytes of `row` can be read as what they should be.
async fn judged(
    blobs: &Blobs,
    row: &BlobRow,
    read: impl FnOnce(&[u8]) -> Result<(), String> + Send + 'static,
) -> Option<Trouble> {
    let bytes = match blobs.get(&row.key, &row.sha256).await {
        Ok(bytes) => bytes,
        Err(error) => return Some(error.into()),
    };
    match tokio::task::spawn_blocking(move || read(&bytes)).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(Trouble::Lost(format!("blob {} can't be used: {why}", row.key))),
        Err(error) => Some(Trouble::Unreadable(error.to_string())),
    }
}

/// The bytes of a model once more, from a checkpoint at the end of its job: the same weights make the same bytes.
/// `None` where no checkpoint makes them.
pub(super) async fn rebuilt(
    store: &Store,
    blobs: &Blobs,
    model: &PublishedModel,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(id) = model.row.job_id else { return Ok(None) };
    let job = match store.job(id).await {
        Ok(Some(job)) => job,
        Ok(None) | Err(StoreError::Row { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    for checkpoint in store.checkpoints(job.id).await? {
        let Ok(bytes) = blobs.get(&checkpoint.blob_key, &checkpoint.sha256).await else { continue };
        let (spec, row) = (job.spec.clone(), model.row.clone());
        let written = tokio::task::spawn_blocking(move || {
            let state = read_checkpoint(&bytes, &spec).ok().filter(|state| state.is_finished(&spec))?;
            let bytes = write_model(state.published(), &row.layers, &row.classes).ok()?;
            (digest(&bytes) == row.sha256).then_some(bytes)
        });
        if let Ok(Some(bytes)) = written.await {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
