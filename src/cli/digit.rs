//! Digits drawn in a terminal: grey half blocks with colour, ASCII characters without.

use crate::data::IMAGE_SIDE;

/// Columns of a drawn digit. Lines are half as many.
pub const WIDTH: usize = IMAGE_SIDE / 2;

/// Characters from dark to bright.
const RAMP: &[u8] = b" .:-=+*#%@";

/// Draws a 28×28 image at half its size: [`WIDTH`] columns, 7 lines.
pub fn draw(pixels: &[u8], is_colored: bool) -> Vec<String> {
    let small = halve(pixels);
    small
        .chunks(2 * WIDTH)
        .map(|rows| {
            let (upper, lower) = rows.split_at(WIDTH);
            let cells = upper.iter().zip(lower);
            if is_colored {
                let cells: String = cells.map(|(&upper, &lower)| half_block(upper, lower)).collect();
                format!("{cells}\x1b[0m")
            } else {
                cells.map(|(&upper, &lower)| character(upper.midpoint(lower))).collect()
            }
        })
        .collect()
}

/// Averages each square of 2×2 pixels.
fn halve(pixels: &[u8]) -> Vec<u8> {
    let mean = |row: usize, column: usize| {
        let at = |r: usize, c: usize| u32::from(pixels[(2 * row + r) * IMAGE_SIDE + 2 * column + c]);
        ((at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4) as u8
    };
    (0..WIDTH * WIDTH).map(|index| mean(index / WIDTH, index % WIDTH)).collect()
}

/// Draws two pixels, one above the other, in the 24 greys of the 256-colour palette.
fn half_block(upper: u8, lower: u8) -> String {
    let grey = |pixel: u8| 232 + u32::from(pixel) * 23 / 255;
    format!("\x1b[38;5;{}m\x1b[48;5;{}m▀", grey(upper), grey(lower))
}

fn character(pixel: u8) -> char {
    char::from(RAMP[usize::from(pixel) * (RAMP.len() - 1) / 255])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bright_square_is_drawn_at_its_place() {
        let mut pixels = [0; IMAGE_SIDE * IMAGE_SIDE];
        for row in 0..4 {
            for column in 0..2 {
                pixels[row * IMAGE_SIDE + column] = 255;
            }
        }
        let lines = draw(&pixels, false);
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[0], format!("@{}", " ".repeat(WIDTH - 1)));
        assert!(lines[1..].iter().all(|line| line.trim().is_empty()));
        assert!(draw(&pixels, true)[0].contains("\x1b[38;5;255m"));
    }
}
