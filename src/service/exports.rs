use std::sync::Arc;

use serde_json::{Value, json};

use super::{Caller, OperationError, Service, Wanted};
use crate::admission::{Charge, Lane, Price, Stop};
use crate::artifact::onnx::{Labels, OnnxError, Samples, seeded_images, write_onnx};
use crate::artifact::{ModelFormat, with_receipt, write_model};
use crate::blobs::digest;
use crate::data::{self, Dataset};
use crate::job::Job;
use crate::model::{ModelRef, ModelVersion, Selector};
use crate::nn::{Network, instruction_set};
use crate::registry::Model;

/// A file with a version of a model.
#[derive(Debug)]
pub struct Export {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u32,
    /// The content.
    pub bytes: Vec<u8>,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

/// Most images on which an ONNX file is compared with its model.
const SAMPLES_MAX: usize = 64;

/// Multiplications of this comparison. A large network is compared on fewer images.
const COMPARED_MULTIPLICATIONS: f64 = 2e8;

/// Bytes in memory for each byte of a model's weights while a file is written: the tensors, the file, and the constants of
/// the interpreter.
const TIMES: usize = 5;

/// Bytes of the header of a file: layers, classes and receipt.
const HEADER_BYTES: usize = 256 << 10;

/// Values between two nodes that the interpreter holds at a time.
const VALUES: usize = 4;

impl Service {
    /// Writes a model as a file, with a receipt: what is known about the training. An ONNX file is compared with the model
    /// on examples of its data set.
    ///
    /// # Errors
    /// Returns an error if there is no such model, if a probability of the ONNX file differs too much from that of the
    /// model, or if there is no room for the work.
    pub async fn export_model(
        &self,
        caller: &Caller,
        reference: &ModelRef,
        format: ModelFormat,
    ) -> Result<(Export, Charge), OperationError> {
        let model = self.loaded(caller, reference).await?;
        let (name, number) = (model.name.clone(), model.version);
        let exact = ModelRef { name: name.clone(), selector: Selector::Version(number) };
        let version = self.registry.version(&exact)?;
        let (wanted, price) = (Wanted::new(&model), self.price_of_export(&model, &version)?);
        drop(model);
        let job = match version.job_id {
            Some(id) => self.store.job(id).await?,
            None => None,
        };
        let dataset = job.as_ref().map(|job| &job.spec.dataset).filter(|name| data::shape(name).is_some());
        let dataset = match dataset {
            Some(name) => Some(self.dataset(caller, name.clone()).await?),
            None => None,
        };
        let receipt = receipt(&exact, &version, job.as_ref());
        let write = move |model: &Model, stop: &Stop| {
            let bytes = match format {
                ModelFormat::Safetensors => {
                    let network = model.predictor.network();
                    write_model(network, &version.layers, &version.classes)
                        .and_then(|file| with_receipt(&file, &receipt))
                        .map_err(|error| OperationError::ExportFailed(error.to_string()))?
                }
                ModelFormat::Onnx => onnx(model, &receipt, dataset.as_ref(), stop)?,
            };
            Ok(Export { model: name, version: number, sha256: digest(&bytes), bytes })
        };
        self.work_with(caller, price, &wanted, write).await
    }

    fn price_of_export(&self, model: &Model, version: &ModelVersion) -> Result<Price, OperationError> {
        let (predictor, flops_max) = (&model.predictor, self.limits.predict_flops_max);
        let flops = 2.0 * predictor.multiplications();
        if flops > flops_max {
            return Err(OperationError::PredictionTooLarge { images: 1, flops, flops_max });
        }
        let widest = predictor.network().shapes().iter().map(|shape| shape.len()).max().unwrap_or(1);
        let working = predictor.working_bytes(1, 1) + VALUES * size_of::<f64>() * widest;
        Ok(Price::new(Lane::Batch, TIMES * version.size_bytes as usize + working + HEADER_BYTES))
    }
}

/// Writes a model as ONNX, compared on test examples of the data set that it was trained on if that is at hand.
fn onnx(
    model: &Model,
    receipt: &Value,
    dataset: Option<&Arc<Dataset>>,
    stop: &Stop,
) -> Result<Vec<u8>, OperationError> {
    let network: &Network<f32> = model.predictor.network();
    let affordable = COMPARED_MULTIPLICATIONS / model.predictor.multiplications().max(1.0);
    let count = (affordable as usize).clamp(1, SAMPLES_MAX);
    let seeded = seeded_images(network.input(), count);
    let (source, images): (String, Vec<&[u8]>) = match dataset {
        Some(dataset) if dataset.shape().input == network.input() => {
            let count = count.min(dataset.test.labels().len());
            (
                format!("test split of {}", dataset.name),
                (0..count).map(|index| dataset.test.image(index)).collect(),
            )
        }
        _ => ("seeded strokes".to_owned(), seeded.iter().map(Vec::as_slice).collect()),
    };
    let metadata = [("receipt", receipt.to_string())];
    let labels =
        Labels { model: &model.name, version: model.version, classes: &model.classes, metadata: &metadata };
    let samples = Samples { source: &source, images: &images };
    let written = write_onnx(&model.predictor, &labels, &samples, &|| !stop.is_set());
    let (bytes, _) = written.map_err(|error| match error {
        OnnxError::Stopped => OperationError::ClientGone,
        OnnxError::Differs { .. } => OperationError::ExportDiffers(error.to_string()),
        error => OperationError::ExportFailed(error.to_string()),
    })?;
    Ok(bytes)
}

/// What is known about the training of a version, and the program that writes its file.
fn receipt(reference: &ModelRef, version: &ModelVersion, job: Option<&Job>) -> Value {
    json!({
        "model": reference.to_string(),
        "model_sha256": version.sha256,
        "source": version.source.as_str(),
        "published_at": version.created_at.to_string(),
        "test_accuracy": version.test_accuracy,
        "job_id": version.job_id.map(|id| id.to_string()),
        "spec": job.map(|job| &job.spec),
        "dataset": job.map(|job| &job.spec.dataset),
        "program": concat!("chainrule ", env!("CARGO_PKG_VERSION")),
        "processor": format!("{} with {}", std::env::consts::ARCH, instruction_set()),
    })
}
