//! Single layers on a few numbers, forward and backward.

use serde::Serialize;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::spec::{Loss, Padding};
use crate::lab;

/// Numbers of any shape, as nested arrays.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Tensor(lab::Tensor);

impl PartialSchema for Tensor {
    fn schema() -> RefOr<Schema> {
        let items = AnyOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::Number))
            .item(Ref::from_schema_name("Tensor"));
        let text = "Numbers of 1 to 4 axes, in row order: an array of numbers, or of arrays that all have one shape.";
        ArrayBuilder::new().items(items).min_items(Some(1)).description(Some(text)).into()
    }
}

impl ToSchema for Tensor {}

impl From<lab::Tensor> for Tensor {
    fn from(tensor: lab::Tensor) -> Self {
        Self(tensor)
    }
}

/// An affine layer `y = x · w + b`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AffineRequest {
    /// The input: (n,), or (N, n) for a batch of N.
    pub x: Tensor,
    /// The weight: (n, m).
    pub w: Tensor,
    /// The bias: (m,).
    pub b: Option<Tensor>,
    /// `∂L/∂y`, with the shape of y. If given, the response has gradients.
    pub dy: Option<Tensor>,
}

/// An affine layer and its gradients.
#[derive(Serialize, ToSchema)]
pub struct Affine {
    /// `x · w + b`.
    pub y: Tensor,
    /// `dy · wᵀ`; null without `dy`.
    pub dx: Option<Tensor>,
    /// `xᵀ · dy`; null without `dy`.
    pub dw: Option<Tensor>,
    /// `dy`, summed over the batch; null without `dy` or `b`.
    pub db: Option<Tensor>,
    /// The shape of each array.
    pub shapes: AffineShapes,
    /// Every product, with the shapes of its factors.
    pub products: Vec<String>,
}

/// The shapes of an affine layer; null for arrays that are absent.
#[derive(Serialize, ToSchema)]
pub struct AffineShapes {
    /// Shape of the input.
    pub x: Vec<usize>,
    /// Shape of the weight.
    pub w: Vec<usize>,
    /// Shape of the bias.
    pub b: Option<Vec<usize>>,
    /// Shape of the output.
    pub y: Vec<usize>,
    /// Shape of `∂L/∂y`.
    pub dy: Option<Vec<usize>>,
    /// Shape of `∂L/∂x`.
    pub dx: Option<Vec<usize>>,
    /// Shape of `∂L/∂w`.
    pub dw: Option<Vec<usize>>,
    /// Shape of `∂L/∂b`.
    pub db: Option<Vec<usize>>,
}

/// A convolution on a small image of at most 64 along each axis.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionRequest {
    /// The image: (h, w) or (h, w, channels).
    pub input: Tensor,
    /// The filters: (k, k) or (k, k, channels, filters).
    pub filter: Tensor,
    /// The bias: (filters,).
    pub bias: Option<Tensor>,
    /// `∂L/∂y`, with the shape of y. If given, the response has gradients.
    pub dy: Option<Tensor>,
    /// Pixels from one window to the next.
    #[schema(minimum = 1, maximum = 64, default = 1)]
    pub stride: Option<usize>,
    /// Zeros around the image: `valid`, `same`, or their number on each side.
    #[schema(default = 0)]
    pub padding: Option<Border>,
}

/// Zeros around an image: `valid`, `same`, or their number on each side, from 0 to 64.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Border {
    /// `valid` adds none. With `same` and a stride of 1, the output is as large as the image.
    Named(Padding),
    /// The number of zeros on each side.
    Zeros(#[schema(inline)] u8),
}

/// A convolution and its gradients.
#[derive(Serialize, ToSchema)]
pub struct Convolution {
    /// `y[i, j, f] = Σ x[i s + u − p, j s + v − p, c] w[u, v, c, f] + b[f]`, with stride s and p zeros on each side.
    pub y: Tensor,
    /// `dx[i s + u − p, j s + v − p, c] = Σ dy[i, j, f] w[u, v, c, f]`; null without `dy`.
    pub dx: Option<Tensor>,
    /// `dw[u, v, c, f] = Σ x[i s + u − p, j s + v − p, c] dy[i, j, f]`; null without `dy`.
    pub dfilter: Option<Tensor>,
    /// `db[f] = Σ dy[i, j, f]`; null without `dy` or `bias`.
    pub dbias: Option<Tensor>,
    /// The formulas, with shapes.
    pub products: Vec<String>,
}

/// Scores and their targets.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxRequest {
    /// The scores: (classes,), or (N, classes) for a batch of N; at most 256 classes.
    pub logits: Tensor,
    /// The class of each row, or a probability for each score.
    pub target: Target,
    /// The loss to compute from the softmax.
    #[schema(default = json!("cross_entropy"))]
    pub loss: Option<Loss>,
    /// ε of the targets `(1 − ε) target + ε / classes`.
    #[schema(minimum = 0, exclusive_maximum = 1, default = json!(0.0))]
    pub label_smoothing: Option<f64>,
}

/// The class of each row, or a probability for each score.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Target {
    /// The class of a single row.
    Class(#[schema(inline)] u8),
    /// The class of each row, or probabilities in the shape of the scores.
    Rows(Tensor),
}

/// Softmax followed by a loss.
#[derive(Serialize, ToSchema)]
pub struct SoftmaxCrossEntropy {
    /// `e^z / Σ e^z`.
    pub probabilities: Tensor,
    /// The loss; for a batch, its mean.
    pub loss: f64,
    /// The loss of each row.
    pub losses: Vec<f64>,
    /// `∂loss/∂z`: with cross-entropy `(softmax − target) / rows`.
    pub gradient: Tensor,
    /// The targets as probabilities, before any smoothing.
    pub target: Tensor,
}

impl From<lab::Affine> for Affine {
    fn from(lab::Affine { y, dx, dw, db, shapes, products }: lab::Affine) -> Self {
        Self {
            y: y.into(),
            dx: dx.map(Into::into),
            dw: dw.map(Into::into),
            db: db.map(Into::into),
            shapes: shapes.into(),
            products,
        }
    }
}

impl From<lab::AffineShapes> for AffineShapes {
    fn from(lab::AffineShapes { x, w, b, y, dy, dx, dw, db }: lab::AffineShapes) -> Self {
        Self { x, w, b, y, dy, dx, dw, db }
    }
}

impl From<lab::Convolution> for Convolution {
    fn from(lab::Convolution { y, dx, dfilter, dbias, products }: lab::Convolution) -> Self {
        Self {
            y: y.into(),
            dx: dx.map(Into::into),
            dfilter: dfilter.map(Into::into),
            dbias: dbias.map(Into::into),
            products,
        }
    }
}

impl From<lab::SoftmaxCrossEntropy> for SoftmaxCrossEntropy {
    fn from(answer: lab::SoftmaxCrossEntropy) -> Self {
        let lab::SoftmaxCrossEntropy { probabilities, loss, losses, gradient, target } = answer;
        Self {
            probabilities: probabilities.into(),
            loss,
            losses,
            gradient: gradient.into(),
            target: target.into(),
        }
    }
}
