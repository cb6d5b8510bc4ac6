use bytes::Bytes;

use super::lease::Lease;
use super::{Worker, WorkerError};
use crate::artifact::write_model;
use crate::blobs::Blob;
use crate::data::Dataset;
use crate::failpoint::{self, Point};
use crate::job::{BlobKey, JobState, Progress};
use crate::store::{Claim, NewModel, PublishedModel, StoreError};
use crate::train::{Evaluation, TrainSpec, TrainState};

/// The result of an attempt to publish a model.
enum Success {
    Published(Box<PublishedModel>),
    /// An earlier commit was reported as failed but had succeeded.
    PublishedBefore,
    /// Another model has taken the version.
    VersionTaken,
}

impl Worker {
    /// Writes the model's bytes, then its row together with the end of the job, and then serves the
    /// model. If another model takes the version meanwhile, writes the model again as the next version.
    pub(super) async fn publish(
        &self,
        spec: &TrainSpec,
        lease: &Lease,
        dataset: &Dataset,
        state: &TrainState,
        test: Evaluation,
        progress: Progress,
    ) -> Result<JobState, WorkerError> {
        let bytes = Bytes::from(write_model(state.published(), &spec.network.layers, &dataset.classes)?);
        let published = loop {
            let (name, version) = (&spec.model, self.next_version(lease, &spec.model).await?);
            let Claim { id: job, attempt } = lease.claim;
            let key = BlobKey::Model { name: name.clone(), version, job, attempt }.to_string();
            let model = NewModel {
                name: name.clone(),
                version,
                parameters: state.network.parameter_count(),
                layers: spec.network.layers.clone(),
                classes: dataset.classes.clone(),
                blob: self.write_blob(lease, &key, &bytes).await?,
            };
            match self
                .until_taken(lease, async || self.succeed(lease.claim, &model, test, &progress).await)
                .await
            {
                Ok(Success::Published(published)) => break Some(*published),
                Ok(Success::PublishedBefore) => break None,
                Ok(Success::VersionTaken) => self.blobs.delete_dead([key]).await,
                Err(error) => {
                    self.take_back(lease, &error, &key).await;
                    return Err(error);
                }
            }
        };
        let network = state.published().clone();
        if let Err(error) = self.registry.publish(published.as_ref(), network).await {
            tracing::error!(%error, "a new model can't be served until the database can be read again");
        }
        self.dispatch.succeeded(lease.claim);
        Ok(JobState::Succeeded)
    }

    async fn next_version(&self, lease: &Lease, name: &str) -> Result<u32, WorkerError> {
        self.until_taken(lease, async || Ok(self.store.next_version(name).await?)).await
    }

    async fn write_blob(&self, lease: &Lease, key: &str, bytes: &Bytes) -> Result<Blob, WorkerError> {
        failpoint::point(Point::BeforeModelBlob);
        let blob = self.until_taken(lease, async || Ok(self.blobs.put(key, bytes.clone()).await?)).await?;
        failpoint::point(Point::AfterModelBlob);
        Ok(blob)
    }

    async fn succeed(
        &self,
        claim: Claim,
        model: &NewModel,
        test: Evaluation,
        progress: &Progress,
    ) -> Result<Success, WorkerError> {
        match self.dispatch.succeed(claim, model, test, progress).await {
            Ok(Some(published)) => Ok(Success::Published(Box::new(published))),
            Ok(None) => Ok(Success::VersionTaken),
            Err(StoreError::Fenced { .. }) if self.has_succeeded(claim).await? => {
                Ok(Success::PublishedBefore)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn has_succeeded(&self, claim: Claim) -> Result<bool, StoreError> {
        let job = self.store.job(claim.id).await?;
        Ok(job.is_some_and(|job| job.state == JobState::Succeeded && job.attempt == claim.attempt))
    }
}
