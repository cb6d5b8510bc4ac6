use super::{Claim, Store, StoreError, committed, format, now, row_error};
use crate::fault::{self, Point};
use crate::job::{JobError, JobState};

/// A job that some worker holds, as seen at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job and its attempt.
    pub claim: Claim,
    /// The lease was renewed so often.
    pub beat: i64,
}

impl Store {
    /// The jobs that workers hold, of this process and of others.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn held(&self) -> Result<Vec<Held>, StoreError> {
        let rows: Vec<(String, u32, i64)> =
            sqlx::query_as("SELECT id, attempt, beat FROM jobs WHERE state = 'running'")
                .fetch_all(&self.reader)
                .await?;
        rows.into_iter()
            .map(|(id, attempt, beat)| {
                let claim = Claim { id: id.parse().map_err(|error| row_error("id", &id, &error))?, attempt };
                Ok(Held { claim, beat })
            })
            .collect()
    }

    /// Puts the jobs of all workers back in the queue, of which there are none: these rows are a copy.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn release_held(&self) -> Result<(), StoreError> {
        let released = "UPDATE jobs SET state = 'queued' WHERE state = 'running'";
        sqlx::query(released).execute(&self.writer).await?;
        Ok(())
    }

    /// Takes a job from a worker that is gone, and puts it back in the queue; fails it where `crashes_max` of its
    /// workers have gone with no checkpoint between. `None` where the lease was renewed since `held` was seen.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rescue(&self, held: Held, crashes_max: u32) -> Result<Option<JobState>, StoreError> {
        let error = JobError {
            code: "crash_loop".to_owned(),
            detail: format!(
                "its worker was gone {crashes_max} times while this job ran, with no checkpoint between"
            ),
        };
        let id = held.claim.id.to_string();
        let state: Option<String> = committed(
            sqlx::query_scalar(
                "UPDATE jobs SET
                     crashes = crashes + 1,
                     finished_at = CASE WHEN crashes + 1 >= $4 THEN $5 ELSE NULL END,
                     error = CASE WHEN crashes + 1 >= $4 THEN $6 ELSE NULL END,
                     state = CASE WHEN crashes + 1 >= $4 THEN 'failed' ELSE 'queued' END
                 WHERE id = $1 AND attempt = $2 AND beat = $3 AND state = 'running'
                 RETURNING state",
            )
            .bind(&id)
            .bind(held.claim.attempt)
            .bind(held.beat)
            .bind(crashes_max)
            .bind(now())
            .bind(format::write(&id, &error)?)
            .fetch_all(&self.writer),
        )
        .await?;
        fault::point(Point::AfterRescue);
        let Some(state) = state else { return Ok(None) };
        let state = JobState::named(&state).ok_or_else(|| row_error("state", &id, &state))?;
        if state.is_ended() {
            self.ended(held.claim.id);
        } else {
            self.changed(held.claim.id);
            self.queued.send_replace(());
        }
        Ok(Some(state))
    }
}
