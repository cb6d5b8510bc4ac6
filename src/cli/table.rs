//! Tables and other values as text for people.

use console::measure_text_width;
use jiff::Timestamp;

use super::{CliError, Output, print, style};

/// Spaces between columns.
const GAP: usize = 2;

/// Prints a header and rows in columns.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
    output: Output,
) -> Result<(), CliError> {
    let is_colored = style::is_colored(output.color, &std::io::stdout());
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.chain([header[column].len()]).max().unwrap_or(0)
    });
    print(style::bold(&line(&header.map(str::to_owned), &widths), is_colored))?;
    rows.iter().try_for_each(|row| print(line(row, &widths)))
}

/// Prints names and values. Rows without a value are left out.
pub fn details(rows: &[(&str, Option<String>)]) -> Result<(), CliError> {
    let rows = rows.iter().filter_map(|(name, value)| Some([(*name).to_owned(), value.clone()?]));
    let rows: Vec<[String; 2]> = rows.collect();
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
    rows.iter().try_for_each(|row| print(line(row, &[width, 0])))
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', (width + GAP).saturating_sub(measure_text_width(cell))));
    }
    line.trim_end().to_owned()
}

/// Formats a fraction as a percentage.
pub fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// Formats a time in UTC, to the second.
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Returns a value, or a dash if there is none.
pub fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_on_the_screen() {
        let row = ["가나".to_owned(), "–".to_owned(), String::new()];
        assert_eq!(line(&row, &[5, 3, 4]), "가나   –");
        assert_eq!(moment(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00Z");
    }
}
