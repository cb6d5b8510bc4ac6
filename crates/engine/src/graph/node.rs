use serde::Serialize;

use super::number::{finite, plain};

/// One value of the computation and its derivatives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Index in [`Graph::nodes`](super::Graph::nodes). Operands have smaller ids than the nodes made from
    /// them.
    pub id: usize,
    /// The operation that computes it.
    pub op: Op,
    /// Name of the input, or the name that the expression binds to this node.
    pub name: Option<String>,
    /// Ids of the operands, in order. An operand that is used twice is listed twice.
    pub inputs: Vec<usize>,
    /// Always finite.
    pub value: f64,
    /// The derivative of the expression with respect to this node. `None` if it doesn't exist and no input
    /// needs it.
    pub gradient: Option<f64>,
    /// The derivative with respect to each of `inputs`. `None` if it doesn't exist and no input needs it.
    pub local: Vec<Option<f64>>,
    /// Column of the operator in the expression, for error messages.
    #[serde(skip)]
    pub(super) column: usize,
}

impl Node {
    /// The gradient that flows back to the operand at index `place`: gradient times local derivative.
    pub(super) fn flow(&self, place: usize) -> Option<f64> {
        finite(self.gradient? * self.local[place]?)
    }
}

/// The operation that makes a node from its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A value given by the caller. The expression is differentiated with respect to it.
    Input,
    /// A number in the expression.
    Constant,
    /// A second name for a node that already has one.
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
    /// The natural logarithm.
    Log,
    /// The square root of a nonnegative `a`.
    Sqrt,
    /// The sine of an angle in radians.
    Sin,
    /// The cosine of an angle in radians.
    Cos,
    /// `(e^a − e^−a) / (e^a + e^−a)`.
    Tanh,
    /// `1 / (1 + e^−a)`.
    Sigmoid,
    /// `max(a, 0)`.
    Relu,
    /// The largest of two or more operands.
    Max,
    /// The smallest of two or more operands.
    Min,
}

impl Op {
    /// The operations that are written as a function call.
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

    /// The name of the operation in lower case, as in an expression and in JSON.
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

    /// The operation of the function called `name`.
    pub fn function(name: &str) -> Option<Self> {
        Self::FUNCTIONS.into_iter().find(|op| op.name() == name)
    }

    /// Whether it takes any number of operands, but at least two.
    pub(super) fn takes_many(self) -> bool {
        matches!(self, Self::Max | Self::Min)
    }

    /// Whether its derivative jumps at some point.
    pub(super) fn has_kink(self) -> bool {
        matches!(self, Self::Relu | Self::Max | Self::Min)
    }

    /// `y = f(x)`. For an input or a constant, `x` is its own value. Not finite if `f` has no value at `x`.
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

    /// `∂y/∂x` for each operand, with `y = f(x)`. Not finite if it doesn't exist.
    ///
    /// The derivative of relu at 0 is defined as 0. Tied operands of max and min share the derivative 1 evenly.
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

    /// The reason why `f(x)` has no finite value.
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

    /// The reason why `f` has no finite derivative at `x` with respect to the operand at index `place`.
    pub(super) fn why_no_derivative(self, x: &[f64], place: usize) -> String {
        let number = |place: usize| x.get(place).copied().map(plain).unwrap_or_default();
        let (a, b) = (number(0), number(1));
        match self {
            Self::Sqrt if x[0] == 0.0 => {
                "sqrt has no finite derivative at 0: it is vertical there".to_owned()
            }
            Self::Power if place == 1 && x[0] < 0.0 => format!(
                "({a})^{b} has no derivative with respect to its exponent: a negative base allows only whole exponents"
            ),
            Self::Power if place == 1 => format!("({a})^{b} has no derivative with respect to its exponent"),
            Self::Power if x[0] == 0.0 => {
                format!("0^{b} has no finite derivative with respect to its base: it is vertical there")
            }
            Self::Power => {
                format!("the derivative of ({a})^{b} with respect to its base is larger than any f64")
            }
            Self::Divide => format!("the derivative of {a} / {b} is larger than any f64"),
            _ => format!("the derivative of {}({a}) is larger than any f64", self.name()),
        }
    }
}

/// `1 / (1 + e^−x)`, in a form that doesn't overflow.
fn sigmoid(x: f64) -> f64 {
    let decay = (-x.abs()).exp();
    if x < 0.0 { decay / (1.0 + decay) } else { 1.0 / (1.0 + decay) }
}

/// `∂sigmoid(x)/∂x = y (1 − y)`, in a form without cancellation. With `tanh(x) = 2 sigmoid(2x) − 1` it also
/// gives the derivative of tanh.
fn sigmoid_slope(x: f64) -> f64 {
    let decay = (-x.abs()).exp();
    decay / (1.0 + decay).powi(2)
}

/// `∂(a^b)/∂a = b·a^(b − 1)`. It is 0 if `b` is 0, since `a^0` is 1 for every `a`.
fn by_base(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) }
}

/// `∂(a^b)/∂b = a^b·log(a)`. For `b > 0` its limit at `a = 0` is 0.
fn by_exponent(a: f64, b: f64, y: f64) -> f64 {
    if a == 0.0 && b > 0.0 { 0.0 } else { y * a.ln() }
}
