use super::{Datatype, INPUT, LABEL, PROBABILITIES};
use crate::nn::Shape;
use crate::registry::Model;

/// The name, type and shape of an input or output. −1 is the number of images of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMetadata {
    /// Name of the tensor.
    pub name: &'static str,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Its shape, beginning with the number of images.
    pub shape: Vec<i64>,
}

/// What clients must know about a version of a model to ask it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Name of the model.
    pub model: String,
    /// Number of the version.
    pub version: u32,
    /// Shape of an image.
    pub image: Shape,
    /// Number of classes.
    pub classes: usize,
}

impl Interface {
    /// Describes a model.
    pub fn of(model: &Model) -> Self {
        Self {
            model: model.name.clone(),
            version: model.version,
            image: model.predictor.network().input(),
            classes: model.classes.len(),
        }
    }

    /// Returns the input as it is declared. Other datatypes and shapes of the same images are accepted as well.
    pub fn input(&self) -> TensorMetadata {
        let mut shape = vec![-1];
        shape.extend(self.layouts().swap_remove(0));
        TensorMetadata { name: INPUT, datatype: Datatype::Uint8, shape }
    }

    /// Returns the outputs.
    pub fn outputs(&self) -> [TensorMetadata; 2] {
        let tensor = |name, datatype, shape| TensorMetadata { name, datatype, shape };
        [
            tensor(PROBABILITIES, Datatype::Fp32, vec![-1, self.classes as i64]),
            tensor(LABEL, Datatype::Int64, vec![-1]),
        ]
    }

    /// Returns the accepted shapes of one image, the declared one first. All of them have the same elements in the same
    /// order.
    pub fn layouts(&self) -> Vec<Vec<i64>> {
        let Shape { height, width, channels } = self.image;
        let [rows, columns, depth] = [height, width, channels].map(|side| side as i64);
        let flat = vec![self.image.len() as i64];
        match (rows, columns, depth) {
            (1, 1, _) => vec![flat, vec![1, 1, depth]],
            (_, _, 1) => {
                vec![vec![rows, columns], flat, vec![rows, columns, 1], vec![1, rows, columns]]
            }
            _ => vec![vec![rows, columns, depth], flat],
        }
    }

    /// Returns how many images a tensor of this shape has, or `None` if its shape is not accepted.
    pub fn images(&self, shape: &[i64]) -> Option<usize> {
        let (&count, image) = shape.split_first()?;
        let is_accepted = self.layouts().iter().any(|layout| layout == image);
        usize::try_from(count).ok().filter(|_| is_accepted)
    }
}
