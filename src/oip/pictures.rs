//! Pictures as the elements of a tensor of BYTES.

use std::any::Any;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::{Buf, Bytes};

use super::flat::{Element, elements};
use super::{Contents, INPUT, InferError};
use crate::admission::{Lane, Price, Stop};
use crate::service::{Caller, Pictures, QUICK_PICTURE_BYTES, Service};

/// Returns the pictures of a tensor that must have `count` of them. Those in base64 are decoded.
pub(super) async fn pictures(
    service: &Service,
    caller: &Caller,
    contents: &Contents,
    count: usize,
    held: Arc<dyn Any + Send + Sync>,
) -> Result<Pictures, InferError> {
    match contents {
        Contents::Raw(bytes) => Ok(Pictures::new(raw_elements(bytes.clone(), count)?, held)),
        Contents::Json(text) => {
            // The decoded bytes are three quarters of the text.
            let is_quick = text.len() <= QUICK_PICTURE_BYTES;
            let lane = if is_quick { Lane::Predict } else { Lane::Pictures };
            let price = Price::new(lane, text.len()).instant(is_quick);
            let text = text.clone();
            let decode = move |_: &Stop| base64_elements(&text, count);
            let (files, charge) = service.work(caller, price, decode).await?;
            Ok(Pictures::new(files, charge))
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> InferError {
    InferError::Invalid(format!("input '{INPUT}': {why}"))
}

/// Splits bytes into elements, each of which begins with its length.
fn raw_elements(mut bytes: Bytes, count: usize) -> Result<Vec<Bytes>, InferError> {
    let mut found = Vec::with_capacity(count);
    while !bytes.is_empty() {
        let index = found.len();
        if index == count {
            return Err(invalid(format!("{} bytes are left after its {count} elements", bytes.len())));
        }
        if bytes.len() < size_of::<u32>() {
            return Err(invalid(format!("the length of element {index} is cut off")));
        }
        let length = bytes.get_u32_le() as usize;
        if length > bytes.len() {
            let left = bytes.len();
            return Err(invalid(format!("element {index} has {length} bytes, but only {left} are left")));
        }
        found.push(bytes.split_to(length));
    }
    match found.len() == count {
        true => Ok(found),
        false => Err(invalid(format!("its shape has {count} elements, but its data has {}", found.len()))),
    }
}

/// Decodes the texts of a JSON array.
fn base64_elements(text: &[u8], count: usize) -> Result<Vec<Bytes>, InferError> {
    let mut found = Vec::with_capacity(count);
    let mut fault = None;
    let mut seen = 0;
    let parsed = elements(text, |element| {
        match element {
            Element::Number(_) => {
                fault = Some("its data has a number; elements of BYTES are texts in base64".to_owned())
            }
            Element::Text(_) if seen >= count => {}
            Element::Text(text) => match BASE64_STANDARD.decode(text.as_bytes()) {
                Ok(file) => found.push(Bytes::from(file)),
                Err(error) => fault = Some(format!("element {seen} is not base64: {error}")),
            },
        }
        seen += 1;
        fault.is_none()
    });
    match fault.map_or(parsed, Err) {
        Err(why) => Err(invalid(why)),
        Ok(()) if seen != count => {
            Err(invalid(format!("its shape has {count} elements, but its data has {seen}")))
        }
        Ok(()) => Ok(found),
    }
}
