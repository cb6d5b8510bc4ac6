use serde::Serialize;
use utoipa::ToSchema;

use crate::lab;

/// The activation functions.
#[derive(Serialize, ToSchema)]
pub struct ActivationList {
    /// All of them.
    pub activations: Vec<Activation>,
}

/// An activation function.
#[derive(Serialize, ToSchema)]
pub struct Activation {
    /// Its name, which is that of its layer.
    pub name: &'static str,
    /// `y = f(x)`.
    pub formula: &'static str,
    /// `f′(x)`.
    pub derivative: &'static str,
}

/// An activation function and its derivative over an interval.
#[derive(Serialize, ToSchema)]
pub struct ActivationCurve {
    /// Its name, which is that of its layer.
    pub name: &'static str,
    /// `y = f(x)`.
    pub formula: &'static str,
    /// `f′(x)`.
    pub derivative: &'static str,
    /// From the left end to the right, evenly.
    pub points: Vec<CurvePoint>,
    /// Where the derivative is nearly 0, so that next to nothing flows back.
    pub saturation: Saturation,
    /// What to know of it.
    pub note: &'static str,
}

/// A point of a curve.
#[derive(Serialize, ToSchema)]
pub struct CurvePoint {
    /// Where.
    pub x: f64,
    /// `f(x)`.
    pub value: f64,
    /// `f′(x)`.
    pub derivative: f64,
}

/// Beyond which the magnitude of the derivative stays below `threshold`.
#[derive(Serialize, ToSchema)]
pub struct Saturation {
    /// A hundredth.
    pub threshold: f64,
    /// From here down; null if it never does.
    pub below: Option<f64>,
    /// From here up; null if it never does.
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
