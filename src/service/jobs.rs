use super::{Caller, OperationError, Service};
use crate::admission::{Lane, Price, Stop};
use crate::blobs::{Blob, ByteStream, VERIFY_BYTES};
use crate::data;
use crate::fields::as_printed;
use crate::job::{Checkpoint, EpochRecord, Job, JobHistory, JobId};
use crate::lab;
use crate::store::{Cancelled, Deleted, JobFilter, Resumed};
use crate::train::EpochMetrics;

/// The parts of [`record_bytes`]: bytes for each epoch, and for each layer of an epoch.
const EPOCH_BYTES: usize = 2 << 10;
const LAYER_BYTES: usize = 1 << 10;

/// The largest size of the record of one epoch of this job, as a row and as JSON, in bytes.
pub fn record_bytes(job: &Job) -> usize {
    EPOCH_BYTES + job.spec.network.layers.len() * LAYER_BYTES
}

/// A page of epochs. If there are more, also the number of its last epoch.
pub type CoursePage = (JobHistory, Option<u32>);

/// A checkpoint and the blob that contains it.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    job: JobId,
    epoch: u32,
    blob: Blob,
}

impl StoredCheckpoint {
    /// The file of the checkpoint.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The epoch during which, or at whose end, the checkpoint was made.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl Service {
    pub(super) fn queue_full(&self) -> OperationError {
        OperationError::QueueFull {
            queue_max: self.limits.queue_max,
            interval: self.dispatch.queue_interval(),
        }
    }

