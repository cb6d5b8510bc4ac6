use super::row::row;
use super::{Store, StoreError, row_error};
use crate::job::{EpochRecord, JobHistory, JobId};
use crate::train::EpochMetrics;

row! {
    /// An epoch without its layer statistics, as in the index.
    pub(super) struct CourseRow {
        epoch: i64,
        train_loss: f64,
        train_accuracy: f64,
        validation_loss: Option<f64>,
        validation_accuracy: Option<f64>,
        learning_rate: f64,
    }
}

impl Store {
    /// Returns up to `limit` epochs of a job after epoch `after`.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn epochs(&self, id: JobId, after: u32, limit: u32) -> Result<Vec<EpochRecord>, StoreError> {
        self.database.epochs(id, after, limit).await
    }

    /// Returns up to `limit` recorded epochs of a job after epoch `after`, and their sampled steps. If there
    /// are more epochs, also returns the number of the last one. The last page includes the steps of the
    /// running epoch.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn history(
        &self,
        id: JobId,
        after: u32,
        limit: u32,
        steps_per_epoch: u64,
    ) -> Result<(JobHistory, Option<u32>), StoreError> {
        let mut epochs = self.epochs(id, after, limit.saturating_add(1)).await?;
        let has_more = epochs.len() > limit as usize;
        epochs.truncate(limit as usize);
        let next = epochs.last().filter(|_| has_more).map(|epoch| epoch.metrics.epoch);
        let steps_of = |epoch: u32| u64::from(epoch).saturating_mul(steps_per_epoch);
        // A job keeps a few thousand steps at most.
        let steps = self.database.steps(id, steps_of(after), next.map_or(u64::MAX, steps_of)).await?;
        Ok((JobHistory { epochs, steps }, next))
    }

    /// Returns the metrics of every epoch of a job. Only the newest epoch has its layer statistics, because
    /// those of all epochs would be large.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn course(&self, id: JobId) -> Result<Vec<EpochMetrics>, StoreError> {
        let rows = self.database.course(id).await?;
        let metrics = |row: CourseRow| {
            Ok(EpochMetrics {
                epoch: u32::try_from(row.epoch)
                    .map_err(|error| row_error("epoch", &id.to_string(), &error))?,
                train_loss: row.train_loss,
                train_accuracy: row.train_accuracy,
                validation_loss: row.validation_loss,
                validation_accuracy: row.validation_accuracy,
                learning_rate: row.learning_rate,
                layers: Vec::new(),
            })
        };
        let mut epochs = rows.into_iter().map(metrics).collect::<Result<Vec<_>, StoreError>>()?;
        if let Some(last) = epochs.last_mut()
            && let Some(whole) = self.epochs(id, last.epoch.saturating_sub(1), 1).await?.pop()
        {
            *last = whole.metrics;
        }
        Ok(epochs)
    }
}
