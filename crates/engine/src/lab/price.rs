use serde::Serialize;

use crate::data::picture::sheet_size;
use crate::fields::Fault;
use crate::nn::kernel::PANEL;
use crate::nn::{LayerSpec, Shape, Stopped, numbers_of_a_tape, shapes};
use crate::train::{LayerCost, SpecLimits};

/// What one question may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabLimits {
    /// What a network may be.
    pub spec: SpecLimits,
    /// Operations of an answer.
    pub flops_max: f64,
    /// Bytes held for an answer.
    pub memory_bytes_max: f64,
}

impl Default for LabLimits {
    fn default() -> Self {
        Self { spec: SpecLimits::default(), flops_max: 1e11, memory_bytes_max: 256e6 }
    }
}

/// What an answer will take: known before anything of its size is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerCost {
    /// Floating-point operations; of a gradient check, those of a product that take as long.
    pub flops: f64,
    /// Bytes held at a time at most, the body of the answer among them.
    pub memory_bytes: f64,
    /// Bytes of the body at most, held until it is sent.
    pub answer_bytes: f64,
}

/// A question that can be answered from the request alone. It is priced before it is answered.
pub trait Question: Sized + Send + 'static {
    /// The answer, without the form in which it is sent.
    type Answer: Serialize + Send + 'static;

    /// The cost of the answer in its longest form.
    fn cost(&self) -> AnswerCost;

    /// The answer.
    ///
    /// # Errors
    /// If there is none, for instance because a number of it is beyond what `f64` holds.
    fn answer(self) -> Result<Self::Answer, Vec<Fault>>;
}

/// Bytes of a number in JSON at most, with its comma and the brackets around it.
pub(super) const NUMBER_BYTES: f64 = 27.0;

/// Bytes of an object of some figures in JSON, with their names.
pub(super) const FIELDS_BYTES: f64 = 1_000.0;

/// Times that the bytes of a body are held while it is written: in a buffer that grows to twice its size, beside the one
/// before.
pub(super) const BODY_COPIES: f64 = 3.0;

/// Bytes of a pixel in a picture, and times that they are held until it is encoded.
const PIXEL_BYTES: f64 = 3.0;
const PICTURE_COPIES: f64 = 3.0;

/// Bytes that packing a picture takes, however small it is.
const PACKING_BYTES: f64 = 160e3;

impl AnswerCost {
    /// Of a body of so many bytes.
    pub(super) fn of_text(bytes: f64) -> Self {
        Self { flops: 0.0, memory_bytes: BODY_COPIES * bytes, answer_bytes: bytes }
    }

    /// Of a [`sheet`](crate::data::picture::sheet) of tiles of this width and height.
    pub(super) fn of_sheet(tiles: usize, tile: (usize, usize), columns: usize, zoom: usize) -> Self {
        let numbers = tiles as f64 * tile.0 as f64 * tile.1 as f64;
        let (width, height) = sheet_size(tiles, tile, columns, zoom);
        let bytes = PIXEL_BYTES * width as f64 * height as f64;
        let memory_bytes = PICTURE_COPIES * bytes + size_of::<f32>() as f64 * numbers + PACKING_BYTES;
        Self { flops: bytes, memory_bytes, answer_bytes: bytes + FIELDS_BYTES }
    }

    /// Of both, the second while what the first holds is still there.
    #[must_use]
    pub(super) fn then(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            answer_bytes: self.answer_bytes + other.answer_bytes,
        }
    }

    /// Seconds that it takes at so many operations a second, see [`check_flops_per_second`](super::check_flops_per_second).
    pub fn seconds(&self, flops_per_second: f64) -> f64 {
        self.flops / flops_per_second
    }
}

impl LabLimits {
    /// Refuses what would take too much, with the estimate.
    ///
    /// # Errors
    /// If it would.
    pub fn check(&self, cost: AnswerCost) -> Result<(), Vec<Fault>> {
        let fault = |estimate: f64, what: &str, most: f64| {
            let detail =
                format!("the answer would take about {estimate:.1e} {what}, this server gives {most:.1e}");
            // An estimate that is NaN is beyond every limit.
            (estimate.is_nan() || estimate > most).then(|| Fault { pointer: String::new(), detail })
        };
        let faults: Vec<Fault> = [
            fault(cost.flops, "floating-point operations", self.flops_max),
            fault(cost.memory_bytes, "bytes of memory", self.memory_bytes_max),
        ]
        .into_iter()
        .flatten()
        .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What passes of one image through layers take.
pub(super) struct Passes<'a> {
    layers: &'a [LayerSpec],
    shapes: Vec<Shape>,
    costs: Vec<LayerCost>,
}

impl<'a> Passes<'a> {
    /// Through `layers`, which fit each other and an input of this shape.
    pub fn of(input: Shape, layers: &'a [LayerSpec]) -> Self {
        let shapes = shapes(input, layers).unwrap_or_default();
        Self { costs: LayerCost::of_all(layers, &shapes), layers, shapes }
    }

    /// Operations forward.
    pub fn forward(&self) -> f64 {
        self.costs.iter().map(|cost| cost.flops_forward).sum()
    }

    /// Operations backward, the gradients of the parameters among them.
    pub fn backward(&self) -> f64 {
        self.costs.iter().map(|cost| cost.flops_backward).sum()
    }

    /// Operations backward to the value number `first`, without the gradients of parameters.
    pub fn errors(&self, first: usize) -> f64 {
        self.costs.iter().skip(first).map(|cost| cost.flops_forward).sum()
    }

    /// Trained numbers.
    pub fn parameters(&self) -> f64 {
        self.costs.iter().map(|cost| cost.parameters).sum()
    }

    /// Numbers between the layers, the image among them.
    pub fn values(&self) -> f64 {
        self.values_from(0)
    }

    /// The same without those before the value number `first`.
    pub fn values_from(&self, first: usize) -> f64 {
        self.shapes.iter().skip(first).map(|shape| shape.len() as f64).sum()
    }

    /// The shape of the value at `index`.
    pub fn shape(&self, index: usize) -> Shape {
        self.shapes[index]
    }

    /// Numbers of a [`Tape`](crate::nn::Tape).
    pub fn tape(&self, rows: usize, errors_from: usize) -> f64 {
        numbers_of_a_tape(self.layers, &self.shapes, rows, errors_from)
    }
}

/// Operations for the drawing of a weight.
pub(super) const FLOPS_PER_DRAW: f64 = 40.0;

/// The first value of a layer by itself whose error is wanted, where any is.
pub(super) fn errors_from(is_backward: bool) -> usize {
    if is_backward { 0 } else { usize::MAX }
}

/// Numbers of a matrix in the order of a product.
pub(super) fn padded(rows: usize, columns: usize) -> f64 {
    rows as f64 * columns.next_multiple_of(PANEL) as f64
}

/// Asks whether to go on.
pub(super) fn asked(go_on: &dyn Fn() -> bool) -> Result<(), Stopped> {
    if go_on() { Ok(()) } else { Err(Stopped) }
}
