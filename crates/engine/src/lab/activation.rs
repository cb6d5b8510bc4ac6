use std::fmt::Write;

use serde::Serialize;

use super::number::number;
use super::price::{AnswerCost, FIELDS_BYTES, NUMBER_BYTES, Question};
use crate::fields::Fault;
use crate::nn::Activation;

/// An entry in the list of activation functions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActivationEntry {
    /// The name of the activation in a request.
    pub name: &'static str,
    /// `y = f(x)`.
    pub formula: &'static str,
    /// `f′(x)`.
    pub derivative: &'static str,
}

/// Every activation function.
pub fn activations() -> Vec<ActivationEntry> {
    Activation::ALL.into_iter().map(entry).collect()
}

fn entry(activation: Activation) -> ActivationEntry {
    let (formula, derivative) = match activation {
        Activation::Relu => ("max(x, 0)", "1 where x > 0, else 0"),
        Activation::LeakyRelu => ("x where x > 0, else 0.01 x", "1 where x > 0, else 0.01"),
        Activation::Gelu => ("x Φ(x), Φ the normal distribution", "Φ(x) + x φ(x)"),
        Activation::Sigmoid => ("1 / (1 + e^−x)", "y (1 − y)"),
        Activation::Tanh => ("(e^x − e^−x) / (e^x + e^−x)", "1 − y²"),
    };
    ActivationEntry { name: activation.name(), formula, derivative }
}

/// An activation function and its derivative over an interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    #[serde(skip)]
    activation: Activation,
    /// The name and the formulas.
    #[serde(flatten)]
    pub entry: ActivationEntry,
    /// Evenly spaced points from the left end to the right end.
    pub points: Vec<CurvePoint>,
    /// The range in which the derivative is close to 0, so that almost no gradient flows back.
    pub saturation: Saturation,
    /// A remark, such as the value of the derivative at a kink.
    pub note: &'static str,
}

/// A point of a [`Curve`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The argument.
    pub x: f64,
    /// `f(x)`.
    pub value: f64,
    /// `f′(x)`.
    pub derivative: f64,
}

/// The points beyond which the magnitude of the derivative stays below `threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saturation {
    /// Always 0.01.
    pub threshold: f64,
    /// The largest such point on the negative side, if there is one.
    pub below: Option<f64>,
    /// The smallest such point on the positive side, if there is one.
    pub above: Option<f64>,
}

/// If the derivative is below this, earlier layers hardly learn.
const SATURATED: f64 = 0.01;

/// The search for saturation goes this far from 0, in steps of this width. All functions settle long before that, and
/// change little within a step.
const REACH: f64 = 20.0;
const STEP: f64 = 1e-3;

/// A request for the curve of an activation function over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurveRequest {
    activation: Activation,
    from: f64,
    to: f64,
    points: usize,
}

/// Largest number of points, and largest magnitude of an end of the interval.
const POINTS_MAX: usize = 10_000;
const END_MAX: f64 = 1e6;

impl CurveRequest {
    /// `points` evenly spaced points from `from` to `to`. The default is 200 points from −6 to 6.
    ///
    /// # Errors
    /// If the interval is empty or exceeds ±10⁶, or there are fewer than 2 or more than 10,000 points.
    pub fn new(
        activation: Activation,
        from: Option<f64>,
        to: Option<f64>,
        points: Option<usize>,
    ) -> Result<Self, String> {
        let (from, to, points) = (from.unwrap_or(-6.0), to.unwrap_or(6.0), points.unwrap_or(200));
        let is_within = |x: f64| x.abs() <= END_MAX;
        if !(is_within(from) && is_within(to) && from < to) {
            return Err(format!("from must be below to, both from -{END_MAX} to {END_MAX}: {from} and {to}"));
        }
        if !(2..=POINTS_MAX).contains(&points) {
            return Err(format!("points must be from 2 to {POINTS_MAX}, not {points}"));
        }
        Ok(Self { activation, from, to, points })
    }
}

