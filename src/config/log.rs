//! The filter of logs.

use tracing_subscriber::filter::{LevelFilter, Targets};

const RULE: &str = "must be a level (off, error, warn, info, debug, trace) or TARGET=LEVEL, or several with commas in between";

/// Parses a filter such as `info` or `chainrule=debug,warn`. A word that is not a level is refused, since as the name
/// of a target it would silence everything else.
pub fn log_filter(text: &str) -> Result<Targets, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let add = |filter: Targets, item: &&str| match item.split_once('=') {
        None => Some(filter.with_default(level(item)?)),
        Some((target, of)) if is_target(target) => Some(filter.with_target(target, level(of)?)),
        Some(_) => None,
    };
    let filter = items.iter().try_fold(Targets::new(), add);
    filter.filter(|_| !items.is_empty()).ok_or_else(|| RULE.to_owned())
}

fn level(text: &str) -> Option<LevelFilter> {
    // An empty text would parse as `error`.
    text.parse().ok().filter(|_| !text.is_empty())
}

/// Returns whether the text can be the path of a module.
fn is_target(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_level_for_everything_and_for_targets() {
        for (text, meant) in [
            ("info", "info"),
            (" info , ", "info"),
            ("WARN, chainrule=debug", "warn,chainrule=debug"),
            ("chainrule::http=off,3", "chainrule::http=off,info"),
        ] {
            assert_eq!(log_filter(text), Ok(meant.parse().expect("a filter")), "{text}");
        }
    }

    #[test]
    fn what_would_silence_everything_unasked_is_refused() {
        for text in ["", " ", ",", "inf", "info;warn", "*", "9", "a=b=c", "chainrule", "chainrule=", "=info"]
        {
            assert_eq!(log_filter(text), Err(RULE.to_owned()), "{text}");
        }
        for text in ["chainrule[span]=debug", "chainrule = debug", "chainrule=loud"] {
            assert_eq!(log_filter(text), Err(RULE.to_owned()), "{text}");
        }
    }
}
