use serde::Serialize;

use super::number::{finite, plain};

/// One value of the computation, and the derivatives that belong to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its place in [`Graph::nodes`](super::Graph::nodes), above that of everything it is made from.
    pub id: usize,
    /// How it is made.
    pub op: Op,
    /// The name of the input, or the one it was bound to.
    pub name: Option<String>,
    /// What it is made from: ids, as often as they are operands.
    pub inputs: Vec<usize>,
    /// Its value, which is finite.
    pub value: f64,
    /// The derivative of the expression by it; none where that does not exist, as nothing needs it.
    pub gradient: Option<f64>,
    /// Its derivative by each of `inputs`; none where that does not exist, as nothing needs it.
    pub local: Vec<Option<f64>>,
    /// Column of its operator.
    #[serde(skip)]
    pub(super) column: usize,
}

impl Node {
    /// What flows back to the operand at this place: gradient times local derivative.
    pub(super) fn flow(&self, place: usize) -> Option<f64> {
        finite(self.gradient? * self.local[place]?)
    }
}

/// How a node is made from its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A number given from outside, by which the expression is differentiated.
    Input,
    /// A number of the expression.
    Constant,
    /// A second name for a value that has one.
    Identity,
    /// `a + b`.
    Add,
    /// `a − b`.
    Subtract,
    /// `a·b`.
    Multiply,
    /// `a / b`.
    Divide,
    /// `a^b`.
    Power,
    /// `−a`.
    Negate,
    /// `e^a`.
    Exp,
    /// The logarithm to base e.
    Log,
    /// The root of `a` that is not negative.
    Sqrt,
    /// Of an angle in radians.
    Sin,
    /// Of an angle in radians.
    Cos,
    /// `(e^a − e^−a) / (e^a + e^−a)`.
    Tanh,
    /// `1 / (1 + e^−a)`.
    Sigmoid,
    /// `a` above 0, else 0.
    Relu,
    /// The largest of two or more.
    Max,
    /// The smallest of two or more.
    Min,
}

