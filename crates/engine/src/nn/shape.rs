use serde::{Deserialize, Serialize};

/// The shape of what goes from layer to layer for one image, stored channels last: element (y, x,
/// c) is at `(y · width + x) · channels + c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values at each place.
    pub channels: usize,
}

impl Shape {
    /// A list of numbers that has no rows and columns.
    pub fn vector(length: usize) -> Self {
        Self { height: 1, width: 1, channels: length }
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there is no element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Places, each of `channels` elements.
    pub fn places(self) -> usize {
        self.height * self.width
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// What a convolution does at the border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// The window stays inside the image.
    #[default]
    Valid,
    /// Zeros around the image, so that with a stride of 1 the output is as large as the input; an
    /// odd one goes to the bottom and the right.
    Same,
}

/// A square window that moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Shape of the image.
    pub input: Shape,
    /// Side of the window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// The input with its border of zeros.
    pub padded: Shape,
    /// Where the input begins on it.
    pub origin: usize,
    /// Rows of the output.
    pub height: usize,
    /// Columns of the output.
    pub width: usize,
}

impl Window {
    /// `None` where the window is larger than the image.
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

    /// Where each window begins on the padded image, row by row.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.height)
            .flat_map(move |y| (0..self.width).map(move |x| self.at(y * self.stride, x * self.stride)))
    }

    /// The first elements of the places of a window, from where it begins, row by row.
    pub fn taps(self) -> impl Iterator<Item = usize> {
        (0..self.kernel).flat_map(move |u| (0..self.kernel).map(move |v| self.at(u, v)))
    }

    /// Where the element (y, x, 0) of the padded image is.
    pub fn at(self, y: usize, x: usize) -> usize {
        (y * self.padded.width + x) * self.padded.channels
    }
}