impl Question for CurveRequest {
    type Answer = Curve;

    fn cost(&self) -> AnswerCost {
        let (points, looked_at) = (self.points as f64, 2.0 * REACH / STEP);
        let cost = AnswerCost {
            flops: FLOPS_PER_POINT * (points + looked_at),
            memory_bytes: 2.0 * size_of::<CurvePoint>() as f64 * points,
            answer_bytes: 0.0,
        };
        cost.then(AnswerCost::of_text(POINT_BYTES * points + 6.0 * FIELDS_BYTES))
    }

    fn answer(self) -> Result<Curve, Vec<Fault>> {
        Ok(Curve::new(self))
    }
}

impl Curve {
    fn new(CurveRequest { activation, from, to, points }: CurveRequest) -> Self {
        let width = (to - from) / (points - 1) as f64;
        let x = |index: usize| if index + 1 == points { to } else { from + width * index as f64 };
        let note = match activation {
            Activation::Relu => {
                "at exactly 0 the derivative is taken as 0, as PyTorch and TensorFlow do; some texts take 1 there"
            }
            Activation::LeakyRelu => "at exactly 0 the derivative is taken as 0.01; it never saturates",
            Activation::Gelu => {
                "smooth at 0; below about −0.75 it falls, so its derivative is negative there"
            }
            Activation::Sigmoid => {
                "the derivative is 0.25 at most: through n layers at most 0.25ⁿ flows back"
            }
            Activation::Tanh => "the derivative is 1 at 0 and falls off on both sides",
        };
        Self {
            activation,
            entry: entry(activation),
            points: (0..points).map(|index| point(activation, x(index))).collect(),
            saturation: Saturation {
                threshold: SATURATED,
                below: outermost(activation, -1.0),
                above: outermost(activation, 1.0),
            },
            note,
        }
    }
}

fn point(activation: Activation, x: f64) -> CurvePoint {
    let (mut value, mut derivative) = ([0.0], [0.0]);
    activation.forward_values(&[x], &mut value);
    activation.backward_values(&[x], &value, &[1.0], &mut derivative);
    CurvePoint { x, value: value[0], derivative: derivative[0] }
}

/// The point nearest to 0 in this direction from which on the function is saturated. `None` if it never saturates.
fn outermost(activation: Activation, direction: f64) -> Option<f64> {
    let is_saturated =
        |steps: u32| point(activation, direction * f64::from(steps) * STEP).derivative.abs() < SATURATED;
    let far = (REACH / STEP) as u32;
    if !is_saturated(far) {
        return None;
    }
    let last = (0..far).rev().find(|&steps| !is_saturated(steps)).map_or(0, |steps| steps + 1);
    Some(if last == 0 { 0.0 } else { direction * f64::from(last) * STEP })
}

/// Operations per point, and upper bound of its bytes in JSON.
const FLOPS_PER_POINT: f64 = 100.0;
const POINT_BYTES: f64 = 3.0 * NUMBER_BYTES + 28.0;

/// Size of the drawing and its margin, in px.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 48.0;

