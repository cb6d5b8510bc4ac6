use clap::ValueEnum;

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless the environment forbids it.
    #[default]
    Auto,
    /// On terminals, files and pipes alike.
    Always,
    /// Not even on a terminal.
    Never,
}

impl ColorChoice {
    /// Returns whether a stream gets colour. The choice decides first, then `NO_COLOR`
    /// (<https://no-color.org>), then `CLICOLOR_FORCE`, then `TERM=dumb`, then whether the stream is a
    /// terminal.
    pub fn is_colored(self, is_terminal: bool) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if is_set("NO_COLOR") => false,
            Self::Auto if is_set("CLICOLOR_FORCE") => {
                std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0")
            }
            Self::Auto if std::env::var_os("TERM").is_some_and(|term| term == "dumb") => false,
            Self::Auto => is_terminal,
        }
    }
}
