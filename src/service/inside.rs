use ndarray::Array2;

use super::lab::{Rendered, client_gone};
use super::{Caller, OperationError, Service, UnreadImages, Wanted};
use crate::admission::{Charge, Stop};
use crate::fields::Fault;
use crate::lab::{self, AnswerCost, Explanation, LayerWeights, Microscope, ParameterPlace, Trace};
use crate::model::ModelRef;
use crate::nn::{LayerSpec, LossKind, Network, Shape};
use crate::registry::Model;

/// A version of a published network to inspect, with its layers, which determine the price of a result.
pub struct Inspected {
    wanted: Wanted,
    layers: Vec<LayerSpec>,
    input: Shape,
    classes: usize,
}

impl Inspected {
    /// Returns the model. It is not kept in memory.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Returns the shape of the input.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Checks the class whose score is to be explained. Callers can do so before they prepare the images.
    ///
    /// # Errors
    /// Returns an error if the model has no such class.
    pub fn check_class(&self, class: Option<usize>) -> Result<(), OperationError> {
        let last = self.classes - 1;
        if class.is_some_and(|class| class > last) {
            Err(OperationError::ClassOutOfRange { last })
        } else {
            Ok(())
        }
    }
}

/// An image and the class that the loss compares the prediction with.
pub struct LabelledImage {
    /// Pixels in row order, from 0 to 1.
    pub image: Vec<f32>,
    /// The class, below the number of classes.
    pub label: u16,
}

/// A step of gradient descent on one image, to be traced.
pub struct TraceRequest {
    /// The image and its class.
    pub shown: LabelledImage,
    /// The loss to differentiate.
    pub loss: LossKind,
    /// Learning rate of the step, above 0.
    pub learning_rate: f64,
    /// Whether to return all values and gradients in addition to their statistics.
    pub arrays: bool,
}

/// The most images of one request for explanations.
const EXPLAINED_MAX: usize = 16;

impl Service {
    /// Loads the network that `reference` refers to.
    ///
    /// # Errors
    /// Returns an error if there is none, if there is no memory for it, or if its file is damaged.
    pub async fn inspected(
        &self,
        caller: &Caller,
        reference: &ModelRef,
    ) -> Result<Inspected, OperationError> {
        let layers = self.registry.version(reference)?.layers;
        let model = self.loaded(caller, reference).await?;
        let (input, classes) = (model.predictor.network().input(), model.classes.len());
        Ok(Inspected { wanted: Wanted::new(&model), layers, input, classes })
    }

