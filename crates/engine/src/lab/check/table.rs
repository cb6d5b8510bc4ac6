use super::{Check, LayerCheck};
use crate::lab::number::number;

impl Check {
    /// The check as a table of plain text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<18}{:>12}{:>9}{:>16}   worst parameter: backpropagation, numerical\n",
            "layer", "parameters", "checked", "relative error"
        );
        for LayerCheck { layer, parameters, checked, kinks, max_relative_error, worst } in &self.layers {
            let error = number(*max_relative_error, 2);
            text += &format!("{layer:<18}{parameters:>12}{checked:>9}{error:>16}");
            if let Some(worst) = worst {
                let both = [worst.backpropagation, worst.numerical].map(|value| number(value, 9));
                text += &format!("   {}[{}]: {}", worst.parameter, worst.index, both.join(", "));
            }
            if *kinks > 0 {
                text += &format!("   ({kinks} left out, at or too close to a kink of relu or max-pooling)");
            }
            text.push('\n');
        }
        let seconds = |seconds: f64| match seconds {
            _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
            _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
            _ => format!("{seconds:.1} s"),
        };
        text += &format!(
            "\nbackpropagation: all {} gradients in {}; numerical: one in {}, all in about {}, {:.0} times as long\n",
            self.parameters,
            seconds(self.backpropagation_seconds),
            seconds(self.numerical_seconds_per_parameter),
            seconds(self.numerical_seconds),
            self.ratio
        );
        text
    }
}
