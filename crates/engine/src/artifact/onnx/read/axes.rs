use crate::nn::Shape;

/// What an axis of a tensor runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Batch,
    Row,
    Column,
    Channel,
}

/// Which parts of a batch of images each axis of a tensor runs over, and how many elements each part has, outermost
/// first. A part of one element is left out. So an axis without parts has one element.
///
/// Reshaping and transposing only change the axes. The values that a layer takes stay the same, except for their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axes(Vec<Vec<(Part, usize)>>);

impl Axes {
    /// The axes of an input whose images have these sides, and the shape of an image.
    ///
    /// # Errors
    /// If they are not those of a grey image.
    pub fn of_input(sides: &[usize]) -> Result<(Self, Shape), String> {
        use Part::{Column, Row};
        let fault = || {
            format!(
                "its input has the sides {sides:?}; grey images are supported: rows and columns, with one channel \
                 before or after them, or a square as one list"
            )
        };
        let (height, width, axes) = match *sides {
            [all] => {
                let side = all.isqrt();
                if side * side != all {
                    return Err(fault());
                }
                (side, side, vec![vec![(Row, side), (Column, side)]])
            }
            [height, width] => (height, width, vec![vec![(Row, height)], vec![(Column, width)]]),
            [1, height, width] => (height, width, vec![vec![], vec![(Row, height)], vec![(Column, width)]]),
            [height, width, 1] => (height, width, vec![vec![(Row, height)], vec![(Column, width)], vec![]]),
            _ => return Err(fault()),
        };
        Ok((Self::of_image(axes), Shape { height, width, channels: 1 }))
    }

    fn of_image(axes: Vec<Vec<(Part, usize)>>) -> Self {
        let mut all = vec![vec![(Part::Batch, 1)]];
        all.extend(axes.into_iter().map(|axis| axis.into_iter().filter(|&(_, size)| size > 1).collect()));
        Self(all)
    }

    /// A matrix with one row for each image.
    pub fn vector(length: usize) -> Self {
        Self::of_image(vec![vec![(Part::Channel, length)]])
    }

    /// A batch of images, channels first.
    pub fn channels_first(shape: Shape) -> Self {
        let Shape { height, width, channels } = shape;
        let axes = [(Part::Channel, channels), (Part::Row, height), (Part::Column, width)];
        Self::of_image(axes.map(|part| vec![part]).to_vec())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The sides of the tensor. The batch counts as `batch`.
    pub fn sides(&self, batch: usize) -> Vec<usize> {
        let size = |&(part, size): &(Part, usize)| if part == Part::Batch { batch } else { size };
        self.0.iter().map(|axis| axis.iter().map(size).product()).collect()
    }

    /// The shape of an image, if this is a batch of images with the channels first.
    pub fn image(&self) -> Option<Shape> {
        let [batch, channels, rows, columns] = &self.0[..] else { return None };
        let is_batch = batch.iter().all(|&(part, _)| part == Part::Batch) && !batch.is_empty();
        let side = |axis: &Vec<(Part, usize)>, part: Part| match axis[..] {
            [] => Some(1),
            [(found, size)] if found == part => Some(size),
            _ => None,
        };
        let shape = Shape {
            height: side(rows, Part::Row)?,
            width: side(columns, Part::Column)?,
            channels: side(channels, Part::Channel)?,
        };
        is_batch.then_some(shape)
    }

    /// If this is a matrix with one row for each image: the place that a network gives to each element of a row.
    pub fn row(&self) -> Option<Vec<usize>> {
        let [batch, parts] = &self.0[..] else { return None };
        if !matches!(batch[..], [(Part::Batch, _)]) {
            return None;
        }
        // A network stores an image row by row, with the channels of a pixel next to each other.
        let size = |part: Part| parts.iter().find(|found| found.0 == part).map_or(1, |found| found.1);
        let step = |part: Part| match part {
            Part::Row => size(Part::Column) * size(Part::Channel),
            Part::Column => size(Part::Channel),
            Part::Channel | Part::Batch => 1,
        };
        let mut places = vec![0];
        for &(part, size) in parts {
            let step = step(part);
            places =
                places.iter().flat_map(|place| (0..size).map(move |index| place + index * step)).collect();
        }
        Some(places)
    }

    /// Whether axis `axis` runs over the channels of each pixel, and nothing else.
    pub fn is_channel(&self, axis: usize) -> bool {
        self.0.get(axis).is_some_and(|parts| matches!(parts[..], [(Part::Channel, _)]))
    }

    /// The axes in another order.
    pub fn transposed(&self, order: &[usize]) -> Self {
        Self(order.iter().map(|&axis| self.0[axis].clone()).collect())
    }

    /// The axes after a reshape to these sides, whose first one is the batch.
    ///
    /// # Errors
    /// If an axis would hold a fraction of a part.
    pub fn reshaped(&self, sides: &[usize]) -> Result<Self, String> {
        let fault = || format!("the sides {:?} can't become {sides:?}", self.sides(1));
        let mut parts = self.0.iter().flatten().copied().peekable();
        if parts.next().is_none_or(|(part, _)| part != Part::Batch) {
            return Err(fault());
        }
        let mut axes = vec![vec![(Part::Batch, 1)]];
        for &side in sides.get(1..).ok_or_else(fault)? {
            let (mut axis, mut size) = (Vec::new(), 1);
            while size < side {
                let part = parts.next().ok_or_else(fault)?;
                size *= part.1;
                axis.push(part);
            }
            if size != side {
                return Err(fault());
            }
            axes.push(axis);
        }
        if parts.peek().is_some() { Err(fault()) } else { Ok(Self(axes)) }
    }
}
