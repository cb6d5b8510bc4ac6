use super::ByVersion;
use crate::artifact::{read_checkpoint, read_model, write_model};
use crate::blobs::{BlobError, Blobs, digest};
use crate::data;
use crate::store::{BlobOwner, BlobRow, PublishedModel, Store, StoreError};

/// What is wrong with a blob.
pub(super) enum Trouble {
    /// The bytes are missing, damaged, or not a valid checkpoint or model.
    Lost(String),
    /// The bytes can't be read, so nothing is known about them.
    Unreadable(String),
}

impl From<BlobError> for Trouble {
    fn from(error: BlobError) -> Self {
        if error.is_damage() { Self::Lost(error.to_string()) } else { Self::Unreadable(error.to_string()) }
    }
}

/// Returns what is wrong with the blob of `row`, or `None` if it is sound. The digest is checked first, in a
/// stream; only then is the blob read into memory and parsed.
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
                // The damaged row of the job is reported as its own finding.
                Err(error @ StoreError::Row { .. }) => {
                    return Ok(Some(Trouble::Unreadable(error.to_string())));
                }
                Err(error) => return Err(error),
            };
            let step = *step;
            Ok(judged(blobs, row, move |bytes| {
                let dataset = data::shape(&spec.dataset)
                    .ok_or_else(|| format!("there is no dataset {:?}", spec.dataset))?;
                let state =
                    read_checkpoint(bytes, &spec, dataset.input).map_err(|error| error.to_string())?;
                let found = state.optimizer.steps();
                if found == step {
                    Ok(())
                } else {
                    Err(format!("it is from step {found}, but its row says {step}"))
                }
            })
            .await)
        }
        BlobOwner::Model { name, version } => {
            // A model that was deleted meanwhile is not a fault.
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

/// Reads the blob of `row` and returns what `read` finds wrong with it.
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

/// Rebuilds the bytes of a model from a checkpoint at the end of its job. The same weights give the same
/// bytes. Returns `None` if no checkpoint gives the digest in the model's row.
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
            let input = data::shape(&spec.dataset)?.input;
            let state =
                read_checkpoint(&bytes, &spec, input).ok().filter(|state| state.is_finished(&spec))?;
            let bytes = write_model(state.published(), &row.layers, &row.classes).ok()?;
            (digest(&bytes) == row.sha256).then_some(bytes)
        });
        if let Ok(Some(bytes)) = written.await {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
