use super::node::Op;
use super::number::short;

/// A formula as text, with the precedence of its outermost operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Formula {
    pub(super) text: String,
    precedence: Precedence,
    /// The value, if the formula is a constant of the expression.
    constant: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Sum,
    Negative,
    Quotient,
    Product,
    Power,
    Atom,
}

impl Formula {
    pub(super) fn name(name: &str) -> Self {
        Self::new(name.to_owned(), Precedence::Atom)
    }

    pub(super) fn number(number: f64) -> Self {
        let text = short(number);
        let precedence = if text.starts_with('−') {
            Precedence::Negative
        } else if text.contains('e') {
            Precedence::Power
        } else {
            Precedence::Atom
        };
        Self::new(text, precedence)
    }

    /// A constant of the expression.
    pub(super) fn constant(number: f64) -> Self {
        Self { constant: Some(number), ..Self::number(number) }
    }

    fn new(text: String, precedence: Precedence) -> Self {
        Self { text, precedence, constant: None }
    }

    /// The text, in parentheses if it binds less tightly than `precedence`.
    fn at_least(&self, precedence: Precedence) -> String {
        if self.precedence < precedence { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// The formula of `op` applied to `x`.
pub(super) fn value(op: Op, x: &[Formula]) -> Formula {
    use Precedence::{Atom, Negative, Power, Product, Quotient, Sum};
    let side = |place: usize, precedence| x[place].at_least(precedence);
    let (text, precedence) = match op {
        Op::Input | Op::Constant | Op::Identity => return x[0].clone(),
        Op::Add => (format!("{} + {}", side(0, Sum), side(1, Quotient)), Sum),
        Op::Subtract => (format!("{} − {}", side(0, Sum), side(1, Quotient)), Sum),
        Op::Multiply => (format!("{}·{}", side(0, Product), side(1, Power)), Product),
        Op::Divide => (format!("{} / {}", side(0, Quotient), side(1, Power)), Quotient),
        Op::Power => (format!("{}^{}", side(0, Atom), side(1, Atom)), Power),
        Op::Negate => (negative(side(0, Power)), Negative),
        _ => {
            let arguments: Vec<&str> = x.iter().map(|x| x.text.as_str()).collect();
            (format!("{}({})", op.name(), arguments.join(", ")), Atom)
        }
    };
    Formula::new(text, precedence)
}

/// `text` with a minus sign, except that 0 stays 0.
fn negative(text: String) -> String {
    if text == "0" { text } else { format!("−{text}") }
}

/// The formula of `∂y/∂x` for the operand at index `place`, where `y` is `op` of `x`. `slope` is its value.
pub(super) fn local(op: Op, place: usize, x: &[Formula], y: &Formula, slope: f64) -> Formula {
    let number = Formula::number;
    let apply = |op, x: &[&Formula]| value(op, &x.iter().map(|&x| x.clone()).collect::<Vec<_>>());
    let one = number(1.0);
    match (op, place) {
        (Op::Multiply, 0) => x[1].clone(),
        (Op::Multiply, _) => x[0].clone(),
        (Op::Subtract, 1) | (Op::Negate, _) => number(-1.0),
        (Op::Divide, 0) => apply(Op::Divide, &[&one, &x[1]]),
        (Op::Divide, _) => {
            let square = apply(Op::Power, &[&x[1], &number(2.0)]);
            Formula::new(
                format!("{} / {}", negative(x[0].at_least(Precedence::Power)), square.text),
                Precedence::Negative,
            )
        }
        (Op::Power, 0) => by_base(&x[0], &x[1]),
        (Op::Power, _) => {
            apply(Op::Multiply, &[&apply(Op::Power, &[&x[0], &x[1]]), &apply(Op::Log, &[&x[0]])])
        }
        (Op::Exp, _) => y.clone(),
        (Op::Log, _) => apply(Op::Divide, &[&one, &x[0]]),
        (Op::Sqrt, _) => apply(Op::Divide, &[&one, &apply(Op::Multiply, &[&number(2.0), y])]),
        (Op::Sin, _) => apply(Op::Cos, &[&x[0]]),
        (Op::Cos, _) => apply(Op::Negate, &[&apply(Op::Sin, &[&x[0]])]),
        // With six digits, y is displayed as ±1, and the formula would give 0.
        (Op::Tanh | Op::Sigmoid, _) if ["1", "−1"].contains(&y.text.as_str()) => number(slope),
        (Op::Tanh, _) => apply(Op::Subtract, &[&one, &apply(Op::Power, &[y, &number(2.0)])]),
        (Op::Sigmoid, _) => apply(Op::Multiply, &[y, &apply(Op::Subtract, &[&one, y])]),
        (Op::Relu, _) => Formula::name(&format!("(1 if {} > 0, else 0)", x[0].text)),
        (Op::Max | Op::Min, _) if 0.0 < slope && slope < 1.0 => {
            Formula::new(format!("1/{:.0}", 1.0 / slope), Precedence::Quotient)
        }
        (Op::Max, _) => Formula::name(&format!("(1 if {} is the largest, else 0)", x[place].text)),
        (Op::Min, _) => Formula::name(&format!("(1 if {} is the smallest, else 0)", x[place].text)),
        (Op::Input | Op::Constant | Op::Identity | Op::Add | Op::Subtract, _) => one,
    }
}

/// `b·a^(b − 1)`, with the exponent evaluated if it is a constant.
fn by_base(a: &Formula, b: &Formula) -> Formula {
    let one = Formula::number(1.0);
    let less = match b.constant {
        Some(2.0) => return value(Op::Multiply, &[b.clone(), a.clone()]),
        Some(exponent) => Formula::constant(exponent - 1.0),
        None => value(Op::Subtract, &[b.clone(), one]),
    };
    value(Op::Multiply, &[b.clone(), value(Op::Power, &[a.clone(), less])])
}
