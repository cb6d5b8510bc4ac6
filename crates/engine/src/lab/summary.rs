use std::fmt::Write;

use serde::Serialize;

use super::price::{AnswerCost, FIELDS_BYTES, Question};
use super::request::NetworkRequest;
use super::tensor::shape_text;
use super::trace::dimensions;
use crate::fields::Fault;
use crate::nn::{LayerSpec, Shape, ShapeError, shapes};
use crate::train::{LayerCost, step_bytes};

/// The layers of a network, and the cost of a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Rows, columns and channels of an image.
    pub input_shape: Vec<usize>,
    /// Images per batch.
    pub batch_size: usize,
    /// The layers from first to last.
    pub layers: Vec<LayerSummary>,
    /// Number of trained parameters.
    pub parameters: usize,
    /// Floating-point operations per image in the forward pass.
    pub flops_forward: f64,
    /// Floating-point operations per image in the backward pass.
    pub flops_backward: f64,
    /// Bytes of the images of a batch.
    pub input_bytes: usize,
    /// Bytes of all values between the layers for a batch, including the images. Backpropagation needs them
    /// all.
    pub kept_bytes: usize,
    /// Bytes that the trainer allocates for a step, in addition to the parameters: values, errors, and weights packed
    /// for products. It is less than `kept_bytes` if the trainer processes a batch in groups of rows.
    pub workspace_bytes: f64,
}

/// A layer and its cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Index and kind, such as `0.dense`.
    pub layer: String,
    /// Rows, columns and channels of the output, or its length.
    pub output_shape: Vec<usize>,
    /// Number of trained parameters.
    pub parameters: usize,
    /// Floating-point operations per image in the forward pass.
    pub flops_forward: f64,
    /// Floating-point operations per image in the backward pass.
    pub flops_backward: f64,
    /// Bytes of the output for a batch, which the backward pass needs.
    pub kept_bytes: usize,
}

fn summary(input: Shape, layers: &[LayerSpec], batch_size: usize) -> Result<Summary, ShapeError> {
    let shapes = shapes(input, layers)?;
    let bytes = |values: usize| values * batch_size * size_of::<f32>();
    let costs = LayerCost::of_all(layers, &shapes);
    let rows: Vec<LayerSummary> = layers
        .iter()
        .zip(&costs)
        .enumerate()
        .map(|(index, (layer, cost))| LayerSummary {
            layer: format!("{index}.{}", layer.name()),
            output_shape: dimensions(shapes[index + 1]),
            parameters: cost.parameters as usize,
            flops_forward: cost.flops_forward,
            flops_backward: cost.flops_backward,
            kept_bytes: bytes(shapes[index + 1].len()),
        })
        .collect();
    Ok(Summary {
        input_shape: dimensions(input),
        batch_size,
        parameters: rows.iter().map(|layer| layer.parameters).sum(),
        flops_forward: rows.iter().map(|layer| layer.flops_forward).sum(),
        flops_backward: rows.iter().map(|layer| layer.flops_backward).sum(),
        input_bytes: bytes(input.len()),
        kept_bytes: bytes(input.len()) + rows.iter().map(|layer| layer.kept_bytes).sum::<usize>(),
        workspace_bytes: step_bytes(input, layers, batch_size, 0),
        layers: rows,
    })
}

impl Question for NetworkRequest {
    type Answer = Summary;

    fn cost(&self) -> AnswerCost {
        let text = FIELDS_BYTES * (self.layers.len() + 1) as f64;
        AnswerCost { flops: text, ..AnswerCost::default() }.then(AnswerCost::of_text(text))
    }

    fn answer(self) -> Result<Summary, Vec<Fault>> {
        let misfit =
            |error: ShapeError| vec![Fault { pointer: "/network".to_owned(), detail: error.to_string() }];
        summary(self.input, &self.layers, self.batch_size).map_err(misfit)
    }
}

impl Summary {
    /// The summary as a table of plain text.
    pub fn text(&self) -> String {
        let head = ["layer", "output", "parameters", "FLOPs forward", "backward", "kept"].map(str::to_owned);
        let row = |layer: &LayerSummary| {
            [
                layer.layer.clone(),
                shape_text(&layer.output_shape),
                grouped(layer.parameters as f64),
                grouped(layer.flops_forward),
                grouped(layer.flops_backward),
                bytes(layer.kept_bytes as f64),
            ]
        };
        let input = [
            "input".to_owned(),
            shape_text(&self.input_shape),
            String::new(),
            String::new(),
            String::new(),
            bytes(self.input_bytes as f64),
        ];
        let total = [
            "total".to_owned(),
            String::new(),
            grouped(self.parameters as f64),
            grouped(self.flops_forward),
            grouped(self.flops_backward),
            bytes(self.kept_bytes as f64),
        ];
        let rows: Vec<[String; 6]> =
            [head, input].into_iter().chain(self.layers.iter().map(row)).chain([total]).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            if index == 1 || index + 1 == rows.len() {
                let _ = writeln!(text, "{rule}");
            }
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        let _ = writeln!(
            text,
            "\nFLOPs are of one image; kept: the values of a batch of {} that the way back needs.\n\
             The trainer takes about {} for a step besides the parameters.",
            self.batch_size,
            bytes(self.workspace_bytes),
        );
        text
    }
}

/// A number such as `1 234 567`, with non-breaking spaces.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let parts = [&digits[..first]].into_iter().filter(|part| !part.is_empty());
    let rest = digits.as_bytes()[first..].chunks(3).map(|part| std::str::from_utf8(part).unwrap_or_default());
    parts.chain(rest).collect::<Vec<_>>().join("\u{a0}")
}

/// A number such as `1.5 MB`, in powers of 1000.
fn bytes(value: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let power = (value.max(1.0).log10() / 3.0).floor().min(units.len() as f64 - 1.0);
    let scaled = value / 1000f64.powf(power);
    let decimals = if power == 0.0 || scaled >= 100.0 { 0 } else { 1 };
    format!("{scaled:.decimals$} {}", units[power as usize])
}
