//! Model cards (Mitchell et al., *Model Cards for Model Reporting*, 2019): what a version is, what it was trained on,
//! how well it reads, and what it is not for.

use super::evaluation::{Evaluated, EvaluationForm};
use super::lab::Rendered;
use super::{Caller, OperationError, Service};
use crate::admission::Lane;
use crate::data::{self, SplitName};
use crate::evaluation::CONFIDENCE_MIN;
use crate::lab::AnswerCost;
use crate::model::{ModelRef, ModelVersion, Selector};
use crate::train::TrainSpec;

/// A version of a model, with everything that is known about it.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// Name of the model.
    pub model: String,
    /// The version.
    pub version: ModelVersion,
    /// The aliases that refer to it.
    pub aliases: Vec<String>,
    /// The specification of its job. `None` if no job trained it, or its job is deleted.
    pub spec: Option<TrainSpec>,
    /// The figures on the test split. `None` if its data set is not known.
    pub evaluated: Option<Evaluated>,
}

impl ModelCard {
    /// Returns the limits of use, as sentences.
    pub fn limits(&self) -> Vec<String> {
        let classes = &self.version.classes;
        let mut limits = vec![format!(
            "It answers every image with one of its {} classes, also one that shows none of them. Its confidence does not \
             tell such images apart.",
            classes.len()
        )];
        let Some(Evaluated { examples, report, .. }) = &self.evaluated else {
            limits.push("It has no figures here, because its data set is not known.".to_owned());
            return limits;
        };
        let shape = examples.dataset.shape().input;
        limits.push(format!(
            "It reads grey images of {}×{} pixels, bright on dark, cropped and centred as in {}.",
            shape.height, shape.width, examples.dataset.name
        ));
        limits.push(format!(
            "Its figures are of {} {} examples of {}. Images from another source can be read worse.",
            report.examples, examples.split, examples.dataset.name
        ));
        if report.confidently_wrong > 0 {
            limits.push(format!(
                "It reads {} of these wrongly with a confidence of at least {:.0} %, so confidence alone does not show \
                 which readings to check.",
                report.confidently_wrong,
                100.0 * CONFIDENCE_MIN
            ));
        }
        let recalls = report.classes.iter().map(|figures| figures.recall).zip(classes);
        let recalls = recalls.filter_map(|(recall, class)| Some((recall?, class)));
        if let Some((recall, class)) = recalls.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
            limits.push(format!(
                "It is weakest on the class {class:?}, of which it reads {:.2} % rightly.",
                100.0 * recall
            ));
        }
        limits
    }
}

/// Examples in each list of a card.
const LISTED: usize = 10;

/// Upper bounds of the bytes of a card in addition to its figures: of everything that does not depend on the classes; for
/// each byte of their names, which are listed twice and may be escaped; and for the counts of each class.
const CARD_BYTES: usize = 64 << 10;
const NAMES_TIMES: usize = 2 * 6;
const CLASS_BYTES: usize = 40;

impl Service {
    /// Makes the card of a version, with its figures on the test split of `dataset`, or else of the data set
    /// that it was trained on. `render` converts the card to the response.
    ///
    /// # Errors
    /// Returns an error if there is no such version or data set, if the database can't be read, or if the
    /// version can't be evaluated; see [`evaluate`](Self::evaluate).
    pub async fn card<T: Send + 'static>(
        &self,
        caller: &Caller,
        reference: &ModelRef,
        dataset: Option<String>,
        render: impl FnOnce(ModelCard) -> T + Send + 'static,
    ) -> Rendered<T> {
        let version = self.registry.version(reference)?;
        let model = reference.name.clone();
        let exact = ModelRef { name: model.clone(), selector: Selector::Version(version.version) };
        let (entry, _) = self.registry.entry(&exact, None, 1)?;
        let aliases = entry.aliases.into_iter().filter(|(_, meant)| *meant == version.version);
        let aliases = aliases.map(|(alias, _)| alias).collect();
        let spec = self.spec_of(caller, &version).await?;
        let dataset = dataset.or_else(|| {
            let trained_on = spec.as_ref().map(|spec| spec.dataset.clone());
            trained_on.filter(|name| data::shape(name).is_some())
        });
        let card = ModelCard { model, version, aliases, spec, evaluated: None };
        let Some(dataset) = dataset else {
            let charge = self.admission.charge(caller.peer(), 0)?;
            return Ok((render(card), charge));
        };
        let examples = self.examples(caller, dataset, SplitName::Test).await?;
        let figures = examples.cost(LISTED, EvaluationForm::Figures { all: false });
        let rest =
            CARD_BYTES + NAMES_TIMES * examples.names_bytes() + card.version.classes.len() * CLASS_BYTES;
        let cost = figures.then(AnswerCost::of_text(rest as f64));
        let render = move |evaluated| render(ModelCard { evaluated: Some(evaluated), ..card });
        self.evaluate_at(caller, &exact, examples, LISTED, cost, render).await
    }

    /// Returns the specification of the job that trained a version, if it is still known.
    async fn spec_of(
        &self,
        caller: &Caller,
        version: &ModelVersion,
    ) -> Result<Option<TrainSpec>, OperationError> {
        let Some(job) = version.job_id else { return Ok(None) };
        let _place = self.admission.enter(Lane::Other, caller.peer()).await?;
        Ok(self.store.job(job).await?.map(|job| job.spec))
    }
}
