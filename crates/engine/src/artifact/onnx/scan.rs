use super::OnnxError;
use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Largest number of messages of one kind in a file, such as nodes.
const COUNT_MAX: usize = 100_000;

/// Elements that a growing list holds for each element in it.
const GROWTH: usize = 2;

/// A message whose fields are decoded.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Operators,
    Entry,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
}

/// What a field holds once it is decoded.
enum Field {
    Message(Kind),
    /// Bytes or text.
    Bytes,
    /// One of many texts.
    Text,
    /// Numbers of this many bytes, of which each takes at least so many in the file.
    Numbers {
        bytes: usize,
        encoded: usize,
    },
    /// Nothing of importance.
    Other,
}

impl Kind {
    fn field(self, number: u64) -> Field {
        use Field::{Bytes, Message, Numbers, Other, Text};
        let (wide, single, integer) = (
            Numbers { bytes: 8, encoded: 8 },
            Numbers { bytes: 4, encoded: 4 },
            Numbers { bytes: 8, encoded: 1 },
        );
        match (self, number) {
            (Self::Model, 7) => Message(Self::Graph),
            (Self::Model, 8) => Message(Self::Operators),
            (Self::Model, 14) => Message(Self::Entry),
            (Self::Graph, 1) => Message(Self::Node),
            (Self::Graph, 5) => Message(Self::Tensor),
            (Self::Graph, 11 | 12) => Message(Self::Value),
            (Self::Node, 1 | 2) => Text,
            (Self::Node, 5) => Message(Self::Attribute),
            (Self::Attribute, 5) => Message(Self::Tensor),
            (Self::Attribute, 7) => single,
            (Self::Attribute, 8) | (Self::Tensor, 1 | 7) => integer,
            (Self::Tensor, 4) => single,
            (Self::Tensor, 5) => Numbers { bytes: 4, encoded: 1 },
            (Self::Tensor, 10) => wide,
            (Self::Tensor, 13) => Message(Self::Entry),
            (Self::Value, 2) => Message(Self::Type),
            (Self::Type, 1) => Message(Self::TensorType),
            (Self::TensorType, 2) => Message(Self::Shape),
            (Self::Shape, 1) => Message(Self::Dimension),
            (Self::Model, 2 | 3)
            | (Self::Operators, 1)
            | (Self::Entry, 1 | 2)
            | (Self::Graph, 2)
            | (Self::Node, 3 | 4 | 7)
            | (Self::Attribute, 1 | 4)
            | (Self::Tensor, 8 | 9)
            | (Self::Value, 1)
            | (Self::Dimension, 2) => Bytes,
            _ => Other,
        }
    }

    /// Bytes of a decoded message, without what it points to.
    fn size(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Operators => size_of::<OperatorSetIdProto>(),
            Self::Entry => size_of::<StringStringEntryProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::Value => size_of::<ValueInfoProto>(),
            Self::Type => size_of::<TypeProto>(),
            Self::TensorType => size_of::<TensorTypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Dimension => size_of::<DimensionProto>(),
        }
    }
}

/// Upper bound of the bytes that decoding a file allocates. Nothing is allocated to find it.
///
/// # Errors
/// If the bytes are not a file of ONNX, or it has too many nodes.
pub(super) fn decoded_bytes(bytes: &[u8]) -> Result<usize, OnnxError> {
    let mut counts = [0; Kind::Dimension as usize + 1];
    let total = message(Kind::Model, bytes, &mut counts)?;
    if counts[Kind::Graph as usize] == 0 {
        return Err(malformed("it has no graph"));
    }
    Ok(total)
}

fn malformed(detail: &str) -> OnnxError {
    OnnxError::Malformed(detail.to_owned())
}

fn message(kind: Kind, mut bytes: &[u8], counts: &mut [usize]) -> Result<usize, OnnxError> {
    counts[kind as usize] += 1;
    if counts[kind as usize] > COUNT_MAX {
        let what = if let Kind::Node = kind { "nodes" } else { "entries of one kind" };
        return Err(OnnxError::Limit(format!("it has more than {COUNT_MAX} {what}")));
    }
    let mut total = GROWTH * kind.size();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let held = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                number_bytes(&kind.field(key >> 3), 1)
            }
            1 => number_bytes(&kind.field(key >> 3), take(&mut bytes, 8)?.len()),
            5 => number_bytes(&kind.field(key >> 3), take(&mut bytes, 4)?.len()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).unwrap_or(usize::MAX);
                let inner = take(&mut bytes, length)?;
                match kind.field(key >> 3) {
                    Field::Message(child) => message(child, inner, counts)?,
                    Field::Bytes => inner.len(),
                    Field::Text => GROWTH * size_of::<String>() + inner.len(),
                    numbers @ Field::Numbers { .. } => number_bytes(&numbers, inner.len()),
                    Field::Other => 0,
                }
            }
            other => return Err(malformed(&format!("a field has the wire type {other}"))),
        };
        total = total.saturating_add(held);
    }
    Ok(total)
}

/// Bytes of the numbers that are encoded in `length` bytes.
fn number_bytes(field: &Field, length: usize) -> usize {
    match field {
        Field::Numbers { bytes, encoded } => GROWTH * bytes * length.div_ceil(*encoded),
        _ => 0,
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], OnnxError> {
    let (taken, rest) =
        bytes.split_at_checked(length).ok_or_else(|| malformed("it ends in the middle of a field"))?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, OnnxError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes, 1)? else { unreachable!("one byte was taken") };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number has more than 64 bits"))
}
