//! The elements of a JSON array, whatever its nesting.

use std::borrow::Cow;

/// The deepest nesting that is accepted.
const DEPTH_MAX: usize = 100;

/// An element of a nested array.
#[derive(Clone, Debug, PartialEq)]
pub enum Element<'a> {
    /// A number. It is infinite if no 64-bit number is near it.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
}

/// Calls `each` for every element of a JSON array in order, until it returns false.
///
/// # Errors
/// Returns an error if the text is not an array, is nested too deep, or has elements of another kind.
pub fn elements<'a>(text: &'a [u8], mut each: impl FnMut(Element<'a>) -> bool) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(format!("its data is nested more than {DEPTH_MAX} deep"));
                }
            }
            b']' => depth = depth.saturating_sub(1),
            b',' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ if depth == 0 => break,
            b'"' => {
                let end = at + text_length(&text[at..]);
                let element = serde_json::from_slice(&text[at..end]);
                let element =
                    element.map_err(|error| format!("its data has a text that is not JSON: {error}"))?;
                if !each(Element::Text(element)) {
                    return Ok(());
                }
                at = end;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let end = at + number_length(&text[at..]);
                let number = std::str::from_utf8(&text[at..end]).ok().and_then(|number| number.parse().ok());
                let number = number.ok_or("its data has a number that is not JSON")?;
                if !each(Element::Number(number)) {
                    return Ok(());
                }
                at = end;
                continue;
            }
            other => return Err(format!("its data must be numbers or texts, not {}", kind(other))),
        }
        at += 1;
    }
    if at < text.len() || !text.contains(&b'[') {
        return Err("its data must be an array".to_owned());
    }
    Ok(())
}

fn kind(first: u8) -> &'static str {
    match first {
        b'{' => "an object",
        b'n' => "null",
        _ => "true or false",
    }
}

/// Returns the length of the number at the beginning of `text`.
fn number_length(text: &[u8]) -> usize {
    let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    text.iter().position(|byte| !is_number(byte)).unwrap_or(text.len())
}

/// Returns the length of the quoted text at the beginning of `text`.
fn text_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Vec<Element<'_>>, String> {
        let mut found = Vec::new();
        elements(text.as_bytes(), |element| {
            found.push(element);
            true
        })?;
        Ok(found)
    }

    #[test]
    fn any_nesting_is_flattened_in_order() {
        let numbers = [1.0, -2.5, 300.0].map(Element::Number).to_vec();
        for text in ["[1,-2.5,3e2]", " [ [1] , [ [-2.5], 300 ] ]\n", "[[],[1,-2.5],[[[3.0E+2]]]]"] {
            assert_eq!(found(text), Ok(numbers.clone()), "{text}");
        }
        let texts = ["a", "\"]", "é"].map(|text| Element::Text(text.into())).to_vec();
        assert_eq!(found(r#"["a",["\"]","\u00e9"]]"#), Ok(texts));
        assert_eq!(found("[]"), Ok(Vec::new()));
        assert_eq!(found("[1e999]"), Ok(vec![Element::Number(f64::INFINITY)]));
    }

    #[test]
    fn other_elements_and_deep_nesting_are_refused() {
        for (text, why) in [
            ("[true]", "true or false"),
            ("[1,null]", "null"),
            ("[{\"a\":[1]}]", "an object"),
            ("7", "must be an array"),
            ("\"x\"", "must be an array"),
            ("{}", "must be an array"),
        ] {
            assert!(found(text).expect_err(text).contains(why), "{text}: {:?}", found(text));
        }
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(found(&deep(100)), Ok(vec![Element::Number(1.0)]));
        assert!(found(&deep(101)).expect_err("too deep").contains("100 deep"));
        assert!(found(&deep(1_000_000)).is_err());
    }
}
