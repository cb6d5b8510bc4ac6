use ndarray::{Array, Array2, Dimension};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::fields::{Fields, kind};

/// An array of any shape in row-major order. In JSON, it is written as nested arrays.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length along each axis.
    pub shape: Vec<usize>,
    /// The elements in row-major order.
    pub values: Vec<f64>,
}

/// Largest number of axes in a request. The weight of a convolution has four: height, width, channels and
/// filters.
const AXES_MAX: usize = 4;

impl Tensor {
    /// An array with these elements in row-major order.
    pub fn new(shape: Vec<usize>, values: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "the values must fill the shape");
        Self { shape, values }
    }

    /// The elements of `array` in row-major order, as an array of this shape.
    pub(super) fn of<D: Dimension>(shape: &[usize], array: Array<f64, D>) -> Self {
        Self::new(shape.to_vec(), array.into_iter().collect())
    }

    /// A copy of the elements as a matrix with `columns` columns.
    pub(super) fn matrix(&self, columns: usize) -> Array2<f64> {
        let shape = (self.values.len() / columns, columns);
        Array2::from_shape_vec(shape, self.values.clone()).expect("the array has whole rows")
    }

    /// The field `name` as an array whose number of axes is one of `axes`. Reports a fault if it is not.
    pub fn take(fields: &mut Fields, name: &'static str, axes: &[usize]) -> Option<Self> {
        let value = fields.take(name)?;
        let mut tensor = Self { shape: Vec::new(), values: Vec::new() };
        let read = tensor.read(value, 0, &mut String::new());
        let fault = match read {
            Err((place, detail)) => Some((format!("{name}{place}"), detail)),
            Ok(()) if !axes.contains(&tensor.shape.len()) => {
                let wanted: Vec<String> = axes.iter().map(|axes| axes.to_string()).collect();
                let detail = format!(
                    "must have {} axes, not {}: its shape is {tensor}",
                    wanted.join(" or "),
                    tensor.shape.len()
                );
                Some((name.to_owned(), detail))
            }
            Ok(()) => None,
        };
        match fault {
            Some((place, detail)) => {
                fields.fault(&place, detail);
                None
            }
            None => Some(tensor),
        }
    }

    /// [`Self::take`], but also reports a fault if the field is absent.
    pub fn required(fields: &mut Fields, name: &'static str, axes: &[usize]) -> Option<Self> {
        if fields.take(name).is_none() {
            fields.fault(name, "is missing".to_owned());
        }
        Self::take(fields, name, axes)
    }

    fn read(&mut self, value: &Value, axis: usize, place: &mut String) -> Result<(), (String, String)> {
        let fault = |place: &str, detail: String| Err((place.to_owned(), detail));
        match value {
            Value::Array(values) if axis < AXES_MAX => {
                if values.is_empty() {
                    return fault(place, "must not be empty".to_owned());
                }
                let is_first = self.values.is_empty() && self.shape.len() == axis;
                if is_first {
                    self.shape.push(values.len());
                }
                match self.shape.get(axis) {
                    Some(&length) if length == values.len() => {}
                    Some(length) => {
                        let detail =
                            format!("has {} elements, but those before it have {length}", values.len());
                        return fault(place, detail);
                    }
                    None => return fault(place, "must be a number, like those before it".to_owned()),
                }
                for (index, value) in values.iter().enumerate() {
                    let length = place.len();
                    place.push_str(&format!("/{index}"));
                    self.read(value, axis + 1, place)?;
                    place.truncate(length);
                }
                Ok(())
            }
            Value::Number(number) if axis == self.shape.len() => match number.as_f64() {
                Some(number) if number.is_finite() => {
                    self.values.push(number);
                    Ok(())
                }
                _ => fault(place, format!("{number} is beyond what f64 holds")),
            },
            Value::Number(_) => fault(place, "must be an array, like those before it".to_owned()),
            Value::Array(_) => fault(place, format!("must have {AXES_MAX} axes at most")),
            other => fault(place, format!("must be numbers, not {}", kind(other))),
        }
    }
}

/// The shape as NumPy writes it: `(2,)`, `(2, 3)`.
impl std::fmt::Display for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&shape_text(&self.shape))
    }
}

/// A shape as NumPy writes it.
pub fn shape_text(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        many => format!("({})", many.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SubTensor { shape: &self.shape, values: &self.values }.serialize(serializer)
    }
}

/// The subarray at fixed indices along the first axes.
struct SubTensor<'a> {
    shape: &'a [usize],
    values: &'a [f64],
}

impl Serialize for SubTensor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self.shape {
            [] => self.values.first().serialize(serializer),
            [_] => self.values.serialize(serializer),
            [length, ref shape @ ..] => {
                let size = (self.values.len() / length.max(1)).max(1);
                serializer.collect_seq(self.values.chunks(size).map(|values| SubTensor { shape, values }))
            }
        }
    }
}