impl Curve {
    /// An SVG of the function and its derivative, for light and dark colour schemes.
    pub fn svg(&self) -> String {
        let name = self.entry.name;
        let (from, to) = (self.points[0].x, self.points[self.points.len() - 1].x);
        let all = self.points.iter().flat_map(|point| [point.value, point.derivative]);
        let (mut low, mut high) =
            all.fold((0.0, 0.0), |(low, high), y| (f64::min(low, y), f64::max(high, y)));
        let air = 0.05 * f64::max(high - low, 1e-9);
        (low, high) = (low - air, high + air);
        let left = |x: f64| MARGIN + (x - from) / (to - from) * (WIDTH - 2.0 * MARGIN);
        let top = |y: f64| HEIGHT - MARGIN - (y - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);
        let mut svg = frame(name);
        for tick in ticks(from, to) {
            svg += &vertical(tick, left(tick));
        }
        for tick in ticks(low, high) {
            svg += &horizontal(tick, top(tick));
        }
        let value = |point: &CurvePoint| point.value;
        let derivative = |point: &CurvePoint| point.derivative;
        for (class, of) in [("value", value as fn(&CurvePoint) -> f64), ("derivative", derivative)] {
            let points: Vec<String> = self
                .drawn()
                .iter()
                .map(|point| format!("{:.1},{:.1}", left(point.x), top(of(point))))
                .collect();
            let _ = write!(svg, "<polyline class=\"curve {class}\" points=\"{}\"/>", points.join(" "));
        }
        let _ = write!(
            svg,
            "<text class=\"value\" x=\"{MARGIN}\" y=\"24\">{name}(x)</text>\
             <text class=\"derivative\" x=\"{:.1}\" y=\"24\">derivative (dashed)</text></svg>",
            MARGIN + 130.0,
        );
        svg
    }
}

impl Curve {
    /// The points to draw. If the derivative jumps at 0, there is one point on each side of the jump.
    fn drawn(&self) -> Vec<CurvePoint> {
        let mut drawn = self.points.clone();
        let at = drawn.partition_point(|point| point.x < 0.0);
        let jumps = matches!(self.activation, Activation::Relu | Activation::LeakyRelu);
        if jumps && (1..drawn.len()).contains(&at) {
            let beside = |x: f64| CurvePoint { x: 0.0, ..point(self.activation, x) };
            let after = at + usize::from(drawn[at].x == 0.0);
            drawn.splice(at..after, [beside(-f64::MIN_POSITIVE), beside(f64::MIN_POSITIVE)]);
        }
        drawn
    }
}

/// The beginning of the drawing: its size, its title and its colours.
fn frame(name: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\"><title>{name} and its derivative</title>\
         <style>.paper{{fill:#fff}}text{{fill:#222}}.grid{{stroke:#ddd}}.axis{{stroke:#222}}.curve{{fill:none}}\
         .value{{stroke:#0b63c5;stroke-width:4}}.derivative{{stroke:#c2410c;stroke-width:2;stroke-dasharray:7 4}}\
         text.value{{fill:#0b63c5;stroke:none}}text.derivative{{fill:#c2410c;stroke:none}}\
         @media (prefers-color-scheme:dark){{.paper{{fill:#16181d}}text{{fill:#e6e6e6}}.grid{{stroke:#3a3f47}}\
         .axis{{stroke:#e6e6e6}}.value{{stroke:#6cb2ff}}.derivative{{stroke:#ff9d5c}}text.value{{fill:#6cb2ff}}\
         text.derivative{{fill:#ff9d5c}}}}</style>\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>"
    )
}

/// A vertical line at `x` px, with its number.
fn vertical(tick: f64, x: f64) -> String {
    let class = if tick == 0.0 { "axis" } else { "grid" };
    format!(
        "<path class=\"{class}\" d=\"M{x:.1} {MARGIN}V{:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - MARGIN,
        HEIGHT - MARGIN + 18.0,
        number(tick, 6),
    )
}

/// A horizontal line at `y` px, with its number.
fn horizontal(tick: f64, y: f64) -> String {
    let class = if tick == 0.0 { "axis" } else { "grid" };
    format!(
        "<path class=\"{class}\" d=\"M{MARGIN} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - MARGIN,
        MARGIN - 8.0,
        y + 4.5,
        number(tick, 6),
    )
}

/// About five round numbers in an interval, at a step of 1, 2 or 5 times a power of ten.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * power)
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let first = (from / step).ceil();
    (0..)
        .map(|index| (first + f64::from(index)) * step)
        .take_while(|&tick| tick <= to + step * 1e-9)
        .collect()
}
