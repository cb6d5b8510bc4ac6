//! Bytes of reports and pictures, known before the first example is read.

use super::drawing::{CAPTION_ROWS, Layout, SHEET_COLUMNS, SHEET_ZOOM, text_width};
use crate::lab::AnswerCost;

/// Bytes of the readings of an example.
const READING_BYTES: usize = 2 * size_of::<u16>() + size_of::<f32>() + size_of::<f64>();

/// Bytes to choose the examples of a list, for each example.
const CHOSEN_BYTES: usize = size_of::<usize>();

/// Upper bounds of the bytes of JSON: of the fields of a report with its bins, of the figures of a class without its
/// name, of an example of a list, and of the reading of an example among all.
const REPORT_BYTES: usize = 4_000;
const CLASS_BYTES: usize = 160;
const LISTED_BYTES: usize = 160;
const READ_BYTES: usize = 30;

/// Bytes in memory of an example of a list.
const LISTED_HELD_BYTES: usize = 64;

/// Bytes of a count in JSON that is 0, and more for one that is not: digits of an example count.
const COUNT_BYTES: usize = 2;
const COUNTED_BYTES: usize = 9;

/// Bytes of a byte of a name in JSON, if all are escaped.
const ESCAPED_BYTES: usize = 6;

/// Bytes of the readings of this number of examples.
pub fn readings_bytes(examples: usize) -> usize {
    examples * READING_BYTES
}

/// The cost of a [`Report`](super::Report) as JSON. `names` is the length of the names of all classes in bytes,
/// `listed` the number of examples in each list, and `all` whether the reading of every example is sent.
pub fn report_cost(examples: usize, classes: usize, names: usize, listed: usize, all: bool) -> AnswerCost {
    let held = held_bytes(examples, classes) + 2 * listed * LISTED_HELD_BYTES;
    let cells = classes * classes;
    let confusion = COUNT_BYTES * (cells + classes) + COUNTED_BYTES * cells.min(examples);
    let text = REPORT_BYTES
        + confusion
        + classes * CLASS_BYTES
        + ESCAPED_BYTES * names
        + 2 * listed * LISTED_BYTES
        + if all { examples * READ_BYTES } else { 0 };
    of_readings(held).then(AnswerCost::of_text(text as f64))
}

/// The cost of a [`confusion_picture`](super::confusion_picture) with the report that it is made of.
pub fn confusion_cost(examples: usize, classes: usize) -> AnswerCost {
    let layout = Layout::of(classes, examples.try_into().unwrap_or(u32::MAX));
    let tile = (layout.side(), layout.side());
    of_readings(held_bytes(examples, classes)).then(AnswerCost::of_sheet(1, tile, 1, layout.zoom))
}

/// The cost of an [`example_sheet`](super::example_sheet) of `listed` examples of this width and height, chosen from
/// the readings of one or two classifiers with this number of classes.
pub fn examples_cost(
    examples: usize,
    classes: usize,
    (width, height): (usize, usize),
    listed: usize,
) -> AnswerCost {
    let class = classes.to_string();
    let width = width.max(text_width(&format!("{class}>{class}/{class}")));
    let tile = (width, height + CAPTION_ROWS);
    let held = held_bytes(examples, classes) + 2 * listed * LISTED_HELD_BYTES;
    of_readings(held).then(AnswerCost::of_sheet(listed.max(1), tile, SHEET_COLUMNS, SHEET_ZOOM))
}

/// The cost of a [`Comparison`](super::Comparison) as JSON, with `listed` examples. It does not contain the readings
/// of the first classifier.
pub fn comparison_cost(examples: usize, listed: usize) -> AnswerCost {
    let held = readings_bytes(examples) + listed * LISTED_HELD_BYTES;
    of_readings(held).then(AnswerCost::of_text((REPORT_BYTES + 2 * listed * LISTED_BYTES) as f64))
}

/// Bytes of the readings, the order of their losses and a confusion matrix.
fn held_bytes(examples: usize, classes: usize) -> usize {
    let row = size_of::<Vec<u32>>() + classes * size_of::<u32>();
    readings_bytes(examples) + 2 * examples * CHOSEN_BYTES + classes * (row + CLASS_BYTES)
}

fn of_readings(held: usize) -> AnswerCost {
    AnswerCost { flops: 0.0, memory_bytes: held as f64, answer_bytes: 0.0 }
}
