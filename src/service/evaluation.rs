//! Evaluations: what models read in the labelled examples of a data set, and how well.
//!
//! A pass over the examples runs in turns, in the lane of batches. Its operations and bytes are known before.

use std::sync::Arc;

use ndarray::s;

use super::datasets::Examples;
use super::lab::Rendered;
use super::predictions::rows_of_a_turn;
use super::{Caller, OperationError, Service, Wanted};
use crate::admission::{Charged, Lane, Price, Stop};
use crate::evaluation::{self, Cell, Comparison, Reading, Readings, Report, Shown};
use crate::lab::AnswerCost;
use crate::model::ModelRef;
use crate::registry::{Model, Registry};

/// What an evaluation returns, which determines its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationForm {
    /// The figures, and with `all` the reading of each example.
    Figures {
        /// Whether the reading of each example is part of the result.
        all: bool,
    },
    /// A picture of the confusion matrix.
    Confusion,
    /// A picture of examples.
    Sheet,
}

/// A model's readings of examples, and its figures.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// The examples.
    pub examples: Examples,
    /// What the model reads in each of them.
    pub readings: Readings,
    /// The figures.
    pub report: Report,
}

/// The examples of a comparison that are listed, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct ComparedPage {
    /// Who reads them rightly.
    pub cell: Cell,
    /// Only examples after this index.
    pub after: Option<usize>,
    /// The most examples.
    pub limit: usize,
    /// Whether they are drawn.
    pub is_picture: bool,
}

/// Two models on the same examples.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Name and version of each model.
    pub models: [(String, u32); 2],
    /// The examples.
    pub examples: Examples,
    /// The table and the test.
    pub comparison: Comparison,
    /// The readings of both models, of the examples of the page.
    pub listed: Vec<[Reading; 2]>,
    /// The index of the last example of the page, if there are more.
    pub next: Option<usize>,
}

