/// Four significant digits, with a true minus.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&magnitude) => format!("{value:.3e}"),
        _ => {
            let decimals = (3 - magnitude.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            }
        }
    };
    text.replace('-', "−")
}

/// A number in a product.
pub fn factor(value: f64) -> String {
    if value < 0.0 { format!("({})", number(value)) } else { number(value) }
}
