use std::io::IsTerminal;

use crate::config::ColorChoice;

/// Returns whether `stream` gets colour.
pub fn is_colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    choice.is_colored(stream.is_terminal())
}

/// Returns `text` in red.
pub fn red(text: &str, is_colored: bool) -> String {
    paint(text, "31", is_colored)
}

/// Returns `text` in green.
pub fn green(text: &str, is_colored: bool) -> String {
    paint(text, "32", is_colored)
}

/// Returns `text` in bold.
pub fn bold(text: &str, is_colored: bool) -> String {
    paint(text, "1", is_colored)
}

/// Returns `text` with the ANSI attribute `code` (ECMA-48, SGR).
fn paint(text: &str, code: &str, is_colored: bool) -> String {
    if is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