    /// Traces one step of gradient descent, forward and backward. See [`answer`](Self::answer) for `render`.
    ///
    /// # Errors
    /// Returns an error if the loss after the step is not finite, if the trace exceeds a limit, or if there
    /// is no room for it.
    pub async fn trace<T: Send + 'static>(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        request: TraceRequest,
        render: impl FnOnce(&Model, Trace) -> T + Send + 'static,
    ) -> Rendered<T> {
        let TraceRequest { shown, loss, learning_rate, arrays } = request;
        let cost = lab::trace_cost(inspected.input, &inspected.layers, arrays);
        let trace = move |model: &Model, stop: &Stop| {
            let (network, image) = (model.predictor.network(), (shown.image.as_slice(), shown.label));
            let trace = lab::trace(network, loss, image, learning_rate, arrays, &|| !stop.is_set())
                .map_err(client_gone)?;
            if !trace.loss_after.is_finite() {
                let detail = format!("with a learning rate of {learning_rate} the loss is not finite");
                let pointer = "/learning_rate".to_owned();
                return Err(OperationError::Invalid(vec![Fault { pointer, detail }]));
            }
            Ok(render(model, trace))
        };
        self.inspect(caller, inspected, cost, trace).await
    }

    /// Draws the output of `layer` for `image` as PNG, with one tile per channel.
    ///
    /// # Errors
    /// Returns an error if there is no such layer, if the picture exceeds a limit, or if there is no room for
    /// it.
    pub async fn feature_maps(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        image: Vec<f32>,
        layer: &str,
    ) -> Rendered<Vec<u8>> {
        let layer = layer_named(self.held(&inspected.wanted).await?.predictor.network(), layer)?;
        let cost = lab::feature_maps_cost(inspected.input, &inspected.layers, layer);
        let draw =
            move |model: &Model, _: &Stop| Ok(lab::feature_maps(model.predictor.network(), &image, layer));
        self.inspect(caller, inspected, cost, draw).await
    }

    /// Works out the chain rule of one parameter. See [`answer`](Self::answer) for `render`.
    ///
    /// # Errors
    /// Returns an error if the result exceeds a limit, or if there is no room for it.
    pub async fn microscope<T: Send + 'static>(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        shown: LabelledImage,
        loss: LossKind,
        place: ParameterPlace,
        render: impl FnOnce(&Model, Microscope) -> T + Send + 'static,
    ) -> Rendered<T> {
        let cost = lab::microscope_cost(inspected.input, &inspected.layers, &place);
        let look = move |model: &Model, stop: &Stop| {
            let (network, image) = (model.predictor.network(), (shown.image.as_slice(), shown.label));
            let found = lab::microscope(network, loss, image, &place, &|| !stop.is_set());
            Ok(render(model, found.map_err(client_gone)?))
        };
        self.inspect(caller, inspected, cost, look).await
    }

    /// Returns the weights of `layer`. See [`answer`](Self::answer) for `render`.
    ///
    /// # Errors
    /// Returns an error if there is no such layer or it has no weights, if the result exceeds a limit, or if
    /// there is no room for it.
    pub async fn layer_weights<T: Send + 'static>(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        layer: &str,
        render: impl FnOnce(&Model, LayerWeights) -> T + Send + 'static,
    ) -> Rendered<T> {
        let (layer, cost) = self.weights_cost(inspected, layer, false).await?;
        let read = move |model: &Model, _: &Stop| {
            let network = model.predictor.network();
            let weights = lab::layer_weights(network, layer).ok_or_else(|| no_parameters(network, layer))?;
            Ok(render(model, weights))
        };
        self.inspect(caller, inspected, cost, read).await
    }

    /// Draws the weights of `layer` as PNG.
    ///
    /// # Errors
    /// See [`layer_weights`](Self::layer_weights).
    pub async fn weight_picture(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        layer: &str,
    ) -> Rendered<Vec<u8>> {
        let (layer, cost) = self.weights_cost(inspected, layer, true).await?;
        let draw = move |model: &Model, _: &Stop| {
            let network = model.predictor.network();
            lab::weight_picture(network, layer).ok_or_else(|| no_parameters(network, layer))
        };
        self.inspect(caller, inspected, cost, draw).await
    }

    /// Explains which pixels of at most 16 images count for `class`, or for the predicted class. `render`
    /// gets the images and their explanations. `is_picture` says whether `render` draws them, because a
    /// picture has another price.
    ///
    /// # Errors
    /// Returns an error if the model has no such class, if the images can't be parsed, if the explanations exceed a
    /// limit, or if there is no room for them.
    pub async fn explain<I: UnreadImages, T: Send + 'static>(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        images: I,
        class: Option<usize>,
        is_picture: bool,
        render: impl FnOnce(&Model, &[&[f32]], Vec<Explanation>) -> T + Send + 'static,
    ) -> Result<(T, Charge), I::Error> {
        inspected.check_class(class)?;
        let count = images.images_max().clamp(1, EXPLAINED_MAX);
        let mut cost = lab::explain_cost(inspected.input, &inspected.layers, count, is_picture);
        cost.memory_bytes += images.parsed_bytes(EXPLAINED_MAX) as f64;
        let price = self.price_of_answer(cost)?;
        let explain = move |model: &Model, stop: &Stop| {
            let x: Array2<f32> = images.read(EXPLAINED_MAX)?;
            let x = x.as_standard_layout();
            let images: Vec<&[f32]> = x.rows().into_iter().filter_map(|row| row.to_slice()).collect();
            let network = model.predictor.network();
            let explanations = lab::explain(network, &images, class, &|| !stop.is_set());
            Ok(render(model, &images, explanations.map_err(client_gone)?))
        };
        self.work_with(caller, price, &inspected.wanted, explain).await
    }

    async fn inspect<T: Send + 'static>(
        &self,
        caller: &Caller,
        inspected: &Inspected,
        cost: AnswerCost,
        look: impl FnOnce(&Model, &Stop) -> Result<T, OperationError> + Send + 'static,
    ) -> Rendered<T> {
        self.work_with(caller, self.price_of_answer(cost)?, &inspected.wanted, look).await
    }

    async fn weights_cost(
        &self,
        inspected: &Inspected,
        layer: &str,
        is_picture: bool,
    ) -> Result<(usize, AnswerCost), OperationError> {
        let model = self.held(&inspected.wanted).await?;
        let network = model.predictor.network();
        let layer = layer_named(network, layer)?;
        Ok((layer, lab::weights_cost(network, layer, is_picture)))
    }
}

fn layer_named(network: &Network<f32>, name: &str) -> Result<usize, OperationError> {
    lab::layer_named(network, name).map_err(OperationError::UnknownLayer)
}

fn no_parameters(network: &Network<f32>, layer: usize) -> OperationError {
    OperationError::NoParameters(network.layer_name(layer))
}
