use serde_json::{Map, Value};

use super::ArtifactError;

/// Bytes of the length in front of a header.
const LENGTH_BYTES: usize = 8;

/// A header ends at a multiple of this many bytes, filled up with spaces.
const ALIGNMENT: usize = 8;

/// The key of the receipt in the metadata of a model file.
const RECEIPT_KEY: &str = "receipt";

/// A model file with a receipt: a note on where the model comes from, in the metadata under the key `receipt`. Everything
/// else stays the same, and the file can still be read. Equal arguments give equal bytes.
///
/// # Errors
/// If the bytes are not a safetensors file.
pub fn with_receipt(model: &[u8], receipt: &Value) -> Result<Vec<u8>, ArtifactError> {
    let error = |detail: &str| ArtifactError::Metadata(detail.to_owned());
    let (header, data) = split(model).ok_or_else(|| error("the header is longer than the file"))?;
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|problem| error(&problem.to_string()))?;
    // Sorted, since the bytes must not depend on the order in which another program wrote them.
    let mut header: std::collections::BTreeMap<String, Value> = header.into_iter().collect();
    let metadata = header.entry("__metadata__".to_owned()).or_insert_with(|| Value::Object(Map::new()));
    let metadata = metadata.as_object_mut().ok_or_else(|| error("the metadata is no object"))?;
    metadata.insert(RECEIPT_KEY.to_owned(), Value::String(receipt.to_string()));
    let mut header = serde_json::to_vec(&header).map_err(|problem| error(&problem.to_string()))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');

    let mut file = Vec::with_capacity(LENGTH_BYTES + header.len() + data.len());
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    file.extend_from_slice(data);
    Ok(file)
}

/// The header of a safetensors file, and the data after it. `None` if the file ends before.
pub(super) fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
