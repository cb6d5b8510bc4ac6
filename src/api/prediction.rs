use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::image::{Image, Scale};
use crate::service;

/// What a model takes images for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Predictions {
    /// The model that answered.
    pub model: String,
    /// Its version.
    #[schema(minimum = 1)]
    pub version: u32,
    /// One for each image, in order.
    pub predictions: Vec<Prediction>,
}

/// What an image is taken for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// Number of the class.
    pub label: usize,
    /// Name of the class.
    pub class: String,
    /// Its probability.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: f32,
    /// Probability of every class in order; with `top` those of the best alone, best first.
    pub probabilities: Vec<f32>,
    /// With `top` alone: the classes that `probabilities` are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<Vec<usize>>,
}

/// Images to read: `image` or `images`, not both.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesRequest {
    /// One image.
    pub image: Option<Image>,
    /// Several images, as many as the server takes at a time.
    #[schema(min_items = 1)]
    pub images: Option<Vec<Image>>,
    /// How bright the brightest pixel is.
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
