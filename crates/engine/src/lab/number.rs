/// Formats a number with this many significant digits and U+2212 as minus sign.
pub fn number(value: f64, digits: usize) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&magnitude) => format!("{value:.*e}", digits - 1),
        _ => {
            let decimals = (digits as i32 - 1 - magnitude.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            let has_zeros = text.contains('.');
            if has_zeros { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    };
    text.replace('-', "−")
}

/// Significant digits of a factor.
pub const DIGITS: usize = 4;

/// Formats a factor of a product. A negative number is put in parentheses.
pub fn factor(value: f64) -> String {
    let text = number(value, DIGITS);
    if value < 0.0 { format!("({text})") } else { text }
}
