use super::{Microscope, PathTrace, Term};
use crate::lab::number::{DIGITS, factor, number};

impl Microscope {
    /// The worked text: values, sums and products as on a blackboard.
    pub(super) fn worked(&self) -> String {
        let name = format!("{}[{}]", self.letter(), place(&self.index));
        let mut lines = vec![format!(
            "{} of {}, {name} = {}, for an image of class {}: L = {}",
            self.parameter,
            self.layer,
            number(self.value, DIGITS),
            self.label,
            number(self.loss, DIGITS)
        )];
        lines.push(format!("∂L/∂{name} = {}", self.sum()));
        lines.push(match (self.numerical, self.relative_error) {
            (Some(numerical), Some(error)) => format!(
                "numerically (L(w + h) − L(w − h)) / 2h = {}, relative error {}",
                number(numerical, DIGITS),
                number(error, 1)
            ),
            _ => "there is no numerical derivative: the value is at or too close to a kink of relu or max-pooling"
                .to_owned(),
        });
        lines.extend(self.paths.iter().map(|path| path.worked(self.letter())));
        lines.push(String::new());
        lines.join("\n")
    }

    fn letter(&self) -> &'static str {
        match (self.parameter, self.layer.ends_with("batch_norm")) {
            ("bias", true) => "β",
            ("bias", false) => "b",
            (_, true) => "γ",
            _ => "w",
        }
    }

    /// The symbol of the value that the parameter is multiplied by.
    fn enters(&self) -> &'static str {
        match self.letter() {
            "w" => "x",
            "γ" => "x̂",
            _ => "1",
        }
    }

    fn sum(&self) -> String {
        let product = |term: &Term| format!("{}·{}", factor(term.input), factor(term.error));
        let (enters, gradient) = (self.enters(), number(self.gradient, DIGITS));
        match (self.uses, self.terms.as_slice()) {
            (1, [term]) => {
                let why = match (term.input == 0.0, term.error == 0.0) {
                    (true, _) => ": the input is 0",
                    (_, true) => ": the error is 0, since the layers after it pass no gradient back",
                    _ => "",
                };
                format!("{enters}·∂L/∂y[{}] = {} = {gradient}{why}", place(&term.output), product(term))
            }
            (uses, _) if self.reached == 0 => {
                format!(
                    "Σ {enters}·∂L/∂y over {uses} places = 0: at each of them, the input or the error is 0"
                )
            }
            (uses, terms) => {
                let products: Vec<String> = terms.iter().map(product).collect();
                let rest = match self.reached - terms.len() {
                    0 => String::new(),
                    more => format!(" + {more} smaller ones"),
                };
                let reached = match self.reached == uses {
                    true => String::new(),
                    false => format!(", {} of them not 0,", self.reached),
                };
                format!(
                    "Σ {enters}·∂L/∂y over {uses} places{reached} = {}{rest} = {gradient}",
                    products.join(" + ")
                )
            }
        }
    }
}

impl PathTrace {
    fn worked(&self, letter: &str) -> String {
        let steps = self.steps.iter().map(|step| match step.layer.as_str() {
            "loss" => "L".to_owned(),
            layer => format!("{layer}[{}]", place(&step.unit)),
        });
        let names: Vec<String> = steps.collect();
        let locals: Vec<String> = self.steps.iter().map(|step| factor(step.local)).collect();
        format!("{letter} → {}: {} = {}", names.join(" → "), locals.join("·"), number(self.product, DIGITS))
    }
}

fn place(index: &[usize]) -> String {
    index.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