impl Service {
    /// Evaluates a model on `examples`. `listed` is the largest number of examples in each list. `render`
    /// converts the result to the response, on the same thread.
    ///
    /// # Errors
    /// Returns an error if the model does not fit the examples or its scores are not finite, if the evaluation
    /// exceeds a limit, or if there is no room for it.
    pub async fn evaluate<T: Send + 'static>(
        &self,
        caller: &Caller,
        reference: &ModelRef,
        examples: Examples,
        listed: usize,
        form: EvaluationForm,
        render: impl FnOnce(Evaluated) -> T + Send + 'static,
    ) -> Rendered<T> {
        let cost = examples.cost(listed, form);
        self.evaluate_at(caller, reference, examples, listed, cost, render).await
    }

    /// Like [`evaluate`](Self::evaluate), for a result of this cost.
    ///
    /// # Errors
    /// See [`evaluate`](Self::evaluate).
    pub(super) async fn evaluate_at<T: Send + 'static>(
        &self,
        caller: &Caller,
        reference: &ModelRef,
        examples: Examples,
        listed: usize,
        cost: AnswerCost,
        render: impl FnOnce(Evaluated) -> T + Send + 'static,
    ) -> Rendered<T> {
        let model = self.reader(caller, reference, &examples).await?;
        self.check_operations(&[&model], &examples)?;
        let price = self.price_of_pass(&model, &examples, cost);
        let wanted = Wanted::new(&model);
        drop(model);
        let end = move |model: &Model, examples: Examples, readings: Readings| {
            let report = Report::of(&readings, model.classes.len(), listed);
            let (model, version) = (model.name.clone(), model.version);
            render(Evaluated { model, version, examples, readings, report })
        };
        self.pass(caller, price, &wanted, examples, end).await
    }

    /// Compares two models on `examples`. `render` converts the result to the response, on the same thread.
    ///
    /// # Errors
    /// See [`evaluate`](Self::evaluate).
    pub async fn compare<T: Send + 'static>(
        &self,
        caller: &Caller,
        references: [&ModelRef; 2],
        examples: Examples,
        page: ComparedPage,
        render: impl FnOnce(Compared) -> T + Send + 'static,
    ) -> Rendered<T> {
        let [a, b] = references;
        let (a, b) = (self.reader(caller, a, &examples).await?, self.reader(caller, b, &examples).await?);
        self.check_operations(&[&a, &b], &examples)?;
        let held = evaluation::readings_bytes(examples.len());
        let cost = AnswerCost { memory_bytes: held as f64, ..AnswerCost::default() };
        let price_of_a = self.price_of_pass(&a, &examples, cost);
        let price_of_b = self.price_of_pass(&b, &examples, examples.cost_of_comparison(page));
        let wanted = [Wanted::new(&a), Wanted::new(&b)];
        let name_of_a = (a.name.clone(), a.version);
        drop((a, b));
        let first = |_: &Model, _, readings| readings;
        let (of_a, mut charge) = self.pass(caller, price_of_a, &wanted[0], examples.clone(), first).await?;
        charge.resize(held);
        let of_a = Charged::new(of_a, charge);
        let end = move |b: &Model, examples: Examples, of_b: Readings| {
            let (listed, next) = page.of(&of_a, &of_b);
            let models = [name_of_a, (b.name.clone(), b.version)];
            let comparison = Comparison::of(&of_a, &of_b);
            render(Compared { models, examples, comparison, listed, next })
        };
        self.pass(caller, price_of_b, &wanted[1], examples, end).await
    }

    /// Loads the model that `reference` refers to, and checks that it can read these examples.
    async fn reader(
        &self,
        caller: &Caller,
        reference: &ModelRef,
        examples: &Examples,
    ) -> Result<Arc<Model>, OperationError> {
        let model = self.loaded(caller, reference).await?;
        let (input, shape) = (model.predictor.network().input(), examples.dataset.shape());
        if (input, model.classes.len()) == (shape.input, shape.classes) {
            return Ok(model);
        }
        Err(OperationError::DatasetMisfit {
            model: Wanted::new(&model).to_string(),
            of_model: (input, model.classes.len()),
            dataset: shape.name,
            of_dataset: (shape.input, shape.classes),
        })
    }

    /// Checks that these models may read all examples within one request.
    ///
    /// # Errors
    /// Returns an error with the estimate if it takes too many operations.
    fn check_operations(&self, models: &[&Model], examples: &Examples) -> Result<(), OperationError> {
        let of_image: f64 = models.iter().map(|model| model.predictor.multiplications()).sum();
        let (images, flops_max) = (examples.len(), self.limits.predict_flops_max);
        let flops = 2.0 * of_image * images as f64;
        if flops > flops_max {
            return Err(OperationError::EvaluationTooLarge { images, flops, flops_max });
        }
        Ok(())
    }

    /// Computes the price of a pass whose result has this cost.
    fn price_of_pass(&self, model: &Model, examples: &Examples, cost: AnswerCost) -> Price {
        let images = examples.len().min(rows_of_a_turn(model));
        let working = model.predictor.scores_bytes(images, self.registry.threads());
        Price::new(Lane::Batch, working + cost.memory_bytes.max(cost.answer_bytes) as usize)
    }

    /// Has the model read all examples, in turns. `end` converts the readings to the result.
    async fn pass<T: Send + 'static>(
        &self,
        caller: &Caller,
        price: Price,
        wanted: &Wanted,
        examples: Examples,
        end: impl FnOnce(&Model, Examples, Readings) -> T + Send + 'static,
    ) -> Rendered<T> {
        let registry = self.registry.clone();
        let mut pass = Some((Pass::of(examples), end));
        let work = move |model: &Model, stop: &Stop| {
            let is_done = match &mut pass {
                Some((pass, _)) => pass.go_on(&registry, model, stop)?,
                None => false,
            };
            let done = pass.take_if(|_| is_done);
            Ok(done.map(|(Pass { examples, readings }, end)| end(model, examples, readings)))
        };
        self.work_in_turns(caller, price, wanted, work).await
    }
}

/// A model on its way through the examples.
struct Pass {
    examples: Examples,
    readings: Readings,
}

impl Pass {
    fn of(examples: Examples) -> Self {
        Self { examples, readings: Readings::default() }
    }

