use super::node::Op;
use super::number::short;

/// A formula on the board, and how tightly it holds together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Formula {
    pub(super) text: String,
    tightness: Tightness,
    /// The number, where the expression has one here.
    constant: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tightness {
    Sum,
    Negative,
    Quotient,
    Product,
    Power,
    Atom,
}

impl Formula {
    pub(super) fn name(name: &str) -> Self {
        Self::new(name.to_owned(), Tightness::Atom)
    }

    pub(super) fn number(number: f64) -> Self {
        let text = short(number);
        let tightness = if text.starts_with('−') {
            Tightness::Negative
        } else if text.contains('e') {
            Tightness::Power
        } else {
            Tightness::Atom
        };
        Self::new(text, tightness)
    }

    /// A number that stands in the expression.
    pub(super) fn constant(number: f64) -> Self {
        Self { constant: Some(number), ..Self::number(number) }
    }

    fn new(text: String, tightness: Tightness) -> Self {
        Self { text, tightness, constant: None }
    }

    /// In parentheses, unless it holds together as tightly as this.
    fn at_least(&self, tightness: Tightness) -> String {
        if self.tightness < tightness { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// What `op` makes of `x`.
pub(super) fn value(op: Op, x: &[Formula]) -> Formula {
    use Tightness::{Atom, Negative, Power, Product, Quotient, Sum};
    let side = |place: usize, tightness| x[place].at_least(tightness);
    let (text, tightness) = match op {
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
    Formula::new(text, tightness)
}

/// `text` with a minus before it, but 0 as it is.
fn negative(text: String) -> String {
    if text == "0" { text } else { format!("−{text}") }
}

/// `∂y/∂x` by the operand at this place, of the `y` that `op` makes of `x`; `slope` is its number.
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
                format!("{} / {}", negative(x[0].at_least(Tightness::Power)), square.text),
                Tightness::Negative,
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
        // Six digits of y don't show how far it is from ±1.
        (Op::Tanh | Op::Sigmoid, _) if ["1", "−1"].contains(&y.text.as_str()) => number(slope),
        (Op::Tanh, _) => apply(Op::Subtract, &[&one, &apply(Op::Power, &[y, &number(2.0)])]),
        (Op::Sigmoid, _) => apply(Op::Multiply, &[y, &apply(Op::Subtract, &[&one, y])]),
        (Op::Relu, _) => Formula::name(&format!("(1 if {} > 0, else 0)", x[0].text)),
        (Op::Max | Op::Min, _) if 0.0 < slope && slope < 1.0 => {
            Formula::new(format!("1/{:.0}", 1.0 / slope), Tightness::Quotient)
        }
        (Op::Max, _) => Formula::name(&format!("(1 if {} is the largest, else 0)", x[place].text)),
        (Op::Min, _) => Formula::name(&format!("(1 if {} is the smallest, else 0)", x[place].text)),
        (Op::Input | Op::Constant | Op::Identity | Op::Add | Op::Subtract, _) => one,
    }
}

/// `b·a^(b − 1)`, the exponent worked out where it is a constant.
fn by_base(a: &Formula, b: &Formula) -> Formula {
    let one = Formula::number(1.0);
    let less = match b.constant {
        Some(2.0) => return value(Op::Multiply, &[b.clone(), a.clone()]),
        Some(exponent) => Formula::constant(exponent - 1.0),
        None => value(Op::Subtract, &[b.clone(), one]),
    };
    value(Op::Multiply, &[b.clone(), value(Op::Power, &[a.clone(), less])])
}