    /// Checks that the disk has enough free space for a job.
    ///
    /// # Errors
    /// Returns an error if it has less than [`min_free_bytes`](super::ServiceLimits::min_free_bytes).
    pub fn check_disk_space(&self) -> Result<(), OperationError> {
        let least = self.limits.min_free_bytes;
        let Some(folder) = self.blobs.folder() else { return Ok(()) };
        match folder.free_bytes() {
            Ok(free) if free < least => Err(OperationError::DiskFull { free, least }),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the free disk space is unknown");
                Ok(())
            }
        }
    }

    /// Makes sure that the registry knows the models of these jobs. Another server may have published them.
    /// So a client that sees a succeeded job can use its model.
    pub(super) async fn catch_up_with(&self, jobs: &[Job]) -> Result<(), OperationError> {
        let mut results = jobs.iter().filter_map(|job| job.result.as_ref());
        if !results.all(|result| self.registry.knows(result)) {
            self.registry.refresh().await?;
        }
        Ok(())
    }

    /// Returns the job with this id.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the database can't be read.
    pub async fn job(&self, _caller: &Caller, id: JobId) -> Result<Job, OperationError> {
        let job = self.dispatch.job(id).await?.ok_or(OperationError::UnknownJob(id))?;
        self.catch_up_with(std::slice::from_ref(&job)).await?;
        Ok(job)
    }

    /// Returns a page of jobs, newest first. If there are more, also returns the id of the last one.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn jobs(
        &self,
        _caller: &Caller,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<(Vec<Job>, Option<JobId>), OperationError> {
        let (jobs, next) = self.dispatch.jobs(filter, limit).await?;
        self.catch_up_with(&jobs).await?;
        Ok((jobs, next))
    }

    /// Returns up to `limit` epochs of a job after epoch `after`.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn epochs(
        &self,
        _caller: &Caller,
        id: JobId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<EpochRecord>, OperationError> {
        Ok(self.store.epochs(id, after, limit).await?)
    }

    /// Returns a page of epochs with their sampled steps. If there are more, also returns the number of the
    /// last epoch.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn course_page(
        &self,
        _caller: &Caller,
        job: &Job,
        after: u32,
        limit: u32,
    ) -> Result<CoursePage, OperationError> {
        Ok(self.store.history(job.id, after, limit, job.progress.steps_per_epoch()).await?)
    }

    /// Returns what the metrics of all epochs of a job say about its training.
    ///
    /// # Errors
    /// Returns an error if the database can't be read.
    pub async fn findings(&self, _caller: &Caller, job: &Job) -> Result<Vec<lab::Finding>, OperationError> {
        let course = self.store.course(job.id).await?;
        let course: Vec<&EpochMetrics> = course.iter().collect();
        let has_diverged = job.error.as_ref().is_some_and(|error| error.code == "diverged");
        let examples = data::shape(&job.spec.dataset).map_or(0, |dataset| dataset.train);
        let validation = job.spec.validation_samples(examples);
        Ok(lab::findings(&job.spec, validation, &course, has_diverged))
    }

    /// Cancels a job that has not ended.
    ///
    /// # Errors
    /// Returns an error if there is no such job, if it has ended, or if the database can't be written.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId) -> Result<Job, OperationError> {
        let dispatch = self.dispatch.clone();
        let change = async move {
            match dispatch.cancel(id).await? {
                Cancelled::Accepted(job) => Ok(job),
                Cancelled::Ended(job) => Err(OperationError::JobEnded { id, state: job.state }),
                Cancelled::Unknown => Err(OperationError::UnknownJob(id)),
            }
        };
        self.carry(caller, change).await
    }

    /// Puts a failed or cancelled job back in the queue.
    ///
    /// # Errors
    /// Returns an error if there is no such job, if it is in another state, if the queue or the disk is full,
    /// if its initial version was deleted, or if the database can't be written.
    pub async fn resume_job(&self, caller: &Caller, id: JobId) -> Result<Job, OperationError> {
        self.check_disk_space()?;
        let service = self.clone();
        let change = async move {
            match service.dispatch.resume(id, service.limits.queue_max).await? {
                Resumed::Accepted(job) => Ok(job),
                Resumed::NotStopped(job) => Err(OperationError::JobNotStopped { id, state: job.state }),
                Resumed::QueueFull => Err(service.queue_full()),
                Resumed::InitialModelGone => Err(OperationError::InitialModelGone(id)),
                Resumed::Unknown => Err(OperationError::UnknownJob(id)),
            }
        };
        self.carry(caller, change).await
    }

    /// Deletes an ended job with its epochs and checkpoints. Its model stays.
    ///
    /// # Errors
    /// Returns an error if there is no such job, if it has not ended, or if the database can't be written.
    pub async fn delete_job(&self, caller: &Caller, id: JobId) -> Result<(), OperationError> {
        let service = self.clone();
        let change = async move {
            match service.dispatch.delete_job(id).await? {
                Deleted::Gone(keys) => {
                    service.blobs.delete_dead(keys).await;
                    Ok(())
                }
                Deleted::NotEnded(state) => Err(OperationError::JobNotEnded { id, state }),
                Deleted::Unknown => Err(OperationError::UnknownJob(id)),
            }
        };
        self.carry(caller, change).await
    }

    /// Returns the checkpoints of a job, newest first.
    ///
    /// # Errors
    /// Returns an error if there is no such job, or if the database can't be read.
    pub async fn checkpoints(&self, caller: &Caller, id: JobId) -> Result<Vec<Checkpoint>, OperationError> {
        self.job(caller, id).await?;
        let rows = self.store.checkpoints(id).await?;
        Ok(rows.iter().map(|row| row.shown()).collect::<Result<_, _>>()?)
    }

    /// Returns the newest checkpoint of a job that was made during this epoch or at its end.
    ///
    /// # Errors
    /// Returns an error if there is no such job or checkpoint, or if the database can't be read.
    pub async fn checkpoint(
        &self,
        caller: &Caller,
        id: JobId,
        epoch: &str,
    ) -> Result<StoredCheckpoint, OperationError> {
        self.job(caller, id).await?;
        let rows = self.store.checkpoints(id).await?;
        let asked: Option<u32> = as_printed(epoch);
        let found = rows.iter().find(|row| asked.is_some_and(|asked| i64::from(asked) == row.epoch));
        match (found, asked) {
            (Some(row), Some(epoch)) => Ok(StoredCheckpoint { job: id, epoch, blob: row.blob() }),
            _ => {
                let epochs: Vec<String> = rows.iter().map(|row| row.epoch.to_string()).collect();
                let (epoch, epochs) = (epoch.to_owned(), epochs.join(", "));
                Err(OperationError::UnknownCheckpoint { id, epoch, epochs })
            }
        }
    }

    /// Streams the file of a checkpoint. It is verified first, so that damage is noticed before the first byte is
    /// sent.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or is damaged, if the job has replaced the checkpoint, or if there is
    /// no room for the work.
    pub async fn checkpoint_bytes(
        &self,
        caller: &Caller,
        checkpoint: &StoredCheckpoint,
    ) -> Result<ByteStream, OperationError> {
        let verify = {
            let (service, blob) = (self.clone(), checkpoint.blob.clone());
            move |stop: &Stop| {
                let verified = service.blobs.verify(&blob, || !stop.is_set());
                Ok::<_, OperationError>(service.runtime.block_on(verified))
            }
        };
        let (verified, _) = self.work(caller, Price::new(Lane::Batch, VERIFY_BYTES), verify).await?;
        let StoredCheckpoint { job: id, epoch, blob } = checkpoint;
        let (id, epoch) = (*id, *epoch);
        let read = match verified {
            Ok(()) => self.blobs.stream(blob).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.is_damage() && !self.store.is_named(&blob.key).await? => {
                Err(OperationError::CheckpointReplaced { id, epoch })
            }
            Err(source) if source.is_damage() => Err(OperationError::CheckpointDamaged { id, epoch, source }),
            Err(error) => Err(error.into()),
        }
    }
}
