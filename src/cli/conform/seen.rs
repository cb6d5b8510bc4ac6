use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::Value;

use crate::oip::{Datatype, byte_elements};

/// The most characters of a response that are shown.
const SHOWN_MAX: usize = 72;

/// The header with the length of the JSON in a body with binary tensors.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// The response of a server.
pub struct Seen {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// An output tensor of a response, as numbers or texts.
pub struct SeenTensor {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    pub is_binary: bool,
    /// The number of elements.
    pub count: usize,
    /// The elements, if they are texts.
    pub texts: Vec<String>,
}

impl Seen {
    /// Returns a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("the body is not JSON: {error}"))
    }

    /// Returns whether the response is an error with the error object of the protocol.
    pub fn is_error_object(&self) -> bool {
        self.status >= 400 && self.json().is_ok_and(|body| body["error"].is_string())
    }

    /// Returns whether the body is compressed.
    pub fn is_packed(&self) -> bool {
        self.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() != b"identity")
    }

    /// Describes the response in a line.
    pub fn summary(&self) -> String {
        let text = match self.json() {
            Ok(Value::Object(body)) if body.get("error").is_some_and(Value::is_string) => {
                body["error"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        let rest = if shown.len() < text.len() { "…" } else { "" };
        match shown.is_empty() {
            true => self.status.to_string(),
            false => format!("{} {shown}{rest}", self.status),
        }
    }

    /// Parses a response to inference: its JSON, and the tensors that follow.
    pub fn inference(&self) -> Result<(Value, Vec<SeenTensor>), String> {
        if self.status != 200 {
            return Err("the status is not 200".to_owned());
        }
        let length = match self.header(JSON_LENGTH) {
            None => self.body.len(),
            Some(length) => {
                let length = length.parse().ok().filter(|length| *length <= self.body.len());
                length.ok_or("the header has no length within the body")?
            }
        };
        let (json, mut rest) = self.body.split_at(length);
        let json: Value =
            serde_json::from_slice(json).map_err(|error| format!("the response is not JSON: {error}"))?;
        if !json["model_name"].is_string() {
            return Err("model_name is not a text".to_owned());
        }
        if json.get("model_version").is_some_and(|version| !version.is_string()) {
            return Err("model_version is not a text".to_owned());
        }
        let outputs = json["outputs"].as_array().ok_or("outputs is not a list")?;
        let tensors: Result<Vec<_>, String> =
            outputs.iter().map(|output| tensor(output, &mut rest)).collect();
        let tensors = tensors?;
        match rest.is_empty() {
            true => Ok((json, tensors)),
            false => Err(format!("{} bytes are left after the outputs", rest.len())),
        }
    }
}

/// Parses an output, and takes its bytes from `rest` if it is binary.
fn tensor(output: &Value, rest: &mut &[u8]) -> Result<SeenTensor, String> {
    let word =
        |field: &str| output[field].as_str().map(str::to_owned).ok_or(format!("{field} is not a text"));
    let (name, datatype) = (word("name")?, word("datatype")?);
    let shape: Option<Vec<i64>> =
        output["shape"].as_array().and_then(|sides| sides.iter().map(Value::as_i64).collect());
    let shape = shape.ok_or_else(|| format!("the shape of {name} is not a list of numbers"))?;
    let kind =
        Datatype::named(&datatype).ok_or_else(|| format!("{name} has the unknown datatype {datatype}"))?;
    let size = output["parameters"]["binary_data_size"].as_u64();
    let (count, texts) = match (size, output.get("data")) {
        (Some(size), None) => {
            let (bytes, others) =
                rest.split_at_checked(size as usize).ok_or(format!("the bytes of {name} are cut off"))?;
            *rest = others;
            match kind.size() {
                Some(size) => (bytes.len() / size, Vec::new()),
                None => {
                    let texts: Vec<String> =
                        byte_elements(bytes).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
                    (texts.len(), texts)
                }
            }
        }
        (None, Some(data)) => {
            let mut texts = Vec::new();
            (elements(data, &mut texts), texts)
        }
        (Some(_), Some(_)) => return Err(format!("{name} has both data and bytes")),
        (None, None) => return Err(format!("{name} has neither data nor bytes")),
    };
    let wanted = shape.iter().product::<i64>();
    if wanted != count as i64 {
        return Err(format!("{name} has {count} elements, but its shape has {wanted}"));
    }
    Ok(SeenTensor { name, datatype, shape, is_binary: size.is_some(), count, texts })
}

/// Counts the elements of nested lists and collects those that are texts.
fn elements(data: &Value, texts: &mut Vec<String>) -> usize {
    match data {
        Value::Array(list) => list.iter().map(|data| elements(data, texts)).sum(),
        Value::String(text) => {
            texts.push(text.clone());
            1
        }
        _ => 1,
    }
}
