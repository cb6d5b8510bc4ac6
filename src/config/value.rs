//! Parsers of the values of flags.

use std::net::SocketAddr;

use clap::builder::RangedU64ValueParser;

pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Returns the name of a host in lower case (RFC 9110, section 4.2.3).
pub fn host(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_name) {
        return Err("must be the name of a host without a port, such as example.org".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// Bytes of memory: 1 MiB, which the smallest server needs, to 1 TiB.
pub fn memory() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1 << 20..=1 << 40)
}

/// A count of at least 1.
pub fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1 << 32)
}

pub fn amount(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| *value > 0.0 && f64::is_finite(*value));
    value.ok_or_else(|| "must be a number above 0".to_owned())
}

pub fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=3600.0).contains(value));
    value.ok_or_else(|| "must be a number from 0 to 3600".to_owned())
}

pub fn lease_seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.2..=3600.0).contains(value));
    value.ok_or_else(|| "must be a number from 0.2 to 3600".to_owned())
}

pub fn upkeep_seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.1..=1e6).contains(value));
    value.ok_or_else(|| "must be a number from 0.1 to 1000000".to_owned())
}
