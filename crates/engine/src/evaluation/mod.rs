//! How well a classifier reads labelled images: accuracy with its interval, loss, confusion, calibration, the examples
//! that it misreads, and the comparison of two classifiers on the same examples.
//!
//! [`Readings`] hold what a network reads in each example. [`Report`] and [`Comparison`] are functions of them.

mod calibration;
mod comparison;
mod cost;
mod drawing;
mod mcnemar;
mod proportion;
mod readings;
mod report;

pub use calibration::{Bin, Calibration};
pub use comparison::{Cell, Comparison};
pub use cost::{comparison_cost, confusion_cost, examples_cost, readings_bytes, report_cost};
pub use drawing::{Shown, confusion_picture, example_sheet};
pub use mcnemar::McNemar;
pub use proportion::wilson_interval;
pub use readings::{NotFinite, Reading, Readings};
pub use report::{CONFIDENCE_MIN, ClassFigures, Report};