impl Op {
    /// Every operation that is called by its name.
    pub const FUNCTIONS: [Self; 10] = [
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::Sin,
        Self::Cos,
        Self::Tanh,
        Self::Sigmoid,
        Self::Relu,
        Self::Max,
        Self::Min,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Constant => "constant",
            Self::Identity => "identity",
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
            Self::Power => "power",
            Self::Negate => "negate",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Sin => "sin",
            Self::Cos => "cos",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Relu => "relu",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// The function called `name`.
    pub fn function(name: &str) -> Option<Self> {
        Self::FUNCTIONS.into_iter().find(|op| op.name() == name)
    }

    /// Whether it takes two or more operands.
    pub(super) fn takes_many(self) -> bool {
        matches!(self, Self::Max | Self::Min)
    }

    /// Whether its derivative jumps somewhere.
    pub(super) fn has_kink(self) -> bool {
        matches!(self, Self::Relu | Self::Max | Self::Min)
    }

    /// `y = f(x)`; an input or constant hands on its own number. Not finite where there is no value.
    pub(super) fn forward(self, x: &[f64]) -> f64 {
        match self {
            Self::Input | Self::Constant | Self::Identity => x[0],
            Self::Add => x[0] + x[1],
            Self::Subtract => x[0] - x[1],
            Self::Multiply => x[0] * x[1],
            Self::Divide => x[0] / x[1],
            Self::Power => x[0].powf(x[1]),
            Self::Negate => -x[0],
            Self::Exp => x[0].exp(),
            Self::Log => x[0].ln(),
            Self::Sqrt => x[0].sqrt(),
            Self::Sin => x[0].sin(),
            Self::Cos => x[0].cos(),
            Self::Tanh => x[0].tanh(),
            Self::Sigmoid => sigmoid(x[0]),
            Self::Relu => x[0].max(0.0),
            Self::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
        }
    }

    /// `∂y/∂x` for each operand, of `y = f(x)`. Not finite where there is none.
    ///
    /// At exactly 0 that of relu is 0; the largest (smallest) operands, where they tie, share the 1.
    pub(super) fn derivative(self, x: &[f64], y: f64) -> Vec<f64> {
        match self {
            Self::Input | Self::Constant => vec![],
            Self::Identity => vec![1.0],
            Self::Add => vec![1.0, 1.0],
            Self::Subtract => vec![1.0, -1.0],
            Self::Multiply => vec![x[1], x[0]],
            Self::Divide => vec![1.0 / x[1], -y / x[1]],
            Self::Power => vec![by_base(x[0], x[1]), by_exponent(x[0], x[1], y)],
            Self::Negate => vec![-1.0],
            Self::Exp => vec![y],
            Self::Log => vec![1.0 / x[0]],
            Self::Sqrt => vec![0.5 / y],
            Self::Sin => vec![x[0].cos()],
            Self::Cos => vec![-x[0].sin()],
            Self::Tanh => vec![4.0 * sigmoid_slope(2.0 * x[0])],
            Self::Sigmoid => vec![sigmoid_slope(x[0])],
            Self::Relu => vec![if x[0] > 0.0 { 1.0 } else { 0.0 }],
            Self::Max | Self::Min => {
                let winners = x.iter().filter(|&&x| x == y).count() as f64;
                x.iter().map(|&x| if x == y { 1.0 / winners } else { 0.0 }).collect()
            }
        }
    }

    /// Why `f(x)` has no value.
    pub(super) fn why_no_value(self, x: &[f64]) -> String {
        let number = |place: usize| x.get(place).copied().map(plain).unwrap_or_default();
        let (a, b) = (number(0), number(1));
        let y = self.forward(x);
        let beyond = if y > 0.0 { "is larger than any f64" } else { "is below any f64" };
        match self {
            Self::Divide if x[1] == 0.0 => format!("divides {a} by 0"),
            Self::Power if y.is_nan() => {
                format!("({a})^{b} is no real number: a negative base needs a whole exponent")
            }
            Self::Power if x[0] == 0.0 => format!("0^{b} divides 1 by 0"),
            Self::Log => format!("log of {a}: only numbers above 0 have one"),
            Self::Sqrt => format!("sqrt of {a}: only numbers from 0 up have one"),
            Self::Add => format!("{a} + {b} {beyond}"),
            Self::Subtract => format!("{a} - {b} {beyond}"),
            Self::Multiply => format!("{a} * {b} {beyond}"),
            Self::Divide => format!("{a} / {b} {beyond}"),
            Self::Power => format!("({a})^{b} {beyond}"),
            _ => format!("{}({a}) {beyond}", self.name()),
        }
    }

    /// Why `f` has no derivative at `x` by the operand at this place.
    pub(super) fn why_no_derivative(self, x: &[f64], place: usize) -> String {
        let number = |place: usize| x.get(place).copied().map(plain).unwrap_or_default();
        let (a, b) = (number(0), number(1));
        match self {
            Self::Sqrt if x[0] == 0.0 => {
                "sqrt has no finite derivative at 0: it is vertical there".to_owned()
            }
            Self::Power if place == 1 && x[0] < 0.0 => format!(
                "({a})^{b} has no derivative by its exponent: a negative base has a power at whole exponents only"
            ),
            Self::Power if place == 1 => format!("({a})^{b} has no derivative by its exponent"),
            Self::Power if x[0] == 0.0 => {
                format!("0^{b} has no finite derivative by its base: it is vertical there")
            }
            Self::Power => format!("the derivative of ({a})^{b} by its base is larger than any f64"),
            Self::Divide => format!("the derivative of {a} / {b} is larger than any f64"),
            _ => format!("the derivative of {}({a}) is larger than any f64", self.name()),
        }
    }
}

/// `1 / (1 + e^−x)`, without overflow.
fn sigmoid(x: f64) -> f64 {
    let decay = (-x.abs()).exp();
    if x < 0.0 { decay / (1.0 + decay) } else { 1.0 / (1.0 + decay) }
}

/// `∂sigmoid(x)/∂x`, which is `y (1 − y)`, without that cancelling; and `tanh(x)` is `2 sigmoid(2x) − 1`.
fn sigmoid_slope(x: f64) -> f64 {
    let decay = (-x.abs()).exp();
    decay / (1.0 + decay).powi(2)
}

/// `∂(a^b)/∂a = b·a^(b − 1)`; 0 where `b` is 0, as `a^0` is 1 everywhere.
fn by_base(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) }
}

/// `∂(a^b)/∂b = a^b·log(a)`, whose limit at `a = 0` is 0 for `b > 0`.
fn by_exponent(a: f64, b: f64, y: f64) -> f64 {
    if a == 0.0 && b > 0.0 { 0.0 } else { y * a.ln() }
}
