/// Significant digits of a displayed number.
const DIGITS: usize = 6;

/// The number as Rust prints it, without a trailing `.0`.
pub(super) fn plain(number: f64) -> String {
    let text = format!("{number:?}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The number with six significant digits, without trailing zeros, and with U+2212 as minus sign.
pub(super) fn short(number: f64) -> String {
    let scientific = format!("{number:.*e}", DIGITS - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let text = if (-4..DIGITS as i32).contains(&exponent) {
        trimmed(&format!("{number:.*}", (DIGITS as i32 - 1 - exponent) as usize)).to_owned()
    } else {
        format!("{}e{exponent}", trimmed(digits))
    };
    let text = if text == "-0" { "0".to_owned() } else { text };
    text.replace('-', "−")
}

/// `digits` without trailing zeros in its fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// The number if it is finite, with −0 as 0.
pub(super) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number + 0.0)
}
