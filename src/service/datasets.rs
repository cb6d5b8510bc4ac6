use std::sync::Arc;

use super::{Caller, OperationError, Service};
use crate::admission::WorkError;
use crate::data::{self, Dataset, DatasetShape, SplitName};
use crate::fields::{as_printed, nearest, shown};

impl Service {
    /// Returns a page of data sets by name, after the name `after`. If there are more, also returns the name of
    /// the last one.
    pub fn datasets(
        &self,
        _caller: &Caller,
        after: Option<&str>,
        limit: u32,
    ) -> (Vec<DatasetShape>, Option<String>) {
        let mut shapes = data::shapes();
        shapes.retain(|shape| after.is_none_or(|after| shape.name.as_str() > after));
        let has_more = shapes.len() > limit as usize;
        shapes.truncate(limit as usize);
        let next = shapes.last().filter(|_| has_more).map(|shape| shape.name.clone());
        (shapes, next)
    }

    /// Returns the data set called `name`. It is loaded on a blocking thread, because the first use of MNIST
    /// inflates 55 MB.
    ///
    /// # Errors
    /// Returns an error if there is no such data set.
    pub async fn dataset(&self, caller: &Caller, name: String) -> Result<Arc<Dataset>, OperationError> {
        self.with_dataset(caller, name, Arc::clone).await
    }

    /// Returns the example at `index` in `split` of the data set called `name`.
    ///
    /// # Errors
    /// Returns an error if there is no such data set, split or example.
    pub async fn example(
        &self,
        caller: &Caller,
        name: String,
        split: &str,
        index: &str,
    ) -> Result<DatasetExample, OperationError> {
        let dataset = self.dataset(caller, name).await?;
        let split: SplitName = split.parse().map_err(|_| OperationError::UnknownSplit)?;
        let examples = Examples { dataset, split };
        let last = examples.last();
        let example = as_printed(index).and_then(|index| examples.at(index));
        example.ok_or(OperationError::UnknownExample { split, last })
    }

    /// Returns the examples in `split` of the data set called `name`.
    ///
    /// # Errors
    /// Returns an error if there is no such data set.
    pub async fn examples(
        &self,
        caller: &Caller,
        name: String,
        split: SplitName,
    ) -> Result<Examples, OperationError> {
        Ok(Examples { dataset: self.dataset(caller, name).await?, split })
    }

    /// Like [`examples`](Self::examples), but blocks the thread while the first use of a data set loads it.
    ///
    /// # Errors
    /// Returns an error if there is no such data set.
    pub fn examples_now(
        &self,
        _caller: &Caller,
        name: &str,
        split: SplitName,
    ) -> Result<Examples, OperationError> {
        let dataset = data::named(name).ok_or_else(|| unknown(name))?;
        Ok(Examples { dataset, split })
    }

    /// Runs `read` with the data set called `name`, on a blocking thread.
    ///
    /// # Errors
    /// Returns an error if there is no such data set, or `read` panics.
    pub async fn with_dataset<T: Send + 'static>(
        &self,
        _caller: &Caller,
        name: String,
        read: impl FnOnce(&Arc<Dataset>) -> T + Send + 'static,
    ) -> Result<T, OperationError> {
        let span = tracing::Span::current();
        let read = move || {
            span.in_scope(|| {
                let dataset = data::named(&name).ok_or_else(|| unknown(&name))?;
                Ok(read(&dataset))
            })
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| OperationError::Lost(WorkError::Lost))?
    }
}

/// The examples of a split.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// The split of it.
    pub split: SplitName,
}

impl Examples {
    /// Returns the index of the last example.
    pub fn last(&self) -> usize {
        self.dataset.split(self.split).labels().len().saturating_sub(1)
    }

    /// Returns the example at `index`, or `None` beyond the last one.
    pub fn at(self, index: usize) -> Option<DatasetExample> {
        let Self { dataset, split } = self;
        (index < dataset.split(split).labels().len()).then_some(DatasetExample { dataset, split, index })
    }
}

/// An example of a data set.
#[derive(Clone, Debug)]
pub struct DatasetExample {
    /// The data set.
    pub dataset: Arc<Dataset>,
    /// The split that has the example.
    pub split: SplitName,
    /// The index in the split, from 0.
    pub index: usize,
}

impl DatasetExample {
    /// The pixels of the example, row by row.
    pub fn pixels(&self) -> &[u8] {
        self.dataset.split(self.split).image(self.index)
    }

    /// The class of the example.
    pub fn label(&self) -> u16 {
        self.dataset.split(self.split).labels()[self.index]
    }
}

/// Returns the shape of the data set called `name`.
///
/// # Errors
/// Returns an error if there is no such data set.
pub(super) fn shape(name: &str) -> Result<DatasetShape, OperationError> {
    data::shape(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> OperationError {
    let shapes = data::shapes();
    let names: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
    let nearest = nearest(name, &names).map(str::to_owned);
    OperationError::UnknownDataset { name: shown(name), nearest }
}
