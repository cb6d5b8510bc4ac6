use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::{Caller, OperationError, Service, Wanted};
use crate::admission::{Charge, Lane, Price, Stop};
use crate::data;
use crate::fields::{Fault, nearest};
use crate::lab::{self, AnswerCost, Check, CheckRequest, Question};
use crate::model::{ModelRef, ModelRefError};
use crate::nn::{Activation, LayerSpec, Network, Stopped};
use crate::registry::Model;
use crate::train::{self, Preset, SpecLimits, TrainSpec};

/// The rendered result, and the charge for its memory.
pub type Rendered<T> = Result<(T, Charge), OperationError>;

/// No limits, because presets are listed even if they exceed the limits of this server.
const UNLIMITED: SpecLimits = SpecLimits {
    epochs_max: u32::MAX,
    layers_max: usize::MAX,
    units_max: usize::MAX,
    flops_max: f64::INFINITY,
    memory_bytes_max: f64::INFINITY,
};

impl Service {
    /// Returns the presets, each with the spec of a job that names only the preset.
    ///
    /// # Errors
    /// Returns an error if a preset is invalid, which tests rule out.
    pub fn presets(&self, _caller: &Caller) -> Result<Vec<(Preset, TrainSpec)>, OperationError> {
        let parse = |preset: Preset| {
            let request = json!({ "network": preset.name() });
            let spec = train::parse(&request, &data::shapes(), &UNLIMITED);
            Ok((preset, spec.map_err(OperationError::Invalid)?))
        };
        Preset::ALL.into_iter().map(parse).collect()
    }

    /// Returns the activation function called `name`.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn activation(&self, _caller: &Caller, name: &str) -> Result<Activation, OperationError> {
        let found = Activation::ALL.into_iter().find(|activation| activation.name() == name);
        found.ok_or_else(|| {
            let nearest = nearest(name, &Activation::ALL.map(Activation::name));
            OperationError::UnknownActivation { name: name.to_owned(), nearest }
        })
    }

    /// Computes a result of the lab. `render` converts the result to the response. It runs on the same
    /// thread and is part of the price.
    ///
    /// # Errors
    /// Returns an error if there is no result, if it exceeds a limit, or if there is no room for it.
    pub async fn answer<Q: Question, T: Send + 'static>(
        &self,
        caller: &Caller,
        question: Q,
        render: impl FnOnce(Q::Answer) -> T + Send + 'static,
    ) -> Rendered<T> {
        let price = self.price_of_answer(question.cost())?;
        let answer = move |_: &Stop| question.answer().map(render).map_err(OperationError::Invalid);
        self.work(caller, price, answer).await
    }

    /// Compares backpropagation with numerical differentiation, on random weights or on a model. See
    /// [`answer`](Self::answer) for `render`.
    ///
    /// # Errors
    /// Returns an error if the model can't be loaded or has another number of classes than the data set, if
    /// the layers don't fit, if the check exceeds a limit, or if there is no room for it.
    pub async fn gradient_check<T: Send + 'static>(
        &self,
        caller: &Caller,
        request: CheckRequest,
        render: impl FnOnce(Check) -> T + Send + 'static,
    ) -> Rendered<T> {
        let dataset = self.dataset(caller, request.dataset.clone()).await?;
        let model = match &request.model {
            Some(reference) => Some(self.checked_model(caller, reference, dataset.classes.len()).await?),
            None => None,
        };
        let layers = match &model {
            Some((_, layers)) => layers.as_slice(),
            None => request.layers.as_deref().unwrap_or_default(),
        };
        let price = self.price_of_answer(request.cost(layers))?;
        let request = Arc::new(request);
        let drawn = Arc::clone(&request);
        let check = move |network: Network<f64>, stop: &Stop| {
            let begin = Instant::now();
            let (clock, go_on) = (|| begin.elapsed(), || !stop.is_set());
            lab::check(network, &request, &dataset, &clock, &go_on).map(render).map_err(client_gone)
        };
        match model {
            Some((wanted, _)) => {
                let check =
                    move |model: &Model, stop: &Stop| check(model.predictor.network().converted(), stop);
                self.work_with(caller, price, &wanted, check).await
            }
            None => {
                let check = move |stop: &Stop| check(drawn.draw().map_err(OperationError::Invalid)?, stop);
                self.work(caller, price, check).await
            }
        }
    }

    /// Returns the model of a check, and its layers.
    ///
    /// # Errors
    /// Returns an error if the model can't be loaded, or has another number of classes than the data set.
    async fn checked_model(
        &self,
        caller: &Caller,
        reference: &str,
        classes: usize,
    ) -> Result<(Wanted, Vec<LayerSpec>), OperationError> {
        let invalid = |detail| OperationError::Invalid(vec![Fault { pointer: "/model".to_owned(), detail }]);
        let reference: ModelRef =
            reference.parse().map_err(|error: ModelRefError| invalid(error.to_string()))?;
        let version = self.registry.version(&reference).map_err(|error| invalid(error.to_string()))?;
        let model = self.loaded(caller, &reference).await?;
        if model.classes.len() != classes {
            let detail =
                format!("the model has {} classes, but the data set has {classes}", model.classes.len());
            return Err(invalid(detail));
        }
        Ok((Wanted::new(&model), version.layers))
    }

    /// Converts the cost of a result of the lab to its price.
    ///
    /// # Errors
    /// Returns an error with the estimate if the cost exceeds a limit.
    pub(super) fn price_of_answer(&self, cost: AnswerCost) -> Result<Price, OperationError> {
        self.limits.lab.check(cost).map_err(OperationError::Invalid)?;
        Ok(Price::new(Lane::Lab, cost.memory_bytes.max(cost.answer_bytes) as usize))
    }
}

pub(super) fn client_gone(_: Stopped) -> OperationError {
    OperationError::ClientGone
}
