use serde::Serialize;

use crate::data::picture::sheet_size;
use crate::fields::Fault;
use crate::nn::kernel::PANEL;
use crate::nn::{LayerSpec, Shape, Stopped, numbers_of_a_tape, shapes};
use crate::train::{LayerCost, SpecLimits};

/// Limits for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabLimits {
    /// Limits for the network of the request.
    pub spec: SpecLimits,
    /// Largest number of floating-point operations.
    pub flops_max: f64,
    /// Largest number of bytes allocated at one time.
    pub memory_bytes_max: f64,
}

impl Default for LabLimits {
    fn default() -> Self {
        Self { spec: SpecLimits::default(), flops_max: 1e11, memory_bytes_max: 256e6 }
    }
}

/// Upper bounds of the cost of an answer. They are known before memory of that size is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerCost {
    /// Floating-point operations. For a gradient check, the number that a matrix product would do in the same
    /// time.
    pub flops: f64,
    /// Bytes allocated at one time, including the body of the answer.
    pub memory_bytes: f64,
    /// Bytes of the body, which are held until it is sent.
    pub answer_bytes: f64,
}

/// A request that can be answered without a model or a data set. Its cost is computed before it is answered.
pub trait Question: Sized + Send + 'static {
    /// The answer, independent of the format in which it is sent.
    type Answer: Serialize + Send + 'static;

    /// The cost of the answer in its longest format.
    fn cost(&self) -> AnswerCost;

    /// Computes the answer.
    ///
    /// # Errors
    /// If there is none, for example because a number doesn't fit an `f64`.
    fn answer(self) -> Result<Self::Answer, Vec<Fault>>;
}

/// Upper bound of the bytes of a number in JSON, with its comma and the brackets around it.
pub(super) const NUMBER_BYTES: f64 = 27.0;

/// Upper bound of the bytes of a JSON object with some numbers and their names.
pub(super) const FIELDS_BYTES: f64 = 1_000.0;

/// Bytes allocated per byte of a body while it is written: a buffer that grows to twice its size, and the previous
/// buffer.
pub(super) const BODY_COPIES: f64 = 3.0;

/// Bytes per pixel in a picture, and number of copies held until it is encoded.
const PIXEL_BYTES: f64 = 3.0;
const PICTURE_COPIES: f64 = 3.0;

/// Bytes that encoding a picture takes regardless of its size.
const PACKING_BYTES: f64 = 160e3;

impl AnswerCost {
    /// The cost of a body of this many bytes.
    pub fn of_text(bytes: f64) -> Self {
        Self { flops: 0.0, memory_bytes: BODY_COPIES * bytes, answer_bytes: bytes }
    }

    /// The cost of a [`sheet`](crate::data::picture::sheet) of tiles of this width and height.
    pub fn of_sheet(tiles: usize, tile: (usize, usize), columns: usize, zoom: usize) -> Self {
        let numbers = tiles as f64 * tile.0 as f64 * tile.1 as f64;
        let (width, height) = sheet_size(tiles, tile, columns, zoom);
        let bytes = PIXEL_BYTES * width as f64 * height as f64;
        let memory_bytes = PICTURE_COPIES * bytes + size_of::<f32>() as f64 * numbers + PACKING_BYTES;
        Self { flops: bytes, memory_bytes, answer_bytes: bytes + FIELDS_BYTES }
    }

    /// The cost of both, if the memory of the first is still held during the second.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            answer_bytes: self.answer_bytes + other.answer_bytes,
        }
    }
}

