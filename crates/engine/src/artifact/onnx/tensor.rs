use super::proto::{TensorProto, element};

/// Numbers in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
    /// Whether the elements are integers. Their quotients are integers too.
    pub is_integer: bool,
}

/// Largest number of axes.
pub(super) const RANK_MAX: usize = 8;

/// Integers of a larger magnitude can't be represented as `f64`.
const INTEGER_MAX: i64 = 1 << f64::MANTISSA_DIGITS;

impl Tensor {
    /// A tensor of floating-point numbers.
    ///
    /// # Panics
    /// If the number of values is not that of the shape.
    pub fn new(shape: Vec<usize>, values: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "the values of a tensor of {shape:?}");
        Self { shape, values, is_integer: false }
    }

    /// A list of integers.
    pub fn integers(values: Vec<f64>) -> Self {
        Self { is_integer: true, ..Self::new(vec![values.len()], values) }
    }

    /// Reads a constant.
    ///
    /// # Errors
    /// If its shape, type and data don't fit each other, if a number is not finite, or if the data is in another file.
    pub fn read(proto: &TensorProto) -> Result<Self, String> {
        if proto.data_location != 0 || !proto.external_data.is_empty() {
            return Err("is in another file; write the weights into the same file".to_owned());
        }
        let shape = shape(&proto.dims)?;
        let length = shape.iter().try_fold(1_usize, |length, &side| length.checked_mul(side));
        let length = length.ok_or("has too many elements")?;
        let (values, is_integer) = match proto.data_type {
            element::FLOAT => (floats(&proto.raw_data, &proto.float_data, f32::from_le_bytes), false),
            element::DOUBLE => (floats(&proto.raw_data, &proto.double_data, f64::from_le_bytes), false),
            element::INT32 => (integers(&proto.raw_data, &proto.int32_data, i32::from_le_bytes)?, true),
            element::INT64 => (integers(&proto.raw_data, &proto.int64_data, i64::from_le_bytes)?, true),
            other => {
                return Err(format!(
                    "is of {}; float32, float64, int32 and int64 are read",
                    element::name(other)
                ));
            }
        };
        let width = if matches!(proto.data_type, element::DOUBLE | element::INT64) { 8 } else { 4 };
        if values.len() != length || !proto.raw_data.len().is_multiple_of(width) {
            return Err(format!("has {} elements, its shape {shape:?} needs {length}", values.len()));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err("has an infinite number or NaN".to_owned());
        }
        Ok(Self { shape, values, is_integer })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The only element.
    pub fn scalar(&self) -> Option<f64> {
        if let [value] = self.values[..] { Some(value) } else { None }
    }

    /// The elements as integers.
    ///
    /// # Errors
    /// If one of them is none.
    pub fn as_integers(&self) -> Result<Vec<i64>, String> {
        let integer = |&value: &f64| {
            let is_one = value.fract() == 0.0 && value.abs() <= INTEGER_MAX as f64;
            if is_one { Ok(value as i64) } else { Err(format!("{value} is no integer")) }
        };
        self.values.iter().map(integer).collect()
    }
}

/// A shape from the dimensions of a file.
fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    if dims.len() > RANK_MAX {
        return Err(format!("has {} axes, which are too many", dims.len()));
    }
    let side = |&dim: &i64| usize::try_from(dim).map_err(|_| format!("has the dimension {dim}"));
    dims.iter().map(side).collect()
}

/// The elements, either from bytes or from a list.
fn floats<T: Copy + Into<f64>, const N: usize>(raw: &[u8], list: &[T], of: fn([u8; N]) -> T) -> Vec<f64> {
    let (raw, _) = raw.as_chunks();
    raw.iter().map(|&bytes| of(bytes).into()).chain(list.iter().map(|&value| value.into())).collect()
}

fn integers<T: Copy + Into<i64>, const N: usize>(
    raw: &[u8],
    list: &[T],
    of: fn([u8; N]) -> T,
) -> Result<Vec<f64>, String> {
    let (raw, _) = raw.as_chunks();
    let values = raw.iter().map(|&bytes| of(bytes).into()).chain(list.iter().map(|&value| value.into()));
    let value = |value: i64| {
        if value.unsigned_abs() <= INTEGER_MAX as u64 {
            Ok(value as f64)
        } else {
            Err("has an integer above 2^53")
        }
    };
    Ok(values.map(value).collect::<Result<_, _>>()?)
}
