use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which ended jobs or old versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// The newest `n`.
    Newest(u64),
    /// Those younger than this age.
    Younger(Duration),
}

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "must be a count (1000), an age (90s, 30m, 12h or 30d) or all";
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(count) = text.parse() {
            return Ok(Self::Newest(count));
        }
        let unit = text.chars().last().ok_or(WANTED)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(WANTED),
        };
        let count: u32 = text[..text.len() - 1].parse().map_err(|_| WANTED)?;
        Ok(Self::Younger(Duration::from_secs(u64::from(count) * seconds)))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Newest(count) => write!(f, "{count}"),
            Self::Younger(age) => write!(f, "{}s", age.as_secs()),
        }
    }
}
