use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Caller, OperationError, Service};
use crate::admission::{Lane, Price, Stop};
use crate::artifact::onnx::{Pixels, seeded_images};
use crate::artifact::{
    ModelFormat, Upload, UploadError, UploadLimits, read_upload, upload_bytes, write_model,
};
use crate::blobs::digest;
use crate::data::mnist;
use crate::job::BlobKey;
use crate::model::{ModelSource, ModelVersion};
use crate::nn::Shape;
use crate::store::NewModel;

/// A file with a network, to be published as a version of a model.
#[derive(Clone)]
pub struct UploadedFile {
    /// The content.
    pub bytes: Bytes,
    /// The format, or `None` to tell it by the first bytes.
    pub format: Option<ModelFormat>,
    /// What the input of an ONNX file takes, if it is known.
    pub pixels: Option<Pixels>,
    /// The SHA-256 that the content must have, in hex.
    pub sha256: Option<String>,
    /// What pays for the memory of the content.
    pub held: Arc<dyn Send + Sync>,
}

/// Images that a network is tried on before it is published.
const TRIED_IMAGES: usize = 4;

impl Service {
    /// Publishes the network of a file as the next version of the model `name`, after checking the file and trying the
    /// network on a few images.
    ///
    /// # Errors
    /// Returns an error if the file does not have its digest or can't be used, if there are too many versions, if the disk
    /// or database can't be written, or if there is no room for the work.
    pub async fn upload_model(
        &self,
        caller: &Caller,
        name: String,
        file: UploadedFile,
    ) -> Result<ModelVersion, OperationError> {
        self.check_disk_space()?;
        let versions_max = self.limits.versions_max;
        if self.registry.version_count(None) >= versions_max {
            return Err(OperationError::TooManyVersions { versions_max });
        }
        let format = file.format.unwrap_or_else(|| ModelFormat::of(&file.bytes));
        let priced = file.clone();
        let price = move |_: &Stop| {
            check_digest(&priced)?;
            upload_bytes(&priced.bytes, format).map_err(refused)
        };
        let (memory, _) = self.work(caller, Price::new(Lane::Text, 0), price).await?;
        let limits = UploadLimits {
            layers_max: self.limits.lab.spec.layers_max,
            units_max: self.limits.lab.spec.units_max,
            flops_max: self.limits.predict_flops_max,
        };
        let read = move |stop: &Stop| {
            let go_on = || !stop.is_set();
            let upload = read_upload(&file.bytes, format, &limits, file.pixels, tried_images, &go_on);
            let upload = upload.map_err(refused)?;
            // Only what the network needs is stored, in the program's own words.
            let written = write_model(upload.predictor.network(), &upload.layers, &upload.classes)
                .map_err(|error| refused(error.into()))?;
            Ok::<_, OperationError>((written, upload))
        };
        let ((written, upload), charge) = self.work(caller, Price::new(Lane::Batch, memory), read).await?;
        let service = self.clone();
        let owner = caller.owner();
        let publish = async move {
            let _charge = charge;
            service.publish_upload(&owner, name, written.into(), upload).await
        };
        self.carry(caller, publish).await
    }

    /// Writes the file, then its row under the next free version, and serves the version.
    async fn publish_upload(
        &self,
        owner: &str,
        name: String,
        bytes: Bytes,
        upload: Upload,
    ) -> Result<ModelVersion, OperationError> {
        let Upload { layers, classes, predictor, .. } = upload;
        let parameters = predictor.network().parameter_count();
        drop(predictor);
        let upload = Uuid::now_v7();
        let published = loop {
            let version = self.store.next_version(&name).await?;
            let key = BlobKey::UploadedModel { name: name.clone(), version, upload }.to_string();
            let model = NewModel {
                name: name.clone(),
                version,
                parameters,
                layers: layers.clone(),
                classes: classes.clone(),
                blob: self.blobs.put(&key, bytes.clone()).await?,
            };
            match self.store.publish_model(owner, ModelSource::Upload, &model, None).await {
                Ok(Some(published)) => break published,
                Ok(None) => self.blobs.delete_dead([key]).await,
                Err(error) => {
                    // The commit may have succeeded. Then the row names the file, which must stay.
                    if self.store.is_named(&key).await.is_ok_and(|is_named| !is_named) {
                        self.blobs.delete_dead([key]).await;
                    }
                    return Err(error.into());
                }
            }
        };
        // The weights are loaded when they are asked for.
        self.registry.refresh().await?;
        Ok(published.row)
    }
}

fn check_digest(file: &UploadedFile) -> Result<(), OperationError> {
    match &file.sha256 {
        Some(expected) => {
            let found = digest(&file.bytes);
            if found == *expected {
                Ok(())
            } else {
                Err(OperationError::DigestMismatch { found, expected: expected.clone() })
            }
        }
        None => Ok(()),
    }
}

/// Test digits, or a few strokes if the network takes images of another size.
fn tried_images(input: Shape) -> Vec<Vec<u8>> {
    if input == mnist::shape().input {
        let mnist = mnist::dataset();
        return (0..TRIED_IMAGES).map(|index| mnist.test.image(index).to_vec()).collect();
    }
    seeded_images(input, TRIED_IMAGES)
}

fn refused(error: UploadError) -> OperationError {
    match error {
        UploadError::Stopped => OperationError::ClientGone,
        error => OperationError::InvalidModel(error.to_string()),
    }
}