    /// Reads until all examples are done. Returns `false` if it must make way for another client.
    fn go_on(&mut self, registry: &Registry, model: &Model, stop: &Stop) -> Result<bool, OperationError> {
        let Self { examples, readings } = self;
        let split = examples.dataset.split(examples.split);
        if readings.is_empty() {
            *readings = Readings::with_capacity(split.len());
        }
        while readings.len() < split.len() {
            if stop.is_set() {
                return Err(OperationError::ClientGone);
            }
            let begin = readings.len();
            let end = split.len().min(begin + rows_of_a_turn(model));
            let images = split.images().slice(s![begin..end, ..]);
            registry.add_readings(model, images, &split.labels()[begin..end], readings)?;
            if end < split.len() && stop.is_place_wanted() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Examples {
    /// Returns the length of the names of all classes in bytes.
    pub(super) fn names_bytes(&self) -> usize {
        self.dataset.classes.iter().map(String::len).sum()
    }

    /// Returns the number of examples.
    fn len(&self) -> usize {
        self.dataset.split(self.split).len()
    }

    /// Returns the cost of the readings and their figures in this form.
    pub(super) fn cost(&self, listed: usize, form: EvaluationForm) -> AnswerCost {
        let (examples, classes) = (self.len(), self.dataset.classes.len());
        let listed = listed.min(examples);
        match form {
            EvaluationForm::Figures { all } => {
                evaluation::report_cost(examples, classes, self.names_bytes(), listed, all)
            }
            EvaluationForm::Confusion => evaluation::confusion_cost(examples, classes),
            EvaluationForm::Sheet => evaluation::examples_cost(examples, classes, self.size(), listed),
        }
    }

    /// Returns the cost of the readings of the second model, and of a page of the comparison.
    fn cost_of_comparison(&self, page: ComparedPage) -> AnswerCost {
        let (examples, classes) = (self.len(), self.dataset.classes.len());
        let listed = page.limit.min(examples);
        match page.is_picture {
            true => evaluation::examples_cost(examples, classes, self.size(), listed),
            false => evaluation::comparison_cost(examples, listed),
        }
    }

    /// Returns width and height of an image in pixels.
    fn size(&self) -> (usize, usize) {
        let shape = self.dataset.shape().input;
        (shape.width, shape.height)
    }

    /// Draws examples as a sheet, each with its caption.
    fn sheet(&self, shown: impl Iterator<Item = (usize, String)>) -> Vec<u8> {
        let split = self.dataset.split(self.split);
        let shown = shown.map(|(index, caption)| Shown { pixels: split.image(index), caption });
        evaluation::example_sheet(&shown.collect::<Vec<_>>(), self.size().0)
    }
}

impl Evaluated {
    /// Draws some of the readings as PNG. Below each example are its class and what the model reads.
    pub fn sheet(&self, listed: &[Reading]) -> Vec<u8> {
        let caption = |read: &Reading| (read.index, format!("{}>{}", read.label, read.predicted));
        self.examples.sheet(listed.iter().map(caption))
    }
}

impl ComparedPage {
    /// Returns the readings of the page, and the index of the last one if there are more.
    fn of(&self, a: &Readings, b: &Readings) -> (Vec<[Reading; 2]>, Option<usize>) {
        let first = self.after.map_or(0, |after| after.saturating_add(1));
        let mut found = (first..a.len()).filter(|&index| Cell::of(a, b, index) == self.cell);
        let listed: Vec<_> =
            found.by_ref().take(self.limit).map(|index| [a.get(index), b.get(index)]).collect();
        let next = found.next().and(listed.last()).map(|[read, _]| read.index);
        (listed, next)
    }
}

impl Compared {
    /// Draws the listed examples as PNG. Below each example are its class and what both models read.
    pub fn sheet(&self) -> Vec<u8> {
        let caption =
            |[a, b]: &[Reading; 2]| (a.index, format!("{}>{}/{}", a.label, a.predicted, b.predicted));
        self.examples.sheet(self.listed.iter().map(caption))
    }
}