impl LabLimits {
    /// Checks a cost against the limits.
    ///
    /// # Errors
    /// If the cost exceeds a limit. The message gives the estimate.
    pub fn check(&self, cost: AnswerCost) -> Result<(), Vec<Fault>> {
        let fault = |estimate: f64, what: &str, most: f64| {
            let detail =
                format!("the answer would take about {estimate:.1e} {what}, this server gives {most:.1e}");
            // An estimate of NaN exceeds every limit.
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

/// The cost of passing one image through layers.
pub(super) struct Passes<'a> {
    layers: &'a [LayerSpec],
    shapes: Vec<Shape>,
    costs: Vec<LayerCost>,
}

impl<'a> Passes<'a> {
    /// The cost for `layers` that fit each other and an input of this shape.
    pub fn of(input: Shape, layers: &'a [LayerSpec]) -> Self {
        let shapes = shapes(input, layers).unwrap_or_default();
        Self { costs: LayerCost::of_all(layers, &shapes), layers, shapes }
    }

    /// Operations of a forward pass.
    pub fn forward(&self) -> f64 {
        self.costs.iter().map(|cost| cost.flops_forward).sum()
    }

    /// Operations of a backward pass, including the gradients of the parameters.
    pub fn backward(&self) -> f64 {
        self.costs.iter().map(|cost| cost.flops_backward).sum()
    }

    /// Operations of a backward pass up to the value at index `first`, without the gradients of the
    /// parameters.
    pub fn errors(&self, first: usize) -> f64 {
        self.costs.iter().skip(first).map(|cost| cost.flops_forward).sum()
    }

    /// Number of trained parameters.
    pub fn parameters(&self) -> f64 {
        self.costs.iter().map(|cost| cost.parameters).sum()
    }

    /// Number of values between the layers, including the image.
    pub fn values(&self) -> f64 {
        self.values_from(0)
    }

    /// [`Self::values`], starting at the value at index `first`.
    pub fn values_from(&self, first: usize) -> f64 {
        self.shapes.iter().skip(first).map(|shape| shape.len() as f64).sum()
    }

    /// The shape of the value at `index`.
    pub fn shape(&self, index: usize) -> Shape {
        self.shapes[index]
    }

    /// Number of elements of a [`Tape`](crate::nn::Tape).
    pub fn tape(&self, rows: usize, errors_from: usize) -> f64 {
        numbers_of_a_tape(self.layers, &self.shapes, rows, errors_from)
    }
}

/// How many numbers a single layer holds on its way to an answer.
pub(super) struct LayerNumbers {
    /// Rows that pass the layer.
    pub rows: usize,
    /// Numbers of x, of the weight, and of y.
    pub x: f64,
    pub w: f64,
    pub y: f64,
    /// Numbers of a padded copy of x, and of dy packed for a product.
    pub padded_x: f64,
    pub packed_dy: f64,
    /// Whether the request contains dy.
    pub is_backward: bool,
}

impl Passes<'_> {
    /// The cost of an answer about a single layer. Its passes hold no more than a tape does. With dy, the answer holds
    /// dx, dW and db.
    pub fn of_single_layer(&self, numbers: &LayerNumbers) -> AnswerCost {
        let LayerNumbers { rows, x, w, y, padded_x, packed_dy, is_backward } = *numbers;
        let (dy, answered, back, passes) = match is_backward {
            true => (y, y + x + self.parameters(), self.parameters() + packed_dy, 3.0),
            false => (0.0, y, 0.0, 1.0),
        };
        let given = x + w + dy;
        let tape = self.tape(rows, if is_backward { 0 } else { usize::MAX });
        let held = given + self.parameters() + padded_x + tape + back + answered;
        let cost = AnswerCost {
            flops: rows as f64 * passes * self.forward(),
            memory_bytes: size_of::<f64>() as f64 * held,
            answer_bytes: 0.0,
        };
        cost.then(AnswerCost::of_text(NUMBER_BYTES * answered + 2.0 * FIELDS_BYTES))
    }
}

/// Number of elements of a matrix that is packed for a product.
pub(super) fn padded(rows: usize, columns: usize) -> f64 {
    rows as f64 * columns.next_multiple_of(PANEL) as f64
}

/// Returns an error if `go_on` returns false.
pub(super) fn check_stopped(go_on: &dyn Fn() -> bool) -> Result<(), Stopped> {
    if go_on() { Ok(()) } else { Err(Stopped) }
}
