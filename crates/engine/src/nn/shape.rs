use serde::{Deserialize, Serialize};

/// The shape of a value between two layers, for one image. Values are stored channels last: element (y, x, c)
/// is at index `(y · width + x) · channels + c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of values per pixel.
    pub channels: usize,
}

impl Shape {
    /// The shape of a vector: a single pixel with `length` channels.
    pub fn vector(length: usize) -> Self {
        Self { height: 1, width: 1, channels: length }
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of pixels, each of `channels` elements.
    pub fn places(self) -> usize {
        self.height * self.width
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// Padding of a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// No padding. Every window lies inside the image.
    #[default]
    Valid,
    /// Zeros around the image. With a stride of 1, the output is as large as the input. If the number of added rows or
    /// columns is odd, the extra one is at the bottom or right.
    Same,
}

/// A square window that slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Shape of the image.
    pub input: Shape,
    /// Side of the window, in pixels.
    pub kernel: usize,
    /// Distance from one window to the next, in pixels.
    pub stride: usize,
    /// Shape of the input with its border of zeros.
    pub padded: Shape,
    /// Offset of the input within the padded image, in elements.
    pub origin: usize,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
}

impl Window {
    /// The windows of a layer. `None` if a window is larger than the image.
    pub fn new(input: Shape, kernel: usize, stride: usize, padding: Padding) -> Option<Self> {
        let along = |length: usize| match padding {
            Padding::Valid => Some((length.checked_sub(kernel)? / stride + 1, 0)),
            Padding::Same => {
                let count = length.div_ceil(stride);
                Some((count, ((count - 1) * stride + kernel).saturating_sub(length)))
            }
        };
        let (height, rows) = along(input.height)?;
        let (width, columns) = along(input.width)?;
        let padded = Shape { height: input.height + rows, width: input.width + columns, ..input };
        let mut window = Self { input, kernel, stride, padded, origin: 0, height, width };
        window.origin = window.at(rows / 2, columns / 2);
        Some(window)
    }

    /// Offsets of the windows in the padded image, row by row.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.height)
            .flat_map(move |y| (0..self.width).map(move |x| self.at(y * self.stride, x * self.stride)))
    }

    /// Offsets of the pixels of a window, relative to its start, row by row.
    pub fn taps(self) -> impl Iterator<Item = usize> {
        (0..self.kernel).flat_map(move |u| (0..self.kernel).map(move |v| self.at(u, v)))
    }

    /// Offset of element (y, x, 0) of the padded image.
    pub fn at(self, y: usize, x: usize) -> usize {
        (y * self.padded.width + x) * self.padded.channels
    }
}
