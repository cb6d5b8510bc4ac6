//! Numbers outside of the range of a scale, and advice on what may have caused them.

use super::Scale;
use crate::fields::Fault;

/// The most such numbers that are reported one by one.
const TOLD_MAX: usize = 3;

/// Statistics of the numbers of some images.
#[derive(Clone, Debug)]
pub struct Strays {
    scale: Scale,
    numbers: usize,
    outside: usize,
    /// The first numbers out of range, and where they are.
    first: Vec<(String, f64)>,
    /// The minimum of all numbers; `most` is the maximum.
    least: f64,
    most: f64,
}

impl Strays {
    pub fn of(scale: Scale) -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { scale, numbers: 0, outside: 0, first: Vec::new(), least, most }
    }

    pub fn number(&mut self, value: f64, pointer: impl FnOnce() -> String) {
        self.numbers += 1;
        (self.least, self.most) = (self.least.min(value), self.most.max(value));
        if !(0.0..=self.scale.most()).contains(&value) {
            self.outside += 1;
            if self.first.len() < TOLD_MAX {
                self.first.push((pointer(), value));
            }
        }
    }

    /// Adds the numbers of another image.
    pub fn add(&mut self, other: Self) {
        self.numbers += other.numbers;
        self.outside += other.outside;
        self.first.extend(other.first);
        self.first.truncate(TOLD_MAX);
        (self.least, self.most) = (self.least.min(other.least), self.most.max(other.most));
    }

    /// Returns one fault for each number out of range if they are few. Otherwise returns one fault
    /// of the field `pointer`.
    pub fn faults(&self, pointer: &str) -> Vec<Fault> {
        let end = self.scale.most();
        if self.outside <= TOLD_MAX {
            let one = |(pointer, value): &(String, f64)| Fault {
                pointer: pointer.clone(),
                detail: format!("must be a number from 0 to {end}, not {value}"),
            };
            return self.first.iter().map(one).collect();
        }
        let places: Vec<String> =
            self.first.iter().map(|(pointer, value)| format!("{value} at {pointer}")).collect();
        let detail = format!(
            "{} of its {} numbers are not from 0 to {end}, the first are {}; {}",
            self.outside,
            self.numbers,
            places.join(", "),
            self.advice(),
        );
        vec![Fault { pointer: pointer.to_owned(), detail }]
    }

    /// Returns advice on how to send such numbers.
    fn advice(&self) -> String {
        let (least, most) = (self.least, self.most);
        let range = format!("they lie from {least} to {most}");
        match self.scale {
            Scale::Unit if least >= 0.0 && most <= 255.0 => {
                format!("{range}: send them with \"scale\": \"byte\"")
            }
            _ if least >= 0.0 && (256.0..=65_535.0).contains(&most) => {
                format!("{range}: divide pixels of 16 bits by 257 and send them with \"scale\": \"byte\"")
            }
            _ if least >= -1.0 && most <= 1.0 => {
                format!("{range}: send (x + 1) / 2 with \"scale\": \"unit\"")
            }
            _ if least < 0.0 => format!("{range}: send the pixels as they were before they were normalised"),
            _ => range,
        }
    }
}
