//! Work on behalf of callers. It has a price, waits for its turn, and runs on a thread that it may block.

use std::fmt;
use std::sync::{Arc, Weak};

use super::{Caller, OperationError, Service};
use crate::admission::{Charge, Lane, Price, Stop, Ticket};
use crate::model::{ModelRef, Selector};
use crate::registry::Model;

/// A model that a request will need. A waiting request does not keep its model in memory. Only running
/// requests do, and they are few.
#[derive(Clone, Debug)]
pub struct Wanted {
    name: String,
    version: u32,
    model: Weak<Model>,
}

impl Wanted {
    /// Refers to this version, even if aliases move.
    pub fn new(model: &Arc<Model>) -> Self {
        Self { name: model.name.clone(), version: model.version, model: Arc::downgrade(model) }
    }

    /// Returns the name of the model and the number of its version.
    pub(super) fn version(&self) -> (&str, u32) {
        (&self.name, self.version)
    }

    fn reference(&self) -> ModelRef {
        ModelRef { name: self.name.clone(), selector: Selector::Version(self.version) }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference().fmt(f)
    }
}

impl Service {
    /// Returns the model that `reference` refers to. If it is not in memory, it is loaded in a place of the
    /// batch lane.
    ///
    /// # Errors
    /// Returns an error if there is no such model, if it is unloaded, if there is no memory for it, or if its file is
    /// damaged.
    pub async fn loaded(&self, caller: &Caller, reference: &ModelRef) -> Result<Arc<Model>, OperationError> {
        self.registry.check_served(&reference.name)?;
        if let Some(model) = self.registry.at_hand(reference)? {
            return Ok(model);
        }
        let place = self.admission.enter(Lane::Batch, caller.peer()).await?;
        Ok(self.registry.get(reference, place).await?)
    }

    /// Returns a wanted model. Loads it again if it has been dropped meanwhile.
    ///
    /// # Errors
    /// Returns an error if it was deleted or unloaded, if there is no memory for it, or if its file is damaged.
    pub async fn held(&self, wanted: &Wanted) -> Result<Arc<Model>, OperationError> {
        self.registry.check_served(&wanted.name)?;
        match wanted.model.upgrade() {
            Some(model) => Ok(model),
            None => Ok(self.registry.get(&wanted.reference(), ()).await?),
        }
    }

    /// Does work of this price. Returns its result and the charge for its memory.
    ///
    /// # Errors
    /// Returns the error of `work`, or an error if there is no room for it or it panics.
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

    /// Like [`work`](Self::work), with a model.
    ///
    /// # Errors
    /// See [`work_in_turns`](Self::work_in_turns).
    pub(super) async fn work_with<T, E>(
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

    /// Like [`work`](Self::work), with a model and in turns. If `work` returns `None`, it makes way for
    /// other clients and is called again at its next turn.
    ///
    /// # Errors
    /// See [`work`](Self::work) and [`held`](Self::held).
    pub(super) async fn work_in_turns<T, E>(
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
