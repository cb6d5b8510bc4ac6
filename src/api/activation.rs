use serde::Serialize;
use utoipa::ToSchema;

use crate::lab;

/// The activation functions.
#[derive(Serialize, ToSchema)]
pub struct ActivationList {
    /// The functions.
    pub activations: Vec<Activation>,
}

/// An activation function.
#[derive(Serialize, ToSchema)]
pub struct Activation {
    /// Name of the function and of its layer type.
    pub name: &'static str,
    /// `y = f(x)`.
    pub formula: &'static str,
    /// `f′(x)`.
    pub derivative: &'static str,
}

/// An activation function and its derivative over an interval.
#[derive(Serialize, ToSchema)]
pub struct ActivationCurve {
    /// Name of the function and of its layer type.
    pub name: &'static str,
    /// `y = f(x)`.
    pub formula: &'static str,
    /// `f′(x)`.
    pub derivative: &'static str,
    /// Evenly spaced points, from left to right.
    pub points: Vec<CurvePoint>,
    /// Where the derivative is close to 0, so that almost no gradient flows back.
    pub saturation: Saturation,
    /// A remark on the function.
    pub note: &'static str,
}

/// A point of a curve.
#[derive(Serialize, ToSchema)]
pub struct CurvePoint {
    /// The argument `x`.
    pub x: f64,
    /// `f(x)`.
    pub value: f64,
    /// `f′(x)`.
    pub derivative: f64,
}

/// Where the magnitude of the derivative stays below `threshold`.
#[derive(Serialize, ToSchema)]
pub struct Saturation {
    /// The threshold, 0.01.
    pub threshold: f64,
    /// The derivative stays below the threshold for all smaller `x`; null if there is no such `x`.
    pub below: Option<f64>,
    /// The derivative stays below the threshold for all greater `x`; null if there is no such `x`.
    pub above: Option<f64>,
}

impl From<lab::ActivationEntry> for Activation {
    fn from(lab::ActivationEntry { name, formula, derivative }: lab::ActivationEntry) -> Self {
        Self { name, formula, derivative }
    }
}

impl From<lab::Curve> for ActivationCurve {
    fn from(curve: lab::Curve) -> Self {
        let lab::Curve { entry, points, saturation, note, .. } = curve;
        let lab::ActivationEntry { name, formula, derivative } = entry;
        let lab::Saturation { threshold, below, above } = saturation;
        let point = |lab::CurvePoint { x, value, derivative }| CurvePoint { x, value, derivative };
        Self {
            name,
            formula,
            derivative,
            points: points.into_iter().map(point).collect(),
            saturation: Saturation { threshold, below, above },
            note,
        }
    }
}
