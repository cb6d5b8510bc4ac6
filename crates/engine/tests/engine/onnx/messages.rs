//! ONNX files word for word: the encoding of protocol buffers, independent of that of the crate.

/// A field that holds bytes, text or a message.
pub fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field that holds an integer.
pub fn integer(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value as u64)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value > 0x7f {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

/// An attribute that is an integer.
pub fn int(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name), integer(3, value), integer(20, 2)].concat()
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let values = values.iter().flat_map(|&value| integer(8, value));
    [bytes(1, name), values.collect(), integer(20, 7)].concat()
}

/// A node with the name of its output.
pub fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| bytes(1, name)).collect();
    let attributes = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
    bytes(1, [inputs, bytes(2, output), bytes(3, output), bytes(4, operator), attributes].concat())
}

/// A constant of 32-bit floats.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, dims, 1, &bytes(9, raw))
}

/// A constant of 64-bit integers.
pub fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, &[values.len() as i64], 7, &bytes(9, raw))
}

/// A constant with these fields for its data.
pub fn tensor(name: &str, dims: &[i64], kind: i64, data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| integer(1, dim)).collect();
    bytes(5, [dims, integer(2, kind), data.to_vec(), bytes(8, name)].concat())
}

/// An input (11) or output (12) of this element type. A side of 0 is free.
pub fn value(number: u64, name: &str, kind: i64, sides: &[i64]) -> Vec<u8> {
    let dim = |&side: &i64| bytes(1, if side == 0 { bytes(2, "n") } else { integer(1, side) });
    let shape: Vec<u8> = sides.iter().flat_map(dim).collect();
    let kind = bytes(1, [integer(1, kind), bytes(2, shape)].concat());
    bytes(number, [bytes(1, name), bytes(2, kind)].concat())
}

/// A file of version 8 and opset 17 with these parts of a graph.
pub fn file(graph: &[Vec<u8>]) -> Vec<u8> {
    let opset = [bytes(1, ""), integer(2, 17)].concat();
    [integer(1, 8), bytes(7, graph.concat()), bytes(8, opset)].concat()
}

/// A graph on images of 4 × 4 pixels, `x`, as a matrix `flat`, to the output `y`.
pub fn small(parts: &[Vec<u8>]) -> Vec<u8> {
    let shape = integers("shape", &[-1, 16]);
    let begin = [value(11, "x", 1, &[0, 4, 4]), value(12, "y", 1, &[0, 2]), shape];
    let flat = node("Reshape", &["x", "shape"], "flat", &[]);
    file(&[begin.to_vec(), vec![flat], parts.to_vec()].concat())
}

/// A weight for 16 pixels and 2 classes, named `w`.
pub fn weight() -> Vec<u8> {
    let values: Vec<f32> = (0..32).map(|index| index as f32 / 16.0 - 1.0).collect();
    floats("w", &[16, 2], &values)
}
