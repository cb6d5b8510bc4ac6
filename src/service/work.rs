//! Work for callers: it is priced, waits for its turn, and is done where it holds up nobody.

use std::sync::{Arc, Weak};

use super::{Caller, OperationError, Service};
use crate::admission::{Charge, Lane, Price, Stop, Ticket};
use crate::model::{ModelRef, Selector};
use crate::registry::Model;

/// A model that a request will work with. Requests that wait hold no model: those at work are few.
#[derive(Clone, Debug)]
pub struct Wanted {
    reference: ModelRef,
    model: Weak<Model>,
}

impl Wanted {
    /// This version, whatever its aliases come to mean.
    pub fn new(model: &Arc<Model>) -> Self {
        let selector = Selector::Version(model.version);
        Self { reference: ModelRef { name: model.name.clone(), selector }, model: Arc::downgrade(model) }
    }
}

impl Service {
    /// The model that `reference` means. One that is not in memory is read in a place of the lane of batches.
    ///
    /// # Errors
    /// If there is none, no room for it, or its bytes are damaged.
    pub async fn loaded(&self, caller: &Caller, reference: &ModelRef) -> Result<Arc<Model>, OperationError> {
        if let Some(model) = self.registry.at_hand(reference)? {
            return Ok(model);
        }
        let place = self.admission.enter(Lane::Batch, caller.peer()).await?;
        Ok(self.registry.get(reference, place).await?)
    }

    /// A model that is wanted, read once more if it had to make room meanwhile.
    ///
    /// # Errors
    /// If it was deleted, there is no room for it, or its bytes are damaged.
    pub async fn held(&self, wanted: &Wanted) -> Result<Arc<Model>, OperationError> {
        match wanted.model.upgrade() {
            Some(model) => Ok(model),
            None => Ok(self.registry.get(&wanted.reference, ()).await?),
        }
    }

    /// What a piece of work of this price comes to, and what is charged for it.
    ///
    /// # Errors
    /// Those of `work`, and if there is no room for it or it panics.
    pub async fn work<T, E>(
        &self,
        caller: &Caller,
        price: Price,
        work: impl FnOnce(&Stop) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Charge), E>
    where
        T: Send + 'static,
        E: From<OperationError> + Send + 'static,
    {
        let ticket = self.ticket(caller, price).await?;
        let (done, charge) = ticket.run(work).await.map_err(OperationError::from)?;
        Ok((done?, charge))
    }

    /// [`work`](Self::work) with a model.
    ///
    /// # Errors
    /// As for [`work_in_turns`](Self::work_in_turns).
    pub async fn work_with<T, E>(
        &self,
        caller: &Caller,
        price: Price,
        wanted: &Wanted,
        work: impl FnOnce(&Model, &Stop) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Charge), E>
    where
        T: Send + 'static,
        E: From<OperationError> + Send + 'static,
    {
        let mut work = Some(work);
        let whole = move |model: &Model, stop: &Stop| work.take().map(|work| work(model, stop)).transpose();
        self.work_in_turns(caller, price, wanted, whole).await
    }

    /// [`work`](Self::work) with a model that can make way to others: each time that it comes to `None` it goes on when it is its
    /// turn again.
    ///
    /// # Errors
    /// As for [`work`](Self::work) and [`held`](Self::held).
    pub async fn work_in_turns<T, E>(
        &self,
        caller: &Caller,
        price: Price,
        wanted: &Wanted,
        mut work: impl FnMut(&Model, &Stop) -> Result<Option<T>, E> + Send + 'static,
    ) -> Result<(T, Charge), E>
    where
        T: Send + 'static,
        E: From<OperationError> + Send + 'static,
    {
        let mut ticket = self.ticket(caller, price).await?;
        loop {
            let model = self.held(wanted).await?;
            let turn = ticket.run(move |stop| {
                let done = work(&model, stop);
                drop(model);
                (done, work)
            });
            let ((done, rest), charge) = turn.await.map_err(OperationError::from)?;
            if let Some(done) = done? {
                return Ok((done, charge));
            }
            work = rest;
            ticket = self.admission.again(price.lane, caller.peer(), charge).await;
        }
    }

    async fn ticket(&self, caller: &Caller, price: Price) -> Result<Ticket, OperationError> {
        Ok(self.admission.admit(price, caller.peer()).await?)
    }
}
