use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::image::{Image, Scale};
use crate::service;

/// The predictions of a model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Predictions {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    #[schema(minimum = 1)]
    pub version: u32,
    /// One prediction for each image, in order.
    pub predictions: Vec<Prediction>,
}

/// The prediction for an image.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// Number of the class, from 0.
    pub label: usize,
    /// Name of the class.
    pub class: String,
    /// Probability of the class.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: f32,
    /// Probabilities of all classes in order. With `top`, only those of the most probable classes, best
    /// first.
    pub probabilities: Vec<f32>,
    /// With `top`, the classes of `probabilities`; otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<Vec<usize>>,
}

/// The images to classify: `image` or `images`, not both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesRequest {
    /// One image.
    pub image: Option<Image>,
    /// Several images, within the limit of the server.
    #[schema(min_items = 1)]
    pub images: Option<Vec<Image>>,
    /// The value of the brightest pixel.
    #[schema(default = json!("byte"))]
    pub scale: Option<Scale>,
}

impl From<service::Predictions> for Predictions {
    fn from(service::Predictions { model, version, predictions }: service::Predictions) -> Self {
        Self { model, version, predictions: predictions.into_iter().map(Into::into).collect() }
    }
}

impl From<service::Prediction> for Prediction {
    fn from(prediction: service::Prediction) -> Self {
        let service::Prediction { label, class, confidence, probabilities, labels } = prediction;
        Self { label, class, confidence, probabilities, labels }
    }
}
